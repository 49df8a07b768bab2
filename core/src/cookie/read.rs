//! Finds the values of one cookie in a request's headers: no jar, bounded work.

use std::{fmt, slice};

use http::{HeaderMap, header::COOKIE};
use memchr::memchr;
use smallvec::SmallVec;

use crate::{
    ids::{IdShape, MAX_ID_CHARS},
    keyring::TAG_CHARS,
};

/// How much of a request's cookies is looked at, in bytes. Browsers send at most some 180 cookies of 4 KiB to a host,
/// and servers commonly take 8 to 64 KiB of headers.
pub(crate) const MAX_COOKIE_BYTES: usize = 64 * 1024;

/// How many cookies of a request are looked at: what Chrome keeps for one site.
pub(crate) const MAX_PAIRS: usize = 180;

/// How many different values under our name are tried. More than one is normal where paths or domains overlap; a
/// crowd of them is somebody's attempt to make each request cost many lookups.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// Stands between an id and its signature. Not in the alphabet of either.
pub(super) const TAG_MARK: u8 = b'.';

/// The longest value there can be: id, mark, signature.
const MAX_VALUE_CHARS: usize = MAX_ID_CHARS + 1 + TAG_CHARS;

/// What every value of this cookie looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueShape {
    pub(super) id: IdShape,
    pub(super) signed: bool,
}

impl ValueShape {
    pub(super) const fn length(&self) -> usize {
        self.id.length() + if self.signed { 1 + TAG_CHARS } else { 0 }
    }

    fn fits(&self, value: &[u8]) -> bool {
        let Some((id, rest)) = value.split_at_checked(self.id.length()) else { return false };
        self.id.fits(id)
            && match rest.split_first() {
                None => !self.signed,
                Some((&mark, tag)) => {
                    let base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                    self.signed && mark == TAG_MARK && tag.len() == TAG_CHARS && tag.iter().all(base64url)
                }
            }
    }
}

/// A value that has the length and the alphabet of ours, and nothing more to its credit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    text: [u8; MAX_VALUE_CHARS],
    length: u8,
}

impl Candidate {
    /// Creates a candidate if `value` could be one of this shape.
    pub(super) fn new(value: &[u8], shape: &ValueShape) -> Option<Self> {
        if !shape.fits(value) {
            return None;
        }
        let mut text = [0; MAX_VALUE_CHARS];
        text.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self { text, length: u8::try_from(value.len()).ok()? })
    }

    /// Returns the value as it came in, without quotes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

/// Shows the length: the content may be an id.
impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate({} bytes)", self.length)
    }
}

/// The values of a request that could be ours: at most four, each once, in the order they came.
///
/// One, which is what nearly all requests have, is held inline; every request makes room for it.
///
/// Browsers commonly send the cookie with the longest path first, but no server should rely on it (RFC 6265bis,
/// section 4.2.2), so all of them are tried.
#[derive(Clone, Default)]
pub(crate) struct Candidates {
    kept: SmallVec<[Candidate; 1]>,
    /// What a cookie of another format said, value by value: these are of any length and alphabet.
    foreign: Option<Box<[Box<[u8]>]>>,
    hostile: bool,
}

impl Candidates {
    /// Makes the one candidate of another format, of as many values as its form reads.
    pub(crate) fn foreign(values: Box<[Box<[u8]>]>) -> Self {
        Self { foreign: Some(values), ..Self::default() }
    }

    /// Returns the values of [`foreign`](Self::foreign).
    pub(crate) fn foreign_values(&self) -> Option<&[Box<[u8]>]> {
        self.foreign.as_deref()
    }

    /// Returns how many there are, at most four.
    pub(crate) fn len(&self) -> usize {
        self.kept.len() + usize::from(self.foreign.is_some())
    }

    /// Returns the candidate at `at`, of the native form.
    pub(crate) fn get(&self, at: usize) -> Option<&Candidate> {
        self.kept.get(at)
    }

