// A Koa program with koa-generic-session: SECRETS=new,old, PREFIX, and a store.
// STORE=redis: REDIS_URL. STORE=postgres: POSTGRES_URL, TABLE. STORE=mysql: MYSQL_URL. STORE=sqlite: FILE.
// STORE=mongo: MONGO_URL, DATABASE.
'use strict'
const { once } = require('node:events')
const co = require('co')
const Koa = require('koa')
const session = require('koa-generic-session')
const { answer, listen, secrets } = require('./pages.cjs')

/** Makes promises of the generators that stores of koa-generic-session 1 have, which version 2 does not run. */
const promised = store => Object.assign(Object.create(store), {
  get: id => co(store.get(id)),
  set: (id, session, ttl) => co(store.set(id, session, ttl)),
  destroy: id => co(store.destroy(id))
})

/** Hands out what koa-generic-session-mongo calls of mongodb 2, over mongodb 6: version 2 reaches no server of today. */
const likeMongodb2 = db => ({
  dropDatabase () { throw new Error('only looked for, to tell a database from options') },
  collection (name) {
    const collection = db.collection(name)
    const told = (outcome, done) => { outcome.then(result => done(null, result), done) }
    return {
      ensureIndex: (keys, options, done) => told(collection.createIndex(keys, options), done),
      findOne: (query, projection, done) => told(collection.findOne(query, { projection }), done),
      update: (query, document, options, done) => told(collection.replaceOne(query, document, options), done),
      remove: (query, done) => told(collection.deleteMany(query), done)
    }
  }
})

const stores = {
  redis: async () => require('koa-redis')({ url: process.env.REDIS_URL }),
  postgres: async () => {
    const { Pool } = require('pg')
    const pool = new Pool({ connectionString: process.env.POSTGRES_URL, max: 2 })
    const PgStore = require('koa-pg-session')
    // Its own driver is older than this Node; a function in place of that is one of its options.
    const query = (sql, values) => pool.query(sql, values).then(({ rows }) => rows)
    const store = new PgStore(query, { table: process.env.TABLE })
    await store.setup()
    return promised(store)
  },
  mysql: async () => {
    const MysqlStore = require('koa-mysql-session')
    return promised(new MysqlStore(`${process.env.MYSQL_URL}?charset=utf8mb4`))
  },
  sqlite: async () => {
    const SqliteStore = require('koa-sqlite3-session')
    const store = new SqliteStore(process.env.FILE)
    // As docs/from-node.md advises who shares the file: otherwise it gives up at once when it meets another writer.
    store.__db.configure('busyTimeout', 4000)
    await store.__query('PRAGMA journal_mode = WAL', [])
    return store
  },
  mongo: async () => {
    const { MongoClient } = require('mongodb')
    const client = await new MongoClient(process.env.MONGO_URL).connect()
    const MongoStore = require('koa-generic-session-mongo')
    const store = new MongoStore({ db: likeMongodb2(client.db(process.env.DATABASE)) })
    await once(store, 'connect')
    return promised(store)
  }
}

/** Waits until the store has made its table, which some begin to do and never say when it is done. */
async function opened (store, tries = 100) {
  try {
    await store.get('nobody')
    return store
  } catch (error) {
    if (tries === 0) throw error
    await new Promise(resolve => setTimeout(resolve, 50))
    return opened(store, tries - 1)
  }
}

async function main () {
  const app = new Koa()
  app.keys = secrets
  const store = await opened(await stores[process.env.STORE]())
  app.use(session({ prefix: process.env.PREFIX, store }))
  app.use(async ctx => {
    ctx.body = await answer(ctx.path, {
      session: ctx.session,
      query: ctx.query,
      logout: () => { ctx.session = null },
      renew: async () => { await ctx.regenerateSession(); return ctx.session }
    })
  })
  listen(app)
}

main()
