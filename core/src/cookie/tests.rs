//! What a browser makes of our `Set-Cookie`, every good and bad configuration, and what tampering and rotation do.

use http::{HeaderMap, HeaderValue, header::COOKIE};
use proptest::{
    prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};

use super::{
    Candidates, CookieCodec, CookieConfig, Lifetime, Priority, SameSite,
    read::{Candidate, ValueShape},
    split_prefix,
};
use crate::{ErrorKind, Keyring, SessionId, Ttl, ids::IdShape};

const DAY: u64 = 24 * 60 * 60;

fn id() -> SessionId {
    SessionId::parse(b"0123456789-abcdefghijklmnopqrstuvwxyz_ABCDE").unwrap()
}

fn keys(seeds: &[u8]) -> Keyring {
    Keyring::new(seeds.iter().map(|&seed| [seed; 32]))
}

fn build(config: &CookieConfig) -> CookieCodec {
    config.build(None, IdShape::NATIVE).unwrap()
}

fn request(lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

/// The value part of what the codec sets.
fn value_of(codec: &CookieCodec, id: &SessionId) -> String {
    let header = codec.set(id, Ttl::from_secs(60), None);
    let text = header.to_str().unwrap();
    text.split_once('=').unwrap().1.split(';').next().unwrap().to_owned()
}

/// What a browser keeps of a `Set-Cookie`.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    path: String,
    domain: Option<String>,
    same_site: Option<String>,
    secure: bool,
    http_only: bool,
    partitioned: bool,
    priority: Option<String>,
    /// Seconds from now; `None` ends with the browser.
    max_age: Option<i64>,
    expires: Option<String>,
}

/// A browser's reading of one `Set-Cookie` from `https`: RFC 6265bis, sections 5.6 and 5.7, and the rules for
/// `Partitioned` and the `Http-` prefixes; `None` if it drops the cookie.
fn browser(header: &HeaderValue) -> Option<Kept> {
    let bytes = header.as_bytes();
    if bytes.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.split(';');
    let wsp = [' ', '\t'];
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim_matches(wsp), value.trim_matches(wsp));
    if name.is_empty() || name.len() + value.len() > 4096 {
        return None;
    }
    let mut kept = Kept {
        name: name.to_owned(),
        value: value.to_owned(),
        path: "(default)".to_owned(),
        domain: None,
        same_site: None,
        secure: false,
        http_only: false,
        partitioned: false,
        priority: None,
        max_age: None,
        expires: None,
    };
    for part in parts {
        let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim_matches(wsp);
        if value.len() > 1024 {
            continue;
        }
        match attribute.trim_matches(wsp).to_ascii_lowercase().as_str() {
            "max-age" => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    kept.max_age = Some(value.parse::<i64>().unwrap_or(i64::MAX).min(400 * DAY as i64));
                }
            }
            "expires" => kept.expires = Some(value.to_owned()),
            "domain" => {
                let domain = value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase();
                kept.domain = (!domain.is_empty()).then_some(domain);
            }
            "path" if value.starts_with('/') => kept.path = value.to_owned(),
            "path" => kept.path = "(default)".to_owned(),
            "secure" => kept.secure = true,
            "httponly" => kept.http_only = true,
            "samesite" => kept.same_site = Some(value.to_owned()),
            "partitioned" => kept.partitioned = true,
            "priority" => kept.priority = Some(value.to_owned()),
            other => panic!("an attribute that nobody configured: {other}"),
        }
    }
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    let needs_secure = kept.partitioned
        || kept.same_site.as_deref() == Some("None")
        || ["__Secure-", "__Host-", "__Http-"].into_iter().any(begins);
    let needs_http_only = begins("__Http-") || begins("__Host-Http-");
    let needs_host = begins("__Host-");
    let keeps = (kept.secure || !needs_secure)
        && (kept.http_only || !needs_http_only)
        && !(needs_host && (kept.domain.is_some() || kept.path != "/"));
    keeps.then_some(kept)
}

