// The ancestor's behaviour over real HTTP, as a client that is no Rust program sees it.
//
//   BASE_URL=http://127.0.0.1:3000 node blackbox.mjs       Node 20 or later, no packages
//
// The address is that of examples/seed_server, just started. A line is printed for each rule; if one is broken, the exit
// code is 1.
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'

const { BASE_URL } = process.env
assert.ok(BASE_URL, 'BASE_URL is the address of the server')

const TEST_SID = 'koss:test_sid'
const SID = 'koa.sid'
const LONG_AGO = 'Thu, 01 Jan 1970 00:00:00 GMT'
const ID = /^[A-Za-z0-9_-]{32}$/

/** The signature of Keygrip. */
function signature (pair, key = 'keys') {
  return createHmac('sha1', key).update(pair).digest('base64url')
}

/** A `Cookie` header with an id, signed. */
function signed (name, id, key) {
  return `${name}=${id}; ${name}.sig=${signature(`${name}=${id}`, key)}`
}

/** One `Set-Cookie`, its attributes by their names in small letters. */
function parsed (line) {
  const [pair, ...rest] = line.split('; ')
  const split = text => { const at = text.indexOf('='); return at < 0 ? [text, true] : [text.slice(0, at), text.slice(at + 1)] }
  const [name, value] = split(pair)
  const attributes = Object.fromEntries(rest.map(split).map(([key, text]) => [key.toLowerCase(), text]))
  return { name, value, ...attributes, gone: attributes.expires === LONG_AGO }
}

/** What came back. */
class Answer {
  constructor (status, body, lines) {
    Object.assign(this, { status, body, cookies: lines.map(parsed) })
  }

  cookie (name) {
    const found = this.cookies.filter(cookie => cookie.name === name)
    assert.equal(found.length, 1, `one ${name} in ${JSON.stringify(this.cookies)}`)
    return found[0]
  }

  /** Both cookies of a session, live; returns its id. */
  gives (name = TEST_SID) {
    assert.equal(this.cookies.length, 2, JSON.stringify(this.cookies))
    const [id, sig] = [this.cookie(name), this.cookie(`${name}.sig`)]
    assert.ok(!id.gone && !sig.gone)
    assert.equal(sig.value, signature(`${name}=${id.value}`))
    return id.value
  }

  /** Both cookies of a session, taken back. */
  takesBack (name = TEST_SID) {
    assert.equal(this.cookies.length, 2, JSON.stringify(this.cookies))
    assert.ok(this.cookie(name).gone && this.cookie(`${name}.sig`).gone)
    return this
  }

  setsNothing () {
    assert.deepEqual(this.cookies, [])
    return this
  }
}

/** Somebody with a browser at one of the applications. */
class Visitor {
  constructor (app) {
    Object.assign(this, { app, jar: new Map() })
  }

  /** Goes there with the cookies of the jar, and keeps what is sent. */
  async get (path) {
    const answer = await this.send(path, [...this.jar].map(pair => pair.join('=')).join('; '))
    for (const { name, value, gone } of answer.cookies) gone ? this.jar.delete(name) : this.jar.set(name, value)
    return answer
  }

  /** Goes there with this `Cookie` header, and leaves the jar alone. */
  async send (path, cookie = '') {
    const headers = { 'x-app': this.app, ...(cookie && { cookie }) }
    const response = await fetch(new URL(path, BASE_URL), { headers, redirect: 'manual' })
    return new Answer(response.status, await response.text(), response.headers.getSetCookie())
  }

  /** Works a switch of the store. */
  async control (op, more = {}) {
    const answer = await this.send(`/__ctl?${new URLSearchParams({ op, ...more })}`)
    assert.equal(answer.status, 200, answer.body)
    return answer.body
  }

  /** The rows, and what was asked of the store since the last look. */
  async look () {
    const { rows, log } = JSON.parse(await this.control('dump'))
    return { rows, log: log.map(([operation]) => operation) }
  }

  another () {
    return new Visitor(this.app)
  }
}

const rules = []
const rule = (text, check) => rules.push({ text, check })

