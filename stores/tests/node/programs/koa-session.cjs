// A Koa program with koa-session, which keeps the session in the cookie: SECRETS=new,old.
'use strict'
const Koa = require('koa')
const { createSession } = require('koa-session')
const { answer, listen, secrets } = require('./pages.cjs')

const app = new Koa()
app.keys = secrets
app.use(createSession(app))
app.use(async ctx => {
  ctx.body = await answer(ctx.path, {
    session: ctx.session,
    query: ctx.query,
    logout: () => { ctx.session = null },
    renew: async () => { await ctx.session.regenerate(); return ctx.session }
  })
})
listen(app)