#[test]
fn the_default_is_the_strictest_cookie() {
    let header = build(&CookieConfig::default()).set(&id(), Ttl::from_secs(3600), None);
    assert_eq!(
        header.to_str().unwrap(),
        format!("__Host-sid={}; Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=Lax", id().expose())
    );
    assert!(header.is_sensitive());
}

#[test]
fn every_option_is_in_the_header() {
    let config = CookieConfig::new()
        .name("__Secure-s")
        .path("/app")
        .domain(".Example.COM")
        .same_site(SameSite::None)
        .http_only(false)
        .partitioned(true)
        .priority(Priority::Low)
        .browser_session();
    assert_eq!(
        build(&config).set(&id(), Ttl::from_secs(3600), None).to_str().unwrap(),
        format!(
            "__Secure-s={}; Path=/app; Domain=example.com; Secure; SameSite=None; Partitioned; Priority=Low",
            id().expose()
        )
    );
    let plain = CookieConfig::new().insecure().same_site(SameSite::Strict);
    assert_eq!(
        build(&plain).set(&id(), Ttl::from_secs(1), None).to_str().unwrap(),
        format!("sid={}; Max-Age=1; Path=/; HttpOnly; SameSite=Strict", id().expose())
    );
}

#[test]
fn max_age_is_whole_seconds_rounded_up_and_400_days_at_most() {
    let codec = build(&CookieConfig::new());
    let table = [
        (Ttl::MIN, 1),
        (Ttl::from_millis(1000), 1),
        (Ttl::from_millis(1001), 2),
        (Ttl::from_secs(9), 9),
        (Ttl::from_secs(10), 10),
        (Ttl::from_secs(99_999), 99_999),
        (Ttl::from_secs(100_000), 100_000),
        (Ttl::from_secs(u64::MAX), 400 * DAY as i64),
    ];
    for (ttl, seconds) in table {
        let header = codec.set(&id(), ttl, None);
        assert!(header.to_str().unwrap().contains(&format!("; Max-Age={seconds}; ")));
        assert_eq!(browser(&header).unwrap().max_age, Some(seconds));
    }
}

#[test]
fn insecure_drops_prefix_and_secure_together_wherever_it_is_called() {
    for (name, sent) in [
        ("__Host-sid", "sid"),
        ("__hOST-sid", "sid"),
        ("__Secure-sid", "sid"),
        ("__Http-sid", "sid"),
        ("__Host-Http-sid", "sid"),
        ("__Host-__Secure-sid", "sid"),
        ("__Secure-__Host-Http-__Http-x", "x"),
        ("sid", "sid"),
        ("x__Host-sid", "x__Host-sid"),
    ] {
        for config in [CookieConfig::new().insecure().name(name), CookieConfig::new().name(name).insecure()] {
            let kept = browser(&build(&config).set(&id(), Ttl::from_secs(1), None)).unwrap();
            assert_eq!((kept.name.as_str(), kept.secure), (sent, false));
        }
    }
}

