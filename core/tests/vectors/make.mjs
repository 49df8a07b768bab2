// Makes node.json: what the real packages send and store, at a fixed time and with fixed ids.
//
//   npm install koa@2.16 koa-generic-session@2.3.1 koa-session@7.0.2 express@4 express-session@1.19   (anywhere)
//   NODE_PATH=<there>/node_modules node core/tests/vectors/make.mjs > core/tests/vectors/node.json
import http from 'node:http'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'

const NOW = Date.UTC(2026, 10, 23, 1, 43, 18, 514)
const RealDate = Date
globalThis.Date = class extends RealDate {
  constructor (...args) { args.length ? super(...args) : super(NOW) }
  static now () { return NOW }
}
const require = createRequire(resolve(process.env.NODE_PATH || 'node_modules', 'x.js'))
const Koa = require('koa'); const generic = require('koa-generic-session')
const koaSession = require('koa-session').default || require('koa-session').createSession; const express = require('express'); const expressSession = require('express-session')
const ID = 'ShAK2lyZHmzqINFmj32LqoG7PkHdtldy'
const OWN = '0123456789abcdef0123456789abcdef01234567'

/** Requests each path in turn with the cookies so far, and returns what was set each time. */
async function visit (listener, paths, secure) {
  // A proxy in front speaks TLS where cookies are to be secure, for else the packages refuse to set them.
  const proxied = secure ? { 'x-forwarded-proto': 'https' } : {}
  const server = http.createServer(listener).listen(0)
  const jar = {}; const answers = []
  for (const path of paths) {
    const cookie = Object.entries(jar).map(([name, value]) => `${name}=${value}`).join('; ')
    const got = await new Promise((resolve, reject) => {
      http.get({ port: server.address().port, path, headers: { cookie, ...proxied } }, r => { r.resume(); r.on('end', () => resolve(r)) }).on('error', reject)
    })
    if (got.statusCode >= 400) throw new Error(`${path}: ${got.statusCode}`)
    const set = got.headers['set-cookie'] || []
    for (const line of set) {
      const [name, ...value] = line.split(';')[0].split('=')
      jar[name] = value.join('=')
    }
    answers.push({ path, sent: cookie, set })
  }
  server.close()
  return answers
}

/** A store that notes what it is told. */
function rows () {
  const rows = {}; const log = []
  return {
    rows, log,
    async get (key) { return rows[key] && JSON.parse(rows[key]) },
    async set (key, value, ttl) { rows[key] = JSON.stringify(value); log.push({ op: 'set', key, row: rows[key], ttl: ttl ?? null }) },
    async destroy (key) { delete rows[key]; log.push({ op: 'destroy', key }) }
  }
}

async function koa (options, paths, keys = ['keys', 'keykeys']) {
  const app = new Koa(); const store = rows()
  app.keys = keys; app.proxy = true
  app.use(generic({ store, genSid: () => ID, ...options }))
  app.use(ctx => {
    if (ctx.path === '/inc') ctx.session.n = (ctx.session.n || 0) + 1
    if (ctx.path === '/odd') Object.assign(ctx.session, { text: 'ü\u2028"\\', half: '\ud800', nested: { a: [1, null, true] }, 7: 'first' })
    if (ctx.path === '/logout') ctx.session = null
    ctx.body = ''
  })
  const answers = await visit(app.callback(), paths, options.cookie?.secure)
  return { options, keys, answers, log: store.log }
}

class Rows extends expressSession.Store {
  constructor () { super(); this.rows = {}; this.log = [] }
  get (id, done) { done(null, this.rows[id] && JSON.parse(this.rows[id])) }
  set (id, session, done) { this.rows[id] = JSON.stringify(session); this.log.push({ op: 'set', key: id, row: this.rows[id] }); done() }
  touch (id, session, done) { this.log.push({ op: 'touch', key: id }); done() }
  destroy (id, done) { delete this.rows[id]; this.log.push({ op: 'destroy', key: id }); done() }
}

