// What every Node program of the tests answers: the same pages, whatever framework and store are beneath.
//
// `visit` has the session as a plain object, and what the framework calls a logout and a new id.
'use strict'

const pages = {
  '/login': ({ session, query }) => { session.user = query.user; return session.user },
  '/get': ({ session }) => JSON.stringify(session),
  '/add': ({ session, query }) => { session[query.k] = (session[query.k] || 0) + 1; return String(session[query.k]) },
  '/put': ({ session, query }) => { session[query.k] = JSON.parse(query.v); return 'ok' },
  '/drop': ({ session, query }) => { delete session[query.k]; return 'ok' },
  '/logout': async ({ logout }) => { await logout(); return 'out' },
  '/renew': async ({ renew, query }) => { const session = await renew(); session.user = query.user; return 'new' }
}

exports.answer = async (path, visit) => pages[path] ? pages[path](visit) : undefined

/** The secrets, the newest first. */
exports.secrets = process.env.SECRETS.split(',')

/** Says where the program listens, and ends it when the test that started it is gone. */
exports.listen = app => {
  const server = app.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`))
  process.stdin.resume().on('end', () => process.exit(0)).on('error', () => process.exit(0))
}
