//! What a session adds to a response's headers, and how it is merged with what the handler put there.

use std::fmt;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, Entry, SET_COOKIE, VARY},
};
use smallvec::SmallVec;

/// What a response with a session cookie says to caches where the handler said nothing.
const PRIVATE: &str = "private, no-cache=\"Set-Cookie\"";

/// What replaces a `Cache-Control` that cannot be read for certain.
const UNREADABLE: &str = "no-store";

/// The changes a session makes to the response's headers; a framework adapter applies them once the handler is done.
///
/// - **`Set-Cookie`** is appended. Cookies that the handler or an inner layer set stay as they are and stay before
///   it, also one of the same name: browsers process them in order, so of two with the same name, domain and path
///   the session's wins. A handler that wants the session's cookie gone ends the session instead.
/// - **`Cache-Control`**, only with a cookie: gets `private` and `no-cache="Set-Cookie"`, so that no shared cache
///   keeps a response that logs somebody in, and no cache plays the cookie back unasked (RFC 9111, sections 5.2.2.4,
///   5.2.2.7 and 7.3). Nothing is weakened: `no-store` and other directives stay. `public` and `s-maxage` go, and so
///   do the headers that speak to one kind of cache over the head of `Cache-Control`: `CDN-Cache-Control` and its
///   like (RFC 9213) and `Surrogate-Control`. A `Cache-Control` with broken quotes, which two caches may read in two
///   ways, becomes `no-store`.
/// - **`Vary: Cookie`** whenever the session was read or a cookie is sent, unless it is there already.
///
/// `Debug` shows how many cookies there are, never what is in them.
#[derive(Default)]
pub struct HeaderEdits {
    cookies: SmallVec<[HeaderValue; 1]>,
    /// Headers of other transports that hold an id: at most one in practice.
    secrets: Vec<(HeaderName, HeaderValue)>,
    /// The response depends on the request's cookies.
    varies_on_cookie: bool,
    /// It depends on another header of the request.
    vary: Option<HeaderName>,
}

impl HeaderEdits {
    /// Returns whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty() && self.secrets.is_empty() && !self.varies_on_cookie && self.vary.is_none()
    }

    /// Applies the changes to a response's headers.
    pub fn apply(self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        if !self.cookies.is_empty() {
            if let Some(merged) = merge_cache_control(headers.get_all(CACHE_CONTROL).iter()) {
                headers.insert(CACHE_CONTROL, merged);
            }
            remove_targeted(headers);
        }
        // A cookie makes the response depend on cookies, whether or not the session was read.
        let cookie = (self.varies_on_cookie || !self.cookies.is_empty()).then_some(COOKIE);
        for cookie in self.cookies {
            headers.append(SET_COOKIE, cookie);
        }
        if !self.secrets.is_empty() {
            // No cache can be told to leave out just this header, so none may keep the response.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            remove_targeted(headers);
        }
        for (name, value) in self.secrets {
            headers.insert(name, value);
        }
        for vary in cookie.into_iter().chain(self.vary) {
            match headers.entry(VARY) {
                Entry::Vacant(there) => {
                    there.insert(named(vary));
                }
                Entry::Occupied(mut there) => {
                    if !there.iter().any(|line| names(line, &vary)) {
                        there.append(named(vary));
                    }
                }
            }
        }
    }

    /// Sets a response header that holds an id, in place of any that is there. No cache may keep such a response.
    ///
    /// A value that cannot stand in a header is left out: ids always can.
    pub fn set_secret_header(&mut self, name: HeaderName, value: &str) {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            self.secrets.push((name, value));
        }
    }

    /// Adds a `Set-Cookie`, after those of the handler and those added before: for a [`Transport`](crate::Transport)
    /// of several cookies, or of one that looks otherwise than ours. Caches are told as they are of the session's own.
    pub fn append_cookie(&mut self, mut value: HeaderValue) {
        value.set_sensitive(true);
        self.cookies.push(value);
    }

    /// Notes that the response depends on the request's cookies, because the session was read.
    pub(crate) fn vary_on_cookie(&mut self) {
        self.varies_on_cookie = true;
    }

    /// Notes that the response depends on another header of the request as well, if there is a name.
    pub(crate) fn vary_on(&mut self, name: Option<HeaderName>) {
        self.vary = name.or_else(|| self.vary.take());
    }

    /// Adds a `Set-Cookie`, after those already added.
    pub(crate) fn set_cookie(&mut self, value: HeaderValue) {
        self.cookies.push(value);
    }
}