    /// Yields the candidates in the order they came.
    pub(crate) fn iter(&self) -> slice::Iter<'_, Candidate> {
        self.kept.iter()
    }

    /// Tells whether something was there that no browser we have given a cookie to sends by itself: a malformed value
    /// under our name, more than four different ones, or more cookies than are looked at. Worth an event, no more.
    pub(crate) fn hostile(&self) -> bool {
        self.hostile
    }

    /// Takes an id that came otherwise than in a cookie.
    pub(crate) fn offer(&mut self, id: &[u8], shape: &IdShape) {
        self.take(id, &ValueShape { id: *shape, signed: false });
    }

    fn take(&mut self, value: &[u8], shape: &ValueShape) {
        match Candidate::new(value, shape) {
            Some(candidate) if self.kept.contains(&candidate) => {}
            Some(candidate) if self.kept.len() < MAX_CANDIDATES => self.kept.push(candidate),
            _ => self.hostile = true,
        }
    }
}

impl<'a> IntoIterator for &'a Candidates {
    type Item = &'a Candidate;
    type IntoIter = slice::Iter<'a, Candidate>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Shows how many there are.
impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.len();
        // Neither kind shows what it holds.
        write!(f, "Candidates({kept} kept{})", if self.hostile { ", hostile" } else { "" })
    }
}

/// Collects the values of the cookie `name` that have the right shape, from all `Cookie` headers together.
///
/// The syntax is that of RFC 6265bis, section 4.2.1, read leniently: pairs between `;`, spaces and tabs around names
/// and values, one pair of double quotes around a value. Nothing is percent-decoded.
pub(super) fn scan(headers: &HeaderMap, name: &[u8], shape: &ValueShape) -> Candidates {
    let mut found = Candidates::default();
    let whole = each_pair(headers, |pair| {
        if let Some(value) = value_of(pair, name) {
            found.take(value, shape);
        }
    });
    found.hostile |= !whole;
    found
}

/// Returns the first value of each of the cookies `names`, as it stands in the request.
pub(crate) fn first_values<const N: usize>(headers: &HeaderMap, names: [&str; N]) -> [Option<Box<[u8]>>; N] {
    let mut found = [const { None }; N];
    each_pair(headers, |pair| {
        for (name, found) in names.iter().zip(&mut found) {
            if found.is_none() {
                *found = value_of(pair, name.as_bytes()).map(Box::from);
            }
        }
    });
    found
}

/// Yields each pair of all `Cookie` headers together; `false` if there are more than are looked at.
fn each_pair(headers: &HeaderMap, mut each: impl FnMut(&[u8])) -> bool {
    let (mut bytes_left, mut pairs_left) = (MAX_COOKIE_BYTES, MAX_PAIRS);
    // HTTP/2 and 3 may split the cookies over several headers (RFC 9113, section 8.2.3).
    for header in headers.get_all(COOKIE) {
        let mut rest = header.as_bytes();
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(bytes_left)];
            let end = memchr(b';', window).unwrap_or(window.len());
            // A pair that the limit cuts in two is not looked at: half a value could pass for a whole one.
            let cut = end == window.len() && end < rest.len();
            let pair = trim_start(&rest[..end]);
            if cut || (pairs_left == 0 && !pair.is_empty()) {
                return false;
            }
            if !pair.is_empty() {
                pairs_left -= 1;
                each(pair);
            }
            let used = rest.len().min(end + 1);
            bytes_left -= used;
            rest = &rest[used..];
        }
    }
    true
}