// What `main` and `defer` have in common: the one loads each session, the other when its handler asks.
for (const app of ['main', 'defer']) {
  const prefix = app === 'main' ? 'koss:test' : 'koa:sess:'

  rule(`${app}: each write counts on, under one id`, async () => {
    const visitor = new Visitor(app)
    const first = await visitor.get('/session/get')
    assert.equal(first.body, '1')
    const second = await visitor.get('/session/get')
    assert.equal(second.body, '2')
    assert.equal(second.gives(), first.gives())
  })

  rule(`${app}: somebody else begins at one`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    assert.equal((await visitor.another().get('/session/get')).body, '1')
  })

  rule(`${app}: who only reads is told nothing, and the store is asked once`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    await visitor.look()
    assert.equal((await visitor.get('/session/nothing')).setsNothing().body, '1')
    assert.deepEqual((await visitor.look()).log, ['get'])
  })

  rule(`${app}: a visitor's own cookie options stay with the session`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    const off = await visitor.get('/session/httponly')
    assert.equal(off.body, 'httpOnly: false')
    for (const cookie of off.cookies) assert.ok(!cookie.httponly && cookie.expires)
    const next = await visitor.get('/session/get')
    assert.equal(next.body, '2')
    assert.ok(!next.cookie(TEST_SID).httponly)
    const on = await visitor.get('/session/httponly')
    assert.equal(on.body, 'httpOnly: true')
    assert.ok(on.cookie(TEST_SID).httponly)
  })

  rule(`${app}: sessions are where the cookie's path is, up to a border`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    for (const path of ['/', '/wrongpath', '/sessionfoo', '/Session']) {
      assert.equal((await visitor.get(path)).setsNothing().body, 'no session', path)
    }
    for (const path of ['/session', '/session/x']) assert.equal((await visitor.get(path)).body, 'has session', path)
  })

  rule(`${app}: a logout drops the row, and the old cookie is worth nothing`, async () => {
    const visitor = new Visitor(app)
    const id = (await visitor.get('/session/get')).gives()
    const cookies = signed(TEST_SID, id)
    assert.equal((await visitor.get('/session/remove')).takesBack().body, '0')
    assert.ok(!(prefix + id in (await visitor.look()).rows))
    const after = await visitor.send('/session/get', cookies)
    assert.equal(after.body, '1')
    assert.notEqual(after.gives(), id)
  })

  rule(`${app}: what a logout takes back carries the cookie's own path`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    const { cookies } = await visitor.get('/session/remove')
    for (const { path, value, name } of cookies) {
      assert.equal(path, '/session')
      if (name === TEST_SID) assert.equal(value, '')
    }
  })

  rule(`${app}: a logout of nobody is fine`, async () => {
    const { status, body } = await new Visitor(app).get('/session/remove')
    assert.deepEqual([status, body], [200, '0'])
  })

  rule(`${app}: a session that is assigned whole is one row, has an end, and is there at the next request`, async () => {
    const visitor = new Visitor(app)
    await visitor.control('clear')
    const first = await visitor.get('/session/rewrite')
    assert.equal(JSON.parse(first.body).foo, 'bar')
    const rows = Object.entries((await visitor.look()).rows)
    assert.equal(rows.length, 1)
    const [[key, row]] = rows
    assert.ok(key.startsWith(prefix) && ID.test(key.slice(prefix.length)), key)
    assert.equal(row.value.foo, 'bar')
    assert.ok(row.ttl > 0)
    const second = await visitor.get('/session/get')
    assert.equal(second.gives(), first.gives())
  })

  rule(`${app}: a session that is assigned anew keeps its id, in one write`, async () => {
    const visitor = new Visitor(app)
    const id = (await visitor.get('/session/get')).gives()
    await visitor.look()
    assert.equal((await visitor.get('/session/rewrite')).gives(), id)
    assert.equal((await visitor.look()).log.filter(operation => operation === 'set').length, 1)
  })

  rule(`${app}: a regenerated session has a new id, no old data and no old row`, async () => {
    const visitor = new Visitor(app)
    const old = (await visitor.get('/session/get')).gives()
    const answer = await visitor.get('/session/regenerate')
    assert.notEqual(answer.body, old)
    assert.equal(answer.gives(), answer.body)
    const { rows } = await visitor.look()
    assert.ok(!(prefix + old in rows))
    const { value } = rows[prefix + answer.body]
    assert.deepEqual([value.data, 'count' in value], ['foo', false])
    assert.equal((await visitor.send('/session/get', signed(TEST_SID, old))).body, '1')
  })

  rule(`${app}: what was not saved does not outlive a regeneration`, async () => {
    const { body } = await new Visitor(app).get('/session/regenerateWithData')
    assert.deepEqual(JSON.parse(body), { hasSession: true })
  })

  rule(`${app}: a layer within a layer does nothing`, async () => {
    const visitor = new Visitor(app)
    await visitor.look()
    ;(await visitor.get('/session/get')).gives()
    assert.deepEqual((await visitor.look()).log, ['set'])
  })

  rule(`${app}: what is not there is 404`, async () => {
    assert.equal((await new Visitor(app).get('/favicon.ico')).status, 404)
  })

  rule(`${app}: an outage is an error after its window, and over when it is over`, async () => {
    const visitor = new Visitor(app)
    await visitor.get('/session/get')
    await visitor.control('disconnect')
    const { status, body, cookies } = await visitor.get('/session/get')
    await visitor.control('connect')
    assert.deepEqual([status, body, cookies], [500, 'session store is unavailable', []])
    assert.equal((await visitor.get('/session/nothing')).status, 200)
  })
}