/// Shows how many cookies are set, never what is in them.
impl fmt::Debug for HeaderEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderEdits")
            .field("cookies", &self.cookies.len())
            .field("secrets", &self.secrets.len())
            .field("vary", &!self.is_empty())
            .finish()
    }
}

/// Returns a header's name as a value, the usual one in its usual spelling and without a copy.
fn named(name: HeaderName) -> HeaderValue {
    if name == COOKIE { HeaderValue::from_static("Cookie") } else { HeaderValue::from(name) }
}

/// Tells whether a line of `Vary` names the header or `*` (RFC 9110, section 12.5.5).
fn names(line: &HeaderValue, name: &HeaderName) -> bool {
    line.as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|field| field == b"*" || field.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Takes out the headers that a CDN or a reverse proxy obeys instead of `Cache-Control`.
fn remove_targeted(headers: &mut HeaderMap) {
    let targeted: SmallVec<[HeaderName; 2]> = headers
        .keys()
        .filter(|name| name.as_str().ends_with("-cache-control") || name.as_str() == "surrogate-control")
        .cloned()
        .collect();
    for name in targeted {
        headers.remove(name);
    }
}

/// Returns the `Cache-Control` that goes with a session cookie, given the lines that are there; `None` if they already
/// say enough.
fn merge_cache_control<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let mut merge = Merge::default();
    let mut empty = true;
    for line in lines {
        empty = false;
        if !directives(line.as_bytes(), |directive| merge.add(directive)) {
            return Some(HeaderValue::from_static(UNREADABLE));
        }
    }
    if empty {
        return Some(HeaderValue::from_static(PRIVATE));
    }
    if merge.says_enough() {
        return None;
    }
    // Made of parts of header values, so it is one; if that were wrong, the strictest answer is the right one.
    Some(HeaderValue::try_from(merge.finish()).unwrap_or(HeaderValue::from_static(UNREADABLE)))
}

/// The directives of a response, sorted by what they mean for a response with a session cookie.
#[derive(Default)]
struct Merge<'a> {
    /// Every directive that stays as it is.
    others: Vec<&'a [u8]>,
    /// The fields that a `no-cache="…"` names.
    uncached_fields: Vec<&'a [u8]>,
    private: bool,
    no_cache: bool,
    no_store: bool,
    must_understand: bool,
    /// Whether something must go.
    too_open: bool,
}

impl<'a> Merge<'a> {
    fn add(&mut self, directive: &'a [u8]) {
        let mut parts = directive.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (name, argument) = (parts.next().unwrap_or_default(), parts.next());
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"public") || is(b"s-maxage") {
            self.too_open = true;
        } else if is(b"private") {
            // `private="field"` keeps one field private and leaves the rest to shared caches.
            self.private |= argument.is_none();
        } else if is(b"no-cache") {
            match argument {
                None => self.no_cache = true,
                Some(fields) => self.uncached_fields.extend(
                    fields
                        .split(|&byte| matches!(byte, b',' | b'"'))
                        .map(<[u8]>::trim_ascii)
                        .filter(|field| !field.is_empty()),
                ),
            }
        } else {
            // With an argument it is another directive to some caches.
            self.no_store |= is(b"no-store") && argument.is_none();
            // Lets a cache that knows the status code disregard `no-store` (RFC 9111, section 5.2.2.3).
            self.must_understand |= is(b"must-understand");
            self.others.push(directive);
        }
    }

    fn says_enough(&self) -> bool {
        let closed = self.private && (self.no_cache || self.uncached_fields.iter().any(is_set_cookie));
        let unstored = self.no_store && !self.must_understand;
        !self.too_open && (closed || unstored)
    }

    fn finish(self) -> Vec<u8> {
        // Ours come first, so that nothing odd behind them can swallow them.
        let mut line = b"private, no-cache".to_vec();
        if !self.no_cache {
            line.extend_from_slice(b"=\"Set-Cookie");
            for field in self.uncached_fields.iter().filter(|field| !is_set_cookie(field)) {
                line.extend_from_slice(b", ");
                line.extend_from_slice(field);
            }
            line.push(b'"');
        }
        for directive in self.others {
            line.extend_from_slice(b", ");
            line.extend_from_slice(directive);
        }
        line
    }
}