/// Returns the value in `pair` if it is called `name`.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = trim_start(pair.strip_prefix(name)?).strip_prefix(b"=")?;
    let value = trim_end(trim_start(value));
    Some(match value {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    })
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::{
        collection::vec,
        prelude::{ProptestConfig, Strategy as _, any, prop_assert, prop_assert_eq, proptest},
    };

    use super::*;
    use crate::id::ID_CHARS;

    const UNSIGNED: ValueShape = ValueShape { id: IdShape::NATIVE, signed: false };
    const SIGNED: ValueShape = ValueShape { id: IdShape::NATIVE, signed: true };

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn id(letter: char) -> String {
        letter.to_string().repeat(ID_CHARS)
    }

    fn read(lines: &[impl AsRef<[u8]>]) -> Candidates {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        scan(&headers, b"sid", &UNSIGNED)
    }

    /// The kept values as text, and whether there was something hostile.
    fn seen(lines: &[impl AsRef<[u8]>]) -> (Vec<String>, bool) {
        let found = read(lines);
        let kept = found.iter().map(|one| String::from_utf8(one.as_bytes().to_vec()).unwrap()).collect();
        (kept, found.hostile())
    }

    #[test]
    fn our_cookie_is_found_wherever_it_stands() {
        for line in [
            format!("sid={A}"),
            format!("sid={A}; a=1; b=2"),
            format!("a=1; sid={A}; b=2"),
            format!("a=1; b=2; sid={A}"),
            format!("a=1;sid={A};b=2"),
            format!("a=1;\t sid={A} \t;b=2"),
            format!("  sid={A};"),
            format!(";;; ;sid={A};;"),
            format!("sid = {A}"),
            format!("sid=\"{A}\""),
            format!("sid= \"{A}\" ;"),
            format!("flag; =x; =; a==; sid={A}"),
            format!("a=\"sid=x; sid={A}; b=\"\""),
            format!("sid={A}; sid={A}; sid=\"{A}\""),
        ] {
            assert_eq!(seen(&[&line]), (vec![A.to_owned()], false), "{line}");
        }
    }

    #[test]
    fn cookies_split_over_several_headers_are_read_together() {
        assert_eq!(seen(&["a=1", &format!("sid={A}"), "b=2"]), (vec![A.to_owned()], false));
        assert_eq!(
            seen(&[format!("sid={}", id('B')), String::new(), format!("sid={A}")]),
            (vec![id('B'), A.to_owned()], false)
        );
    }

    #[test]
    fn a_cookie_of_another_name_is_not_ours() {
        for line in [
            "",
            ";",
            "=",
            "sid",
            "sid;",
            "SID=x",
            "Sid=x",
            "xsid=x",
            "sid2=x",
            "sid.sig=x",
            "a=sid=x",
            "si d=x",
            "\"sid\"=x",
            "__Host-sid=x",
            "%73id=x",
            "sid\u{a0}=x",
            "$sid=x",
            "=sid=x",
        ] {
            let line = line.replace('x', A);
            assert_eq!(seen(&[&line]), (vec![], false), "{line}");
        }
    }

    #[test]
    fn a_malformed_value_is_dropped_and_noticed() {
        for value in [
            "",
            "\"\"",
            "\"",
            "x",
            &A[1..],
            &format!("{A}A"),
            &format!("\"{A}"),
            &format!("{A}\""),
            &format!("\"\"{A}\"\""),
            &format!("'{A}'"),
            &format!("={}", &A[1..]),
            &format!("{}=", &A[1..]),
            &format!("{}%41", &A[3..]),
            &format!("{}+", &A[1..]),
            &format!("{}/", &A[1..]),
            &format!("{}.", &A[1..]),
            &format!("{} {}", &A[..21], &A[..21]),
            &format!("{},{}", &A[..21], &A[..21]),
            &format!("{}\u{e9}", &A[2..]),
            &format!("{A}.{A}"),
        ] {
            assert_eq!(seen(&[format!("sid={value}")]), (vec![], true), "{value}");
            assert_eq!(seen(&[format!("sid={value}; sid={A}")]), (vec![A.to_owned()], true), "{value}");
        }
    }

    #[test]
    fn a_signed_value_has_one_mark_in_one_place() {
        let good = format!("{A}.{A}");
        assert!(Candidate::new(good.as_bytes(), &SIGNED).is_some());
        for at in 0..SIGNED.length() {
            let mut moved = good.clone().into_bytes();
            moved[ID_CHARS] = b'A';
            moved[at] = b'.';
            assert_eq!(Candidate::new(&moved, &SIGNED).is_some(), at == ID_CHARS);
        }
    }

    #[test]
    fn at_most_four_different_values_are_tried_in_their_order() {
        let line =
            |letters: &str| letters.chars().map(|each| format!("sid={}; ", id(each))).collect::<String>();
        assert_eq!(seen(&[line("DCBA")]).0, ["D", "C", "B", "A"].map(|each| each.repeat(ID_CHARS)));
        assert_eq!(
            seen(&[line("ABCD")]),
            (["A", "B", "C", "D"].map(|each| each.repeat(ID_CHARS)).to_vec(), false)
        );
        assert_eq!(
            seen(&[line("AABBCCDDAA")]),
            (["A", "B", "C", "D"].map(|each| each.repeat(ID_CHARS)).to_vec(), false)
        );
        assert_eq!(
            seen(&[line("ABCDE")]),
            (["A", "B", "C", "D"].map(|each| each.repeat(ID_CHARS)).to_vec(), true)
        );
        assert!(
            !read(&[line("AA")]).kept.spilled(),
            "one value, as browsers send it, is not put on the heap"
        );
        assert_eq!(
            read(&[line("ABCDE")]).kept.capacity(),
            MAX_CANDIDATES,
            "and of several no more than four"
        );
    }

    #[test]
    fn no_more_than_180_cookies_are_looked_at() {
        let others = |count: usize| "a=1; ".repeat(count);
        assert_eq!(seen(&[format!("{}sid={A}", others(MAX_PAIRS - 1))]), (vec![A.to_owned()], false));
        assert_eq!(seen(&[format!("{}sid={A}", others(MAX_PAIRS))]), (vec![], true));
        assert_eq!(seen(&[others(100), format!("{}sid={A}", others(80))]), (vec![], true));
        assert_eq!(seen(&[format!("{} ;; sid={A}", others(MAX_PAIRS - 1))]), (vec![A.to_owned()], false));
    }

    #[test]
    fn no_more_than_64_kib_are_looked_at_and_half_a_value_never_passes() {
        let cookie = format!("sid={A}");
        for (before, found) in [(0, true), (1, true), (2, false), (40, false), (MAX_COOKIE_BYTES, false)] {
            let padding = "a".repeat(MAX_COOKIE_BYTES - cookie.len() - 2 + before);
            let (kept, hostile) = seen(&[format!("{padding};{cookie}")]);
            assert_eq!((kept.len() == 1, hostile), (found, !found), "{before}");
            let (kept, hostile) = seen(&[&format!("{padding};"), &cookie]);
            assert_eq!((kept.len() == 1, hostile), (found, !found), "{before}, in two headers");
        }
        // The limit falls right behind what would be a whole value, but is the first half of a longer one.
        let padding = "a".repeat(MAX_COOKIE_BYTES - cookie.len() - 1);
        assert_eq!(seen(&[format!("{padding};{cookie}A")]), (vec![], true));
        let padding = &padding[1..];
        assert_eq!(seen(&[format!("{padding};{cookie};")]), (vec![A.to_owned()], false));
    }

    #[test]
    fn a_header_of_a_mebibyte_is_bounded_work() {
        for pattern in ["a", ";", " ", "\t", "sid=", "sid=x;", "=", "\"", "sid=\"", "sid ", "a=1;"] {
            let line = pattern.repeat((1 << 20) / pattern.len());
            let found = read(&[&line]);
            assert!(found.len() == 0 && found.hostile(), "{pattern}");
            // What stands behind the limit is not looked at, so the work does not grow with it.
            let behind = read(&[format!("{line}; sid={A}")]);
            assert!(behind.len() == 0 && behind.hostile(), "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn byte_soup_never_panics_and_yields_only_well_formed_values(
            lines in vec(vec(any::<u8>().prop_map(|byte| {
                // What a header may not hold never gets here.
                if HeaderValue::from_bytes(&[byte]).is_ok() { byte } else { b';' }
            }), 0..400), 0..4),
        ) {
            check(&lines)?;
        }

        #[test]
        fn hostile_pairs_yield_only_well_formed_values(
            lines in vec("((sid|sid |si|a)?=?\"?([A-Za-z0-9_-]{42,44}|[A-D]{1}.{0,3})?\"?[;, \t.]{0,2}){0,12}", 0..4),
        ) {
            let printable = |line: &String| line.replace(|c: char| c.is_control(), "").into_bytes();
            let lines: Vec<_> = lines.iter().map(printable).collect();
            check(&lines)?;
        }
    }

    /// Compares with a reader that is plainly right and slow.
    fn check(lines: &[Vec<u8>]) -> Result<(), proptest::test_runner::TestCaseError> {
        let found = read(lines);
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for pair in lines.iter().flat_map(|line| line.split(|&byte| byte == b';')) {
            let text: String = pair.iter().map(|&byte| char::from(byte)).collect();
            let Some((name, value)) = text.split_once('=') else {
                continue;
            };
            let wsp = [' ', '\t'];
            let value = value.trim_matches(wsp);
            let value = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
            let well_formed = value.len() == ID_CHARS && crate::SessionId::parse(value.as_bytes()).is_some();
            if name.trim_matches(wsp) == "sid" && well_formed && !expected.contains(&value.into()) {
                expected.push(value.into());
            }
        }
        expected.truncate(MAX_CANDIDATES);
        let kept: Vec<_> = found.iter().map(|one| one.as_bytes().to_vec()).collect();
        prop_assert_eq!(kept, expected);
        prop_assert!(found.len() <= MAX_CANDIDATES && found.kept.capacity() <= MAX_CANDIDATES);
        Ok(())
    }
}