#[test]
fn every_good_configuration_is_built_and_every_bad_one_names_its_field() {
    let new = CookieConfig::new;
    let sid = || CookieConfig::new().name("sid");
    let label = "a".repeat(63);
    let host_253 = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let table: Vec<(CookieConfig, Option<(&str, &str)>)> = vec![
        (new(), None),
        // Names.
        (new().name("!#$%&'*+-.^_`|~09AZaz"), None),
        (new().name(""), Some(("cookie.name", "must not be empty"))),
        (new().name("__Host-"), Some(("cookie.name", "nor a prefix alone"))),
        (new().name("__secure-__HOST-"), Some(("cookie.name", "nor a prefix alone"))),
        (new().name("i d"), Some(("cookie.name", "must be a token"))),
        (new().name("id;x"), Some(("cookie.name", "must be a token"))),
        (new().name("id=x"), Some(("cookie.name", "must be a token"))),
        (new().name("id\r\nSet-Cookie: x"), Some(("cookie.name", "must be a token"))),
        (new().name("id,x"), Some(("cookie.name", "must be a token"))),
        (new().name("\"id\""), Some(("cookie.name", "must be a token"))),
        (new().name("séance"), Some(("cookie.name", "must be a token"))),
        (new().name("id\0"), Some(("cookie.name", "must be a token"))),
        (new().name("n".repeat(4096 - 43)), None),
        (new().name("n".repeat(4097 - 43)), Some(("cookie.name", "use at most 4053"))),
        // Prefixes and what they promise, in any case of letters.
        (new().name("__host-SID"), None),
        (new().name("__Host-sid").path("/app"), Some(("cookie.path", "`__Secure-…`"))),
        (new().name("__HOST-sid").path("/app"), Some(("cookie.path", "`__Secure-…`"))),
        (new().name("__hOsT-sid").domain("example.com"), Some(("cookie.domain", "`__Secure-…`"))),
        (new().name("__Host-Http-sid").domain("example.com"), Some(("cookie.domain", "`__Secure-…`"))),
        (new().name("__Host-sid").path("/x").domain("a.b").insecure(), None),
        (new().secure(false), Some(("cookie.secure", "call `insecure()` on the builder"))),
        (new().name("__secure-sid").secure(false), Some(("cookie.secure", "under a name with a prefix"))),
        (sid().secure(false), None),
        (new().secure(false).insecure(), None),
        (sid().secure(false).same_site(SameSite::None), Some(("cookie.same_site", "browsers drop it"))),
        (new().name("__Secure-sid").path("/app").domain("example.com"), None),
        (new().name("__Host-Http-sid").http_only(false), Some(("cookie.http_only", "leave it on"))),
        (new().name("__http-sid").http_only(false), Some(("cookie.http_only", "leave it on"))),
        (new().name("__Http-sid").path("/app").domain("a.b"), None),
        (new().http_only(false), None),
        // Paths.
        (sid().path("/"), None),
        (sid().path("/app/"), None),
        (sid().path("/a-._~%20!$&'()*+=:@/b"), None),
        (sid().path(format!("/{}", "p".repeat(1023))), None),
        (sid().path(format!("/{}", "p".repeat(1024))), Some(("cookie.path", "at most 1024"))),
        (sid().path(""), Some(("cookie.path", "must begin with `/`"))),
        (sid().path("app"), Some(("cookie.path", "must begin with `/`"))),
        (sid().path("*"), Some(("cookie.path", "must begin with `/`"))),
        (sid().path("/; Domain=evil.test"), Some(("cookie.path", "neither `;` nor `,`"))),
        (sid().path("/a,b"), Some(("cookie.path", "neither `;` nor `,`"))),
        (sid().path("/a b"), Some(("cookie.path", "as `%xx`"))),
        (sid().path("/a\r\nX: y"), Some(("cookie.path", "as `%xx`"))),
        (sid().path("/\u{7f}"), Some(("cookie.path", "as `%xx`"))),
        (sid().path("/ü"), Some(("cookie.path", "as `%xx`"))),
        (sid().path("/\"a\""), Some(("cookie.path", "as `%xx`"))),
        (sid().path("/a?b"), Some(("cookie.path", "without a query"))),
        (sid().path("/a#b"), Some(("cookie.path", "without a query"))),
        (sid().path("/a/../b"), Some(("cookie.path", "`..`"))),
        (sid().path("/."), Some(("cookie.path", "`..`"))),
        (sid().path("/.well-known/..."), None),
        // Domains.
        (sid().domain("example.com"), None),
        (sid().domain(".example.com"), None),
        (sid().domain("EXAMPLE.com"), None),
        (sid().domain("localhost"), None),
        (sid().domain("xn--bcher-kva.example"), None),
        (sid().domain("a_b.7.example"), None),
        (sid().domain(host_253.as_str()), None),
        (sid().domain(format!("{host_253}b")), Some(("cookie.domain", "253 bytes"))),
        (sid().domain(format!("a{label}.example")), Some(("cookie.domain", "1 to 63"))),
        (sid().domain(""), Some(("cookie.domain", "must not be empty"))),
        (sid().domain("."), Some(("cookie.domain", "must not be empty"))),
        (sid().domain("..example.com"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("example.com."), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("example..com"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("-a.example"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a-.example"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("*.example.com"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a.test; Path=/x"), Some(("cookie.domain", "without scheme"))),
        (sid().domain("a.test;Secure"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a.test,b.test"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a b.test"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a.test\r\n"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("a.test\0"), Some(("cookie.domain", "must be a host name"))),
        (sid().domain("bücher.example"), Some(("cookie.domain", "punycode"))),
        (sid().domain("https://example.com"), Some(("cookie.domain", "without scheme"))),
        (sid().domain("example.com:8080"), Some(("cookie.domain", "without scheme"))),
        (sid().domain("example.com/app"), Some(("cookie.domain", "without scheme"))),
        (sid().domain("127.0.0.1"), Some(("cookie.domain", "not an IP address"))),
        (sid().domain("[::1]"), Some(("cookie.domain", "for an IP address leave it out"))),
        // What needs `Secure`.
        (new().same_site(SameSite::None), None),
        (new().same_site(SameSite::None).insecure(), Some(("cookie.same_site", "or use `Lax`"))),
        (new().same_site(SameSite::Strict).insecure(), None),
        (new().partitioned(true), None),
        (new().partitioned(true).insecure(), Some(("cookie.partitioned", "remove `insecure()`"))),
    ];
    for (config, expected) in &table {
        match (config.build(None, IdShape::NATIVE), expected) {
            (Ok(codec), None) => assert!(browser(&codec.set(&id(), Ttl::MAX, None)).is_some(), "{config:?}"),
            (Err(error), Some((field, cure))) => {
                assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(*field)), "{config:?}");
                assert!(error.to_string().contains(cure), "{error}");
            }
            (built, _) => panic!("{config:?} gave {built:?}"),
        }
    }
}

#[test]
fn keys_are_checked_and_take_their_share_of_the_4096_bytes() {
    for bad in [&[][..], &[1, 1]] {
        let error = CookieConfig::new().build(Some(&keys(bad)), IdShape::NATIVE).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("keys")));
    }
    for (length, fits) in [(4095, true), (4096, true), (4097, false)] {
        let config = CookieConfig::new().name("n".repeat(length - 87));
        let built = config.build(Some(&keys(&[1])), IdShape::NATIVE);
        assert_eq!(built.is_ok(), fits);
        match built {
            Ok(codec) => {
                let kept = browser(&codec.set(&id(), Ttl::MAX, None)).unwrap();
                assert_eq!(kept.name.len() + kept.value.len(), length);
            }
            Err(error) => assert_eq!(error.field(), Some("cookie.name")),
        }
    }
}