async function expressApp (options, paths, secret = ['s3cret', 'old']) {
  const app = express(); const store = new Rows()
  app.use(expressSession({ store, secret, genid: () => ID, resave: false, saveUninitialized: false, ...options }))
  app.use((req, res) => {
    if (req.path === '/inc') req.session.n = (req.session.n || 0) + 1
    if (req.path === '/odd') Object.assign(req.session, { text: 'ü\u2028"\\', half: '\ud800', nested: { a: [1, null, true] }, 7: 'first' })
    if (req.path === '/logout') return req.session.destroy(() => res.end())
    res.end()
  })
  const answers = await visit(app, paths, options.cookie?.secure)
  return { options, secret, answers, log: store.log }
}

async function koaCookie (options, paths, keys = ['keys', 'keykeys']) {
  const app = new Koa()
  app.keys = keys; app.proxy = true
  app.use(koaSession(options, app))
  app.use(ctx => {
    if (ctx.path === '/inc') ctx.session.n = (ctx.session.n || 0) + 1
    if (ctx.path === '/odd') Object.assign(ctx.session, { text: 'ü\u2028"\\', half: '\ud800', nested: { a: [1, null, true] } })
    if (ctx.path === '/logout') ctx.session = null
    ctx.body = ''
  })
  return { options, keys, answers: await visit(app.callback(), paths, options.secure) }
}

const all = ['/inc', '/read', '/inc', '/odd', '/logout']
const some = ['/inc', '/read', '/inc', '/logout']
const strict = { secure: true, sameSite: 'strict', maxAge: 3600000 }
const cross = { secure: true, sameSite: 'none', partitioned: true, maxAge: 3600000 }
const dated = { maxAge: 3600000, expires: new Date(NOW + 7200000) }
const vectors = {
  now: NOW,
  id: ID,
  own: OWN,
  koa: {
    default: await koa({}, all),
    browser: await koa({ cookie: { maxAge: null } }, all),
    shared: await koa({ cookie: { sameSite: 'lax', domain: 'example.com', maxAge: 3600000 } }, all),
    path: await koa({ key: 'shop.sid', prefix: 'shop:', cookie: { path: '/', httpOnly: false, maxAge: 1500 } }, all),
    rolling: await koa({ rolling: true }, ['/inc', '/read']),
    strict: await koa({ cookie: strict }, some),
    cross: await koa({ cookie: cross }, some),
    dated: await koa({ cookie: dated }, some),
    ttl: await koa({ ttl: 3600000 }, some),
    ttl_by: await koa({ ttl: session => session.n * 60000 }, some),
    empty: await koa({ allowEmpty: true }, ['/read', '/read', '/inc']),
    ids: await koa({ genSid: () => OWN }, some)
  },
  express: {
    default: await expressApp({}, all),
    lasting: await expressApp({ cookie: { maxAge: 3600000 } }, all),
    shared: await expressApp({ name: 'shop', cookie: { maxAge: 3600000, domain: 'example.com', sameSite: 'lax', httpOnly: false } }, all),
    rolling: await expressApp({ rolling: true, cookie: { maxAge: 3600000 } }, ['/inc', '/read']),
    strict: await expressApp({ proxy: true, cookie: strict }, some),
    cross: await expressApp({ proxy: true, cookie: cross }, some),
    priority: await expressApp({ cookie: { maxAge: 3600000, priority: 'high' } }, some),
    dated: await expressApp({ cookie: dated }, some),
    empty: await expressApp({ saveUninitialized: true }, ['/read', '/read', '/inc']),
    ids: await expressApp({ genid: () => OWN }, some)
  },
  koa_session: {
    default: await koaCookie({ maxAge: 86400000 }, all),
    browser: await koaCookie({ maxAge: 'session' }, all),
    shared: await koaCookie({ key: 'shop.sess', maxAge: 3600000, domain: 'example.com', sameSite: 'lax' }, all),
    rolling: await koaCookie({ maxAge: 3600000, rolling: true }, ['/inc', '/read']),
    unset: await koaCookie({}, some),
    strict: await koaCookie({ ...strict }, some),
    cross: await koaCookie({ ...cross }, some)
  }
}
console.log(JSON.stringify(vectors, null, 1))
process.exit(0)