rule('main: a first write gives a pair of cookies with these attributes', async () => {
  const answer = await new Visitor('main').get('/session/get')
  assert.match(answer.gives(), ID)
  assert.match(answer.cookie(`${TEST_SID}.sig`).value, /^[A-Za-z0-9_-]{27}$/)
  for (const cookie of answer.cookies) {
    assert.deepEqual([cookie.path, cookie.httponly], ['/session', true])
    const seconds = (Date.parse(cookie.expires) - Date.now()) / 1000
    assert.ok(Math.abs(seconds - 86.4) < 2, cookie.expires)
    assert.ok(!('secure' in cookie) && !('max-age' in cookie))
  }
})

rule('main: the row is under prefix and id, with the ttl of the options and what the hook adds', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/get')).gives()
  const { ttl, value } = (await visitor.look()).rows[`koss:test${id}`]
  assert.deepEqual([ttl, value.count, value.path], [1000, 1, '/session/get'])
})

rule('main: the hook before a save also sees a session that is assigned whole', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/rewrite')).gives()
  assert.equal((await visitor.look()).rows[`koss:test${id}`].value.path, '/session/rewrite')
})

rule('main: somebody else\'s cookie is nothing to us', async () => {
  const visitor = new Visitor('main')
  for (let i = 0; i < 2; i++) {
    assert.equal((await visitor.send('/session/get', 'koa.sid=s:abcdef.GhIjKlMnOpQrStUvWxYz; theme=dark')).body, '1')
  }
})

rule('main: a session that is not valid leaves the browser and stays in the store', async () => {
  const visitor = new Visitor('main')
  assert.equal((await visitor.get('/session/nothing?valid=false')).body, '')
  const id = (await visitor.get('/session/get')).gives()
  const cookies = signed(TEST_SID, id)
  assert.equal((await visitor.send('/session/nothing?valid=false', cookies)).takesBack().body, '')
  assert.ok(`koss:test${id}` in (await visitor.look()).rows)
  assert.equal((await visitor.send('/session/nothing', cookies)).body, '1')
})

rule('main: ids may be made by the application, for each request', async () => {
  assert.match((await new Visitor('main').get('/session/id?test_sid_append=test')).body, /^[A-Za-z0-9_-]{32}test$/)
})

rule('main: an id from the application takes a session over if there is one', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/get')).gives()
  const forced = async id => (await visitor.another().get(`/session/id?force_session_id=${id}`)).body
  assert.equal(await forced(id), id)
  assert.notEqual(await forced('nobodys'), 'nobodys')
})

rule('main: a handler that fails has saved its session', async () => {
  const visitor = new Visitor('main')
  const answer = await visitor.get('/session/get_error')
  assert.deepEqual([answer.status, answer.body], [500, 'oops'])
  answer.gives()
  assert.equal((await visitor.get('/session/get')).body, '2')
})

rule('main: who only looks around leaves no trace', async () => {
  const visitor = new Visitor('main')
  await visitor.look()
  assert.equal((await visitor.get('/session/notuse')).setsNothing().body, 'not touch session')
  assert.deepEqual((await visitor.look()).log, [])
})

rule('main: a wrong signature is taken back, and the store is not asked', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/get')).gives()
  await visitor.look()
  const wrong = await visitor.send('/session/notuse', `${TEST_SID}=${id}; ${TEST_SID}.sig=${'A'.repeat(27)}`)
  assert.deepEqual([wrong.cookie(`${TEST_SID}.sig`).gone, wrong.cookie(`${TEST_SID}.sig`).value], [true, ''])
  assert.deepEqual((await visitor.look()).log, [])
  const sig = signature(`${TEST_SID}=${id}`)
  assert.equal((await visitor.send('/session/get', `${TEST_SID}=${id}x; ${TEST_SID}.sig=${sig}`)).body, '1')
})

rule('main: an old key still opens, and the signature is renewed with path and end', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/get')).gives()
  const answer = await visitor.send('/session/nothing', signed(TEST_SID, id, 'keykeys'))
  assert.equal(answer.body, '1')
  const { value, path, expires, gone } = answer.cookie(`${TEST_SID}.sig`)
  assert.equal(value, signature(`${TEST_SID}=${id}`))
  assert.ok(path === '/session' && expires && !gone)
})