#[test]
fn a_removal_names_the_same_cookie_with_the_same_attributes_and_no_value() {
    let sid = || CookieConfig::new().name("sid");
    for config in [
        CookieConfig::new(),
        CookieConfig::new().insecure(),
        CookieConfig::new().browser_session(),
        sid().path("/app").domain("example.com"),
        sid().same_site(SameSite::None).partitioned(true).http_only(false),
    ] {
        for keys in [None, Some(keys(&[1]))] {
            let codec = config.build(keys.as_ref(), IdShape::NATIVE).unwrap();
            let (set, removed) = (
                browser(&codec.set(&id(), Ttl::from_secs(60), None)).unwrap(),
                browser(&codec.remove(None)).unwrap(),
            );
            assert_eq!(removed.value, "");
            assert_eq!(removed.max_age, Some(0));
            assert_eq!(removed.expires.as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
            let same = Kept { value: set.value.clone(), max_age: set.max_age, expires: None, ..removed };
            assert_eq!(same, set);
        }
    }
}

#[test]
fn the_path_covers_whole_segments_only() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("/", &["/", "/app", "/x/y?z", "*", "", "example.com:443", "?q"], &[]),
        (
            "/app",
            &["/app", "/app/", "/app/x", "/app?q=/x", "/app#f"],
            &["/", "/apple", "/APP", "/ap", "/x/app", "*", "", "/?/app", "app", "//app"],
        ),
        ("/app/", &["/app/", "/app/x", "/app//"], &["/app", "/app?/", "/", "*"]),
        ("/a%20b", &["/a%20b", "/a%20b/c"], &["/a b", "/a%20bc"]),
    ];
    for (path, inside, outside) in table {
        let codec = build(&CookieConfig::new().name("sid").path(*path));
        for covered in *inside {
            assert!(codec.covers(covered), "{path} covers {covered}");
        }
        for other in *outside {
            assert!(!codec.covers(other), "{path} does not cover {other}");
        }
    }
}

