//! What the ancestor leaves to the request in `main`: ids that end as the query says, and an id given by the query.

use std::collections::HashMap;

use axum::{
    Router,
    extract::{Query, Request},
    http::{HeaderValue, Uri, header::COOKIE},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cloakroom::{Result, SessionId};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{
    apps::{self, KEYS, TEST_COOKIE},
    bench::Bench,
};

const BASE64URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The length of the ancestor's ids: 24 random bytes.
const ID_CHARS: usize = 32;

/// Returns the value of an argument of the query.
pub(crate) fn query(uri: &Uri, name: &str) -> Option<String> {
    Query::<HashMap<String, String>>::try_from_uri(uri).ok()?.0.remove(name)
}

/// The ancestor's `genSid` with `?test_sid_append=`: routes behind a layer whose ids end so.
///
/// A layer declares the length of its ids, and does not show their generator the request. So such a request has a layer
/// of its own over the same store.
pub(crate) fn routes(name: &str, bench: &Bench, request: &Request) -> Option<Result<Router>> {
    let end = query(request.uri(), "test_sid_append").filter(|_| name == "main")?;
    let length = ID_CHARS + end.len();
    let generate = move || {
        let end = end.clone();
        async move { Ok(format!("{}{end}", &SessionId::generate()?.expose()[..ID_CHARS])) }
    };
    let layer = apps::configured(name, bench)
        .and_then(|builder| builder.generate_id(BASE64URL, length, generate).build());
    Some(layer.map(|layer| apps::routes(name, layer)))
}

/// The ancestor's `ctx.sessionId = ..` with `?force_session_id=`: presents that id in a signed cookie, as if the
/// browser had sent it. So the id takes the way of every other, through its form, its signature and the store.
pub(crate) fn present(name: &str, mut request: Request) -> Request {
    let forced = query(request.uri(), "force_session_id").filter(|_| name == "main");
    if let Some(pair) = forced.map(|id| format!("{TEST_COOKIE}={id}")) {
        let cookies = format!("{pair}; {TEST_COOKIE}.sig={}", signature(&pair));
        if let Ok(cookies) = HeaderValue::from_str(&cookies) {
            request.headers_mut().insert(COOKIE, cookies);
        }
    }
    request
}

/// Signs as Keygrip does, with the newest key.
fn signature(pair: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(KEYS[0].as_bytes()).expect("HMAC takes keys of any length");
    mac.update(pair.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}