fn is_set_cookie(field: &&[u8]) -> bool {
    field.eq_ignore_ascii_case(SET_COOKIE.as_str().as_bytes())
}

/// Gives the directives of one line to `each`; `false` if its quotes are such that two readers may see different ones:
/// one that is not closed, one that stands elsewhere than right behind a `=`, or an escape between two of them.
fn directives<'a>(line: &'a [u8], mut each: impl FnMut(&'a [u8])) -> bool {
    let (mut start, mut quoted) = (0, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'"' if !quoted && (at == 0 || line[at - 1] != b'=') => return false,
            b'"' => quoted = !quoted,
            b'\\' if quoted => return false,
            b',' if !quoted => {
                each_unless_empty(&line[start..at], &mut each);
                start = at + 1;
            }
            _ => {}
        }
    }
    each_unless_empty(&line[start..], &mut each);
    !quoted
}

fn each_unless_empty<'a>(directive: &'a [u8], each: &mut impl FnMut(&'a [u8])) {
    let directive = directive.trim_ascii();
    if !directive.is_empty() {
        each(directive);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;

    const COOKIE_LINE: &str = "__Host-sid=canary; Secure";

    fn edits(cookie: bool, read: bool) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if cookie {
            edits.set_cookie(HeaderValue::from_static(COOKIE_LINE));
        }
        if read {
            edits.vary_on_cookie();
        }
        edits
    }

    fn response(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn an_untouched_session_changes_no_header() {
        let mut headers = response(&[("cache-control", "public"), ("cdn-cache-control", "max-age=1")]);
        let before = headers.clone();
        assert!(edits(false, false).is_empty());
        edits(false, false).apply(&mut headers);
        assert_eq!(headers, before);
    }

    #[test]
    fn a_session_that_was_only_read_varies_on_the_cookie_and_leaves_caching_alone() {
        let mut headers =
            response(&[("cache-control", "public, max-age=60"), ("cdn-cache-control", "max-age=1")]);
        let edits = edits(false, true);
        assert!(!edits.is_empty());
        edits.apply(&mut headers);
        assert_eq!(lines(&headers, &VARY), ["Cookie"]);
        assert_eq!(lines(&headers, &CACHE_CONTROL), ["public, max-age=60"]);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn a_cookie_makes_the_response_private_and_never_less_than_it_was() {
        let table: &[(&[&str], &[&str])] = &[
            (&[], &[PRIVATE]),
            (&[""], &[PRIVATE]),
            (&[" , ,"], &[PRIVATE]),
            // What is strict already stays, byte for byte.
            (&["no-store"], &["no-store"]),
            (&["No-Store, max-age=0"], &["No-Store, max-age=0"]),
            (&["max-age=0", "no-store"], &["max-age=0", "no-store"]),
            (&["private, no-cache"], &["private, no-cache"]),
            (&["Private", "no-cache=\"Set-Cookie\""], &["Private", "no-cache=\"Set-Cookie\""]),
            (&["private,no-cache=set-cookie"], &["private,no-cache=set-cookie"]),
            (&["private, no-cache=\"X-A, SET-COOKIE\""], &["private, no-cache=\"X-A, SET-COOKIE\""]),
            // What is missing is added, once.
            (&["private"], &["private, no-cache=\"Set-Cookie\""]),
            (&["private="], &["private, no-cache=\"Set-Cookie\""]),
            (&["no-store="], &["private, no-cache=\"Set-Cookie\", no-store="]),
            (&["PRIVATE, private, max-age=60"], &["private, no-cache=\"Set-Cookie\", max-age=60"]),
            (&["no-cache"], &["private, no-cache"]),
            (&["no-cache, no-cache=\"X-A\""], &["private, no-cache"]),
            (&["no-cache=\"X-A , X-B\""], &["private, no-cache=\"Set-Cookie, X-A, X-B\""]),
            (&["no-cache=X-A", "no-cache=\"set-cookie\""], &["private, no-cache=\"Set-Cookie, X-A\""]),
            (&["no-cache=\"\""], &["private, no-cache=\"Set-Cookie\""]),
            (
                &["max-age=60, must-revalidate"],
                &["private, no-cache=\"Set-Cookie\", max-age=60, must-revalidate"],
            ),
            (&["max-age=60", "immutable"], &["private, no-cache=\"Set-Cookie\", max-age=60, immutable"]),
            (&["ext=\"a, public\""], &["private, no-cache=\"Set-Cookie\", ext=\"a, public\""]),
            // What lets shared caches in goes, however it is written.
            (&["public"], &["private, no-cache=\"Set-Cookie\""]),
            (&["PUBLIC , S-MaxAge=600"], &["private, no-cache=\"Set-Cookie\""]),
            (&["s-maxage = 600, max-age=60"], &["private, no-cache=\"Set-Cookie\", max-age=60"]),
            (&["s-maxage=\"600\""], &["private, no-cache=\"Set-Cookie\""]),
            (&["private, no-cache", "public"], &["private, no-cache"]),
            (&["private=\"X-A\", max-age=60"], &["private, no-cache=\"Set-Cookie\", max-age=60"]),
            (&["public, no-store"], &["private, no-cache=\"Set-Cookie\", no-store"]),
            (
                &["no-store, must-understand"],
                &["private, no-cache=\"Set-Cookie\", no-store, must-understand"],
            ),
            // What two caches may read in two ways is not kept at all.
            (&["max-age=60, ext=\"a"], &["no-store"]),
            (&["ext=\"a\\\", public, b=\""], &["no-store"]),
            (&["ext\"a, public, b\""], &["no-store"]),
            (&["\"", "private"], &["no-store"]),
        ];
        for (before, after) in table {
            let mut headers = HeaderMap::new();
            for line in *before {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            edits(true, false).apply(&mut headers);
            assert_eq!(lines(&headers, &CACHE_CONTROL), *after, "{before:?}");
            // Doing it again changes nothing: layers may be nested.
            edits(true, true).apply(&mut headers);
            assert_eq!(lines(&headers, &CACHE_CONTROL), *after, "{before:?}, twice");
        }
    }

    #[test]
    fn a_cookie_silences_the_headers_that_overrule_cache_control() {
        let mut headers = response(&[
            ("cdn-cache-control", "public, max-age=600"),
            ("vendor-cdn-cache-control", "max-age=600"),
            ("surrogate-control", "max-age=600"),
            ("x-cache", "MISS"),
        ]);
        edits(true, false).apply(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "set-cookie", "vary", "x-cache"]);
    }

    #[test]
    fn vary_names_the_cookie_exactly_once() {
        let table: &[(&[&str], &[&str])] = &[
            (&[], &["Cookie"]),
            (&["Cookie"], &["Cookie"]),
            (&["cOOKIE"], &["cOOKIE"]),
            (&["Accept-Encoding, cookie"], &["Accept-Encoding, cookie"]),
            (
                &["Accept", "Origin ,\tCookie , Accept-Language"],
                &["Accept", "Origin ,\tCookie , Accept-Language"],
            ),
            (&["*"], &["*"]),
            (&["Accept, *"], &["Accept, *"]),
            (&["Accept-Encoding"], &["Accept-Encoding", "Cookie"]),
            (&["Set-Cookie, X-Cookie, Cookie2"], &["Set-Cookie, X-Cookie, Cookie2", "Cookie"]),
            (&[""], &["", "Cookie"]),
        ];
        for (before, after) in table {
            for (cookie, read) in [(true, false), (false, true), (true, true)] {
                let mut headers = HeaderMap::new();
                for line in *before {
                    headers.append(VARY, HeaderValue::from_static(line));
                }
                edits(cookie, read).apply(&mut headers);
                assert_eq!(lines(&headers, &VARY), *after);
            }
        }
    }

    #[test]
    fn cookies_of_others_stay_and_stay_first() {
        let mut headers =
            response(&[("set-cookie", "theme=dark"), ("set-cookie", "__Host-sid=the handler's")]);
        let mut edits = edits(true, true);
        edits.set_cookie(HeaderValue::from_static("old=; Max-Age=0"));
        edits.apply(&mut headers);
        assert_eq!(
            lines(&headers, &SET_COOKIE),
            ["theme=dark", "__Host-sid=the handler's", COOKIE_LINE, "old=; Max-Age=0"]
        );
    }

    #[test]
    fn debug_shows_no_cookie() {
        let shown = format!("{:?}", edits(true, false));
        assert_eq!(shown, "HeaderEdits { cookies: 1, secrets: 0, vary: true }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_cache_control_panics_or_leaves_the_response_open(
            line in "[ -~]{0,60}|([a-z-]{0,3}(public|private|no-cache|no-store|s-maxage|=|,|\"| |\\\\)){0,8}",
        ) {
            let mut headers = response(&[("cache-control", &line)]);
            edits(true, false).apply(&mut headers);
            let all = lines(&headers, &CACHE_CONTROL).join(",").to_ascii_lowercase();
            // A reader that knows nothing of quotes sees one of the two as well.
            let naive: Vec<_> = all.split(',').map(str::trim).collect();
            prop_assert!(naive.contains(&"private") || naive.contains(&"no-store"), "{}", all);
        }
    }

    /// A shared cache as careless as the standard lets it be: it keeps everything it is not told to leave, and plays
    /// it back to whoever agrees in the headers that `Vary` names.
    #[derive(Default)]
    struct SharedCache(Vec<(HashMap<String, String>, HeaderMap, String)>);

    impl SharedCache {
        fn fetch(
            &mut self,
            cookie: &str,
            origin: impl Fn(&str) -> (HeaderMap, String),
        ) -> (HeaderMap, String) {
            let kept = self.0.iter().find(|(vary, ..)| vary.get("cookie").is_none_or(|kept| kept == cookie));
            if let Some((_, headers, body)) = kept {
                return (headers.clone(), body.clone());
            }
            let (headers, body) = origin(cookie);
            let control = lines(&headers, &CACHE_CONTROL).join(", ").to_ascii_lowercase();
            let told = |directive: &str| control.split(',').any(|each| each.trim() == directive);
            let vary: HashMap<_, _> = lines(&headers, &VARY)
                .iter()
                .flat_map(|line| line.split(','))
                .map(|field| (field.trim().to_ascii_lowercase(), cookie.to_owned()))
                .collect();
            if !(told("private") || told("no-store") || vary.contains_key("*")) {
                self.0.push((vary, headers.clone(), body.clone()));
            }
            (headers, body)
        }
    }

    #[test]
    fn behind_a_shared_cache_nobody_gets_anothers_cookie_or_page() {
        let said =
            ["", "public, max-age=600", "s-maxage=600", "max-age=600", "no-cache=\"X-A\", public", "ext=\"a"];
        for (said, renews) in said.iter().flat_map(|said| [(said, false), (said, true)]) {
            let origin = |cookie: &str| {
                let mut headers = response(&[("cache-control", said), ("vary", "Accept-Encoding")]);
                let mut edits = edits(false, true);
                if renews {
                    edits.set_cookie(HeaderValue::from_str(cookie).unwrap());
                }
                edits.apply(&mut headers);
                (headers, format!("page of {cookie}"))
            };
            let mut cache = SharedCache::default();
            for user in ["sid=alice", "sid=bob", "sid=alice", "", "sid=carol"] {
                let (headers, body) = cache.fetch(user, origin);
                assert_eq!(body, format!("page of {user}"), "{said}");
                assert!(lines(&headers, &SET_COOKIE).iter().all(|cookie| cookie == user), "{said}");
            }
            assert!(!renews || cache.0.is_empty(), "no response with a session cookie is kept");
        }
    }
}