#[test]
fn an_unsigned_cookie_reads_back_and_a_signed_one_is_not_ours_without_keys() {
    let (plain, signed) =
        (build(&CookieConfig::new()), CookieConfig::new().build(Some(&keys(&[1])), IdShape::NATIVE).unwrap());
    for (codec, other) in [(&plain, &signed), (&signed, &plain)] {
        let cookie = format!("__Host-sid={}", value_of(codec, &id()));
        let found = codec.read(&request(&[cookie.as_bytes()]));
        assert_eq!((found.len(), found.hostile()), (1, false));
        let ticket = codec.verify(found.iter().next().unwrap()).unwrap();
        assert_eq!((ticket.id, ticket.reissue), (id(), false));
        let found = other.read(&request(&[cookie.as_bytes()]));
        assert!(found.len() == 0 && found.hostile(), "no downgrade, no upgrade");
    }
}

/// Tells whether a codec takes this text as the value of its cookie, by way of a header and past it.
fn accepts(codec: &CookieCodec, value: &[u8]) -> bool {
    let candidates = HeaderValue::from_bytes(&[b"__Host-sid=", value].concat())
        .map_or_else(|_| Candidates::default(), |line| codec.read(&HeaderMap::from_iter([(COOKIE, line)])));
    let direct = [false, true]
        .into_iter()
        .filter_map(|signed| Candidate::new(value, &ValueShape { id: IdShape::NATIVE, signed }))
        .any(|candidate| codec.verify(&candidate).is_some());
    let read = candidates.iter().any(|candidate| codec.verify(candidate).is_some());
    assert!(!read || direct);
    direct
}

