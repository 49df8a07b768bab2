// An Express program with express-session: SECRETS=new,old, and a store.
// STORE=redis: REDIS_URL, PREFIX. STORE=postgres: POSTGRES_URL, TABLE. STORE=mongo: MONGO_URL, DATABASE.
'use strict'
const express = require('express')
const session = require('express-session')
const { answer, listen, secrets } = require('./pages.cjs')

const stores = {
  redis: async () => {
    const client = require('redis').createClient({ url: process.env.REDIS_URL })
    client.on('error', () => {})
    await client.connect()
    const { RedisStore } = require('connect-redis')
    return new RedisStore({ client, prefix: process.env.PREFIX })
  },
  postgres: async () => {
    const { Pool } = require('pg')
    const pool = new Pool({ connectionString: process.env.POSTGRES_URL, max: 2 })
    const PgStore = require('connect-pg-simple')(session)
    return new PgStore({ pool, tableName: process.env.TABLE, createTableIfMissing: true, pruneSessionInterval: false })
  },
  mongo: async () => {
    const { MongoStore } = require('connect-mongo')
    return MongoStore.create({ mongoUrl: process.env.MONGO_URL, dbName: process.env.DATABASE })
  }
}

const promised = (object, method) => new Promise((resolve, reject) => {
  object[method](error => error ? reject(error) : resolve())
})

async function main () {
  const app = express()
  const store = await stores[process.env.STORE]()
  // Some make their table when they are first asked.
  await new Promise((resolve, reject) => store.get('nobody', error => error ? reject(error) : resolve()))
  app.use(session({
    secret: secrets,
    store,
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: 3600000 }
  }))
  app.use(async (req, res, next) => {
    try {
      const body = await answer(req.path, {
        session: req.session,
        query: req.query,
        logout: () => promised(req.session, 'destroy'),
        renew: async () => { await promised(req.session, 'regenerate'); return req.session }
      })
      if (body === undefined) return next()
      res.type('text').send(body)
    } catch (error) {
      next(error)
    }
  })
  listen(app)
}

main()