rule('main: cookies come in any order and company, and the first of a name counts', async () => {
  const visitor = new Visitor('main')
  const id = (await visitor.get('/session/get')).gives()
  const sig = signature(`${TEST_SID}=${id}`)
  for (const [cookies, body] of [
    [`a=b; ${TEST_SID}.sig=${sig};${TEST_SID}=${id}; z=1`, '1'],
    [`${TEST_SID}=${id}; ${TEST_SID}=other; ${TEST_SID}.sig=${sig}`, '1'],
    [`x${TEST_SID}=${id}; x${TEST_SID}.sig=${sig}`, '']
  ]) assert.equal((await visitor.send('/session/nothing', cookies)).body, body, cookies)
})

rule('main: a store that fails is an error, and nobody is logged out by it', async () => {
  const visitor = new Visitor('main')
  await visitor.get('/session/get')
  await visitor.control('fail', { method: 'get', msg: 'disk on fire' })
  const failed = await visitor.get('/session/get')
  await visitor.control('heal')
  assert.equal(failed.status, 500)
  failed.setsNothing()
  assert.equal((await visitor.get('/session/get')).body, '2')
})

rule('defer: what no handler asks for is not loaded', async () => {
  const visitor = new Visitor('defer')
  await visitor.get('/session/get')
  await visitor.look()
  assert.equal((await visitor.get('/session/notuse')).setsNothing().body, 'no session')
  assert.deepEqual((await visitor.look()).log, [])
})

rule('defer: without options the prefix is the usual one, and the row lives as long as the cookie', async () => {
  const visitor = new Visitor('defer')
  const id = (await visitor.get('/session/get')).gives()
  assert.equal((await visitor.look()).rows[`koa:sess:${id}`].ttl, 86400)
})

rule('plain: a row that another program wrote is a session', async () => {
  const visitor = new Visitor('plain')
  const id = 'x'.repeat(32)
  const value = JSON.stringify({ n: 7, cookie: { path: '/', httpOnly: true, overwrite: true, signed: true, maxAge: 60000 } })
  await visitor.control('put', { key: `koa:sess:${id}`, value })
  const answer = await visitor.send('/inc', signed(SID, id))
  assert.equal(answer.gives(SID), id)
  assert.equal((await visitor.look()).rows[`koa:sess:${id}`].value.n, 8)
})

rule('override: the handler decides whether a session is saved', async () => {
  const visitor = new Visitor('override')
  assert.equal((await visitor.get('/session/update')).body, '1, null')
  for (const [action, body, tells] of [
    ['update', '2, null', true],
    ['update/prevent', '3, false', false],
    ['read/force', '2, true', true],
    ['remove/prevent', '0, false', false],
    ['read', '2, null', false],
    ['remove/force', '0, true', true],
    ['read', '0, null', true]
  ]) {
    const answer = await visitor.get(`/session/${action}`)
    assert.deepEqual([answer.body, answer.cookies.length > 0], [body, tells], action)
  }
})

rule('rolling: each write counts on, and a logout ends it', async () => {
  const visitor = new Visitor('rolling')
  assert.equal((await visitor.get('/session/get')).body, '1')
  assert.equal((await visitor.get('/session/get')).body, '2')
  await visitor.get('/session/remove')
  assert.equal((await visitor.get('/session/get')).body, '1')
})

rule('rolling: a request that only reads renews cookie and row', async () => {
  const visitor = new Visitor('rolling')
  const id = (await visitor.get('/session/get')).gives()
  await visitor.look()
  assert.equal((await visitor.get('/session/nothing')).gives(), id)
  assert.equal((await visitor.look()).log.filter(operation => operation !== 'get').length, 1)
})

rule('rolling: who has no session gets none', async () => {
  (await new Visitor('rolling').get('/session/nothing')).setsNothing()
})

/** Sessions of some applications live for a second: what failed that slowly may be the machine, and is tried again. */
async function kept (check) {
  for (let tries = 1; ; tries++) {
    const start = performance.now()
    try {
      return await check()
    } catch (error) {
      if (performance.now() - start < 900 || tries === 5) throw error
    }
  }
}

let broken = 0
for (const { text, check } of rules) {
  try {
    await kept(check)
    console.log(`kept    ${text}`)
  } catch (error) {
    broken++
    console.log(`BROKEN  ${text}\n        ${String(error.message).replaceAll('\n', '\n        ')}`)
  }
}
console.log(`${rules.length - broken} rules kept, ${broken} broken`)
process.exitCode = broken ? 1 : 0