#[test]
fn every_flipped_bit_of_a_signed_cookie_is_refused() {
    let codec = CookieConfig::new().build(Some(&keys(&[1, 2])), IdShape::NATIVE).unwrap();
    let value = value_of(&codec, &id()).into_bytes();
    assert_eq!(value.len(), 87);
    assert!(accepts(&codec, &value));
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut flipped = value.clone();
            flipped[at] ^= 1 << bit;
            assert!(!accepts(&codec, &flipped), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_signed_cookie_is_refused_cut_lengthened_or_with_another_mark_or_half() {
    let codec = CookieConfig::new().build(Some(&keys(&[1])), IdShape::NATIVE).unwrap();
    let value = value_of(&codec, &id());
    for length in 0..value.len() {
        assert!(!accepts(&codec, &value.as_bytes()[..length]));
        assert!(!accepts(&codec, &value.as_bytes()[value.len() - length..]));
    }
    let other = value_of(&codec, &SessionId::generate().unwrap());
    for wrong in [
        format!("{value}A"),
        format!("{value}="),
        format!("A{value}"),
        value.replace('.', "-"),
        value.replace('.', ""),
        value.replace('.', ".."),
        format!("{}.{}", &value[..43], &other[44..]),
        format!("{}.{}", &value[44..], &value[..43]),
        format!("{}.{}", &value[..43], &value[..43]),
    ] {
        assert!(!accepts(&codec, wrong.as_bytes()), "{wrong}");
    }
}

#[test]
fn a_signature_made_for_another_cookie_name_is_refused() {
    let keys = keys(&[1]);
    let named = |name: &str| CookieConfig::new().name(name).build(Some(&keys), IdShape::NATIVE).unwrap();
    let value = value_of(&named("__Host-other"), &id());
    assert!(!accepts(&named("__Host-sid"), value.as_bytes()));
    assert!(!accepts(&named("__Host-sid"), value_of(&named("sid"), &id()).as_bytes()));
}

#[test]
fn keys_are_rotated_over_two_servers_without_one_logout() {
    let server = |seeds: &[u8]| CookieConfig::new().build(Some(&keys(seeds)), IdShape::NATIVE).unwrap();
    let take = |server: &CookieCodec, value: &str| {
        let cookie = format!("__Host-sid={value}");
        let found = server.read(&request(&[cookie.as_bytes()]));
        found.iter().find_map(|candidate| server.verify(candidate))
    };
    // Each step changes one of the two servers; a browser goes to both after each, and keeps what it is sent.
    let steps: [(&[u8], &[u8]); 9] = [
        (&[1], &[1]),
        (&[1, 2], &[1]),
        (&[1, 2], &[1, 2]),
        (&[2, 1], &[1, 2]),
        (&[2, 1], &[2, 1, 3]),
        (&[2, 1, 3], &[2, 1, 3]),
        (&[3, 2, 1], &[2, 1, 3]),
        (&[3, 2, 1], &[3, 2]),
        (&[3, 2], &[3]),
    ];
    let first = value_of(&server(&[1]), &id());
    let mut held = first.clone();
    for (a, b) in steps {
        for server in [server(a), server(b), server(a)] {
            let ticket = take(&server, &held).expect("nobody is logged out");
            assert_eq!(ticket.id, id());
            assert_eq!(ticket.reissue, value_of(&server, &id()) != held);
            if ticket.reissue {
                held = value_of(&server, &id());
            }
        }
    }
    assert!(take(&server(&[3, 2, 1]), &first).unwrap().reissue);
    assert!(take(&server(&[3, 2]), &first).is_none(), "a retired key signs nobody in");
}

#[test]
fn neither_codec_nor_ticket_nor_candidates_show_an_id() {
    let codec = CookieConfig::new().build(Some(&keys(&[1])), IdShape::NATIVE).unwrap();
    let cookie = format!("__Host-sid={}", value_of(&codec, &id()));
    let found = codec.read(&request(&[cookie.as_bytes()]));
    let candidate = found.iter().next().unwrap();
    let shown = format!(
        "{codec:?} {:?} {found:?} {candidate:?} {:?}",
        codec.verify(candidate).unwrap(),
        codec.set(&id(), Ttl::MAX, None)
    );
    assert!(!shown.contains(&id().expose()[..6]) && !shown.contains(&cookie[55..61]), "{shown}");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9_-]{1,12}",
        2 => "[ -~]{0,12}",
        1 => any::<String>(),
        1 => select(vec!["", " ", ";", "a; Secure", "a\r\nb", "a=b", "a,b", "\"a\"", "a\0", "é"])
            .prop_map(str::to_owned),
    ]
}

