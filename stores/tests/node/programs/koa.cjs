// A Koa program with koa-generic-session over Redis: REDIS_URL, SECRETS=new,old, and PREFIX.
'use strict'
const Koa = require('koa')
const session = require('koa-generic-session')
const redisStore = require('koa-redis')
const { answer, listen, secrets } = require('./pages.cjs')

const app = new Koa()
app.keys = secrets
app.use(session({ prefix: process.env.PREFIX, store: redisStore({ url: process.env.REDIS_URL }) }))
app.use(async ctx => {
  ctx.body = await answer(ctx.path, {
    session: ctx.session,
    query: ctx.query,
    logout: () => { ctx.session = null },
    renew: async () => { await ctx.regenerateSession(); return ctx.session }
  })
})
listen(app)
