//! Where new ids come from, and what they look like.

use std::{fmt, pin::Pin, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    error::{Error, ErrorKind, Result},
    id::{ID_CHARS, SessionId},
};

/// The longest id of a custom generator, in characters.
pub(crate) const MAX_ID_CHARS: usize = 64;

/// The least entropy of an id, in bits (OWASP ASVS 5.0, 7.2.3).
const MIN_BITS: f64 = 128.0;

type Generate = dyn Fn() -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync;

/// What every id of an application looks like: so many characters of an alphabet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdShape {
    length: usize,
    /// For each byte whether it is allowed: every request with a cookie asks this for each of its characters.
    alphabet: [bool; 256],
}

impl IdShape {
    /// 43 characters of base64url.
    pub(crate) const NATIVE: Self = Self {
        length: ID_CHARS,
        alphabet: alphabet_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    };

    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Tells whether `text` could be an id.
    pub(crate) fn fits(&self, text: &[u8]) -> bool {
        // All of them, whatever the first is: without a way out in the middle this is one load a character.
        text.len() == self.length
            && text.iter().fold(true, |fits, byte| fits & self.alphabet[usize::from(*byte)])
    }

    /// Reads an id. Anything malformed is no id, never an error.
    pub(crate) fn parse(&self, text: &[u8]) -> Option<SessionId> {
        self.fits(text).then(|| SessionId::from_checked(text))
    }
}

/// Shows the length: the alphabet is a long row of yes and no.
impl fmt::Debug for IdShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdShape").field("length", &self.length).finish_non_exhaustive()
    }
}

const fn alphabet_of(characters: &[u8]) -> [bool; 256] {
    let (mut alphabet, mut at) = ([false; 256], 0);
    while at < characters.len() {
        alphabet[characters[at] as usize] = true;
        at += 1;
    }
    alphabet
}

/// The source of new ids: the operating system, or a function of the user's.
#[derive(Clone, Default)]
pub(crate) struct IdSource(Option<(IdShape, Arc<Generate>)>);

impl IdSource {
    /// Takes a function that makes ids of `length` characters out of `alphabet`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `generate_id`.
    pub(crate) fn custom(alphabet: &str, length: usize, generate: Arc<Generate>) -> Result<Self> {
        let wrong = |cure: String| Err(Error::config("generate_id", cure));
        let cookie_octet =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'.');
        if !alphabet.bytes().all(cookie_octet) {
            return wrong(
                "the alphabet must be printable ASCII without quotes, comma, semicolon, backslash and dot"
                    .into(),
            );
        }
        let alphabet = alphabet_of(alphabet.as_bytes());
        let characters = alphabet.iter().filter(|allowed| **allowed).count();
        let bits = (characters as f64).log2() * length as f64;
        if bits.is_nan() || bits < MIN_BITS {
            return wrong(format!(
                "an id must have at least {MIN_BITS} bits; this alphabet and length give {bits:.0}"
            ));
        }
        if length > MAX_ID_CHARS {
            return wrong(format!("an id must have at most {MAX_ID_CHARS} characters"));
        }
        Ok(Self(Some((IdShape { length, alphabet }, generate))))
    }

    /// Draws `bytes` of randomness, as base64url without padding: what other programs' ids look like.
    pub(crate) fn random(bytes: usize) -> Self {
        let shape = IdShape { length: (bytes * 8).div_ceil(6), ..IdShape::NATIVE };
        Self(Some((shape, Arc::new(move || Box::pin(async move { random_text(bytes) })))))
    }

    pub(crate) fn shape(&self) -> IdShape {
        self.0.as_ref().map_or(IdShape::NATIVE, |(shape, _)| *shape)
    }

    /// Makes a new id.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] when there are no random bytes, or the function made something else than it declared;
    /// whatever the function answers.
    pub(crate) async fn generate(&self) -> Result<SessionId> {
        let Some((shape, generate)) = &self.0 else { return SessionId::generate() };
        let text = generate().await?;
        shape.parse(text.as_bytes()).ok_or_else(|| {
            Error::new(ErrorKind::Backend)
                .operation("generate_id")
                .hint("the function made an id of another length or alphabet than it declared")
        })
    }
}

/// # Errors
/// [`ErrorKind::Backend`] when there are no random bytes.
fn random_text(bytes: usize) -> Result<String> {
    let mut random = zeroize::Zeroizing::new(vec![0_u8; bytes]);
    getrandom::fill(&mut random).map_err(|error| {
        Error::new(ErrorKind::Backend)
            .operation("generate id")
            .hint("the operating system gave no random bytes")
            .with_source(error.to_string())
    })?;
    Ok(URL_SAFE_NO_PAD.encode(&*random))
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "custom" } else { "operating system" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef";

    fn source(text: &'static str) -> Arc<Generate> {
        Arc::new(move || Box::pin(async move { Ok(text.to_owned()) }))
    }

    #[test]
    fn a_generator_that_could_be_guessed_or_would_not_fit_a_cookie_is_refused() {
        for (alphabet, length) in
            [(HEX, 31), ("ab", 64), ("a", 64), ("", 64), (HEX, 65), ("ab;", 64), ("ab.", 64), ("äb", 64)]
        {
            let error = IdSource::custom(alphabet, length, source("")).unwrap_err();
            assert_eq!(error.field(), Some("generate_id"), "{alphabet} {length}");
        }
        assert!(IdSource::custom(HEX, 32, source("")).is_ok());
    }

    #[tokio::test]
    async fn what_a_generator_makes_must_be_what_it_declared() {
        let good = "0123456789abcdef0123456789abcdef";
        let ids = IdSource::custom(HEX, 32, source(good)).unwrap();
        assert_eq!(ids.generate().await.unwrap().expose(), good);
        for bad in ["0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeF", ""] {
            let error = IdSource::custom(HEX, 32, source(bad)).unwrap().generate().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Backend);
        }
    }

    #[test]
    fn the_native_shape_is_that_of_a_native_id() {
        let id = SessionId::generate().unwrap();
        assert!(IdShape::NATIVE.fits(id.expose().as_bytes()));
        for byte in 0..=255_u8 {
            let mut text = id.expose().as_bytes().to_vec();
            text[0] = byte;
            assert_eq!(IdShape::NATIVE.fits(&text), SessionId::parse(&text).is_some());
        }
    }
}