fn any_config() -> impl Strategy<Value = CookieConfig> {
    let case = any::<u16>();
    let prefix = select(vec!["", "", "__Host-", "__Secure-", "__Http-", "__Host-Http-", "__Secure-__Host-"]);
    let name = (prefix, case, any_text()).prop_map(|(prefix, case, rest)| {
        let prefix: String = prefix
            .chars()
            .enumerate()
            .map(|(at, c)| if case >> (at % 16) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        prefix + &rest
    });
    let path = prop_oneof![
        2 => Just("/".to_owned()),
        2 => "(/[a-z0-9._%-]{0,6}){1,4}",
        1 => any_text().prop_map(|text| format!("/{text}")),
        1 => any_text(),
        1 => (1020_usize..1030).prop_map(|length| format!("/{}", "p".repeat(length - 1))),
    ];
    let domain = prop_oneof![
        3 => Just(None),
        2 => "\\.?([a-zA-Z0-9-]{1,8}\\.){0,3}[a-zA-Z]{2,6}".prop_map(Some),
        1 => any_text().prop_map(Some),
        1 => "[a-z.:0-9/]{0,300}".prop_map(Some),
    ];
    let same_site = select(vec![Some(SameSite::Strict), Some(SameSite::Lax), Some(SameSite::None), None]);
    let priority = select(vec![Some(Priority::Low), Some(Priority::Medium), Some(Priority::High), None]);
    (name, path, domain, same_site, priority, any::<[bool; 5]>()).prop_map(
        |(
            name,
            path,
            domain,
            same_site,
            priority,
            [secure, insecure, http_only, partitioned, browser_session],
        )| {
            CookieConfig {
                name,
                path,
                domain,
                same_site,
                secure,
                insecure,
                http_only,
                partitioned,
                priority,
                lifetime: if browser_session { Lifetime::BrowserSession } else { Lifetime::Ttl },
                // That of a foreign profile, which no configuration can ask for.
                loose_name: false,
            }
        },
    )
}

const FIELDS: [&str; 7] = [
    "cookie.name",
    "cookie.path",
    "cookie.domain",
    "cookie.same_site",
    "cookie.http_only",
    "cookie.partitioned",
    "cookie.secure",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_configuration_is_refused_by_field_or_read_by_a_browser_as_it_was_written(
        config in any_config(), signed: bool, secs in 0_u64..(500 * DAY),
    ) {
        let keys = signed.then(|| keys(&[1]));
        let codec = match config.build(keys.as_ref(), IdShape::NATIVE) {
            Ok(codec) => codec,
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Config);
                prop_assert!(FIELDS.contains(&error.field().unwrap()), "{}", error);
                return Ok(());
            }
        };
        let lives = Ttl::from_secs(secs);
        let kept = browser(&codec.set(&id(), lives, None)).expect("a browser keeps it");
        let mut name = config.name.clone();
        if config.insecure {
            while let Some((_, rest)) = split_prefix(&name) {
                name = rest.to_owned();
            }
        }
        prop_assert_eq!(&kept, &Kept {
            name: name.clone(),
            value: value_of(&codec, &id()),
            path: config.path.clone(),
            domain: config.domain.as_deref().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase()),
            same_site: config.same_site.map(|same_site| same_site.as_str().to_owned()),
            secure: config.secure && !config.insecure,
            http_only: config.http_only,
            partitioned: config.partitioned,
            priority: config.priority.map(|priority| priority.as_str().to_owned()),
            max_age: (config.lifetime == Lifetime::Ttl).then_some(lives.secs_rounded_up() as i64),
            expires: None,
        });
        // What the browser keeps comes back and is ours, on the very path it was set for.
        let cookie = format!("{}={}", kept.name, kept.value);
        let found = codec.read(&request(&[cookie.as_bytes()]));
        prop_assert_eq!(found.iter().filter_map(|one| codec.verify(one)).map(|ticket| ticket.id).next(), Some(id()));
        prop_assert!(!found.hostile() && codec.covers(&config.path));
        let removed = browser(&codec.remove(None)).expect("a browser obeys the removal");
        prop_assert_eq!((removed.name, removed.path, removed.domain), (kept.name, kept.path, kept.domain));
    }
}
