//! The two cookies of Koa: a value, and beside it `.sig`, its Keygrip signature (HMAC-SHA1 over `name=value`).

use base64::Engine as _;
use hmac::Hmac;
use http::HeaderMap;
use sha1::Sha1;

use super::node::{EPOCH, Secrets, URL_SAFE, header, http_date, koa_attributes};
use crate::{
    cookie::{Candidates, CookieConfig, CookieOptions, Lifetime, check_pair, first_values},
    error::Result,
    headers::HeaderEdits,
    keyring::KeyAge,
    record::Millis,
};

type HmacSha1 = Hmac<Sha1>;

/// The length of a signature as text: 20 bytes of base64url.
const TAG_CHARS: usize = 27;

/// A signed pair of cookies, as the package `cookies` reads and writes them.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) config: CookieConfig,
    signature_name: String,
    secrets: Secrets,
}

impl Pair {
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) by the field's name.
    pub(super) fn new(config: &CookieConfig, secrets: &Secrets, value_len: usize) -> Result<Self> {
        secrets.check()?;
        let config = config.checked()?;
        let signature_name = format!("{}.sig", config.name);
        check_pair(&config.name, value_len)?;
        check_pair(&signature_name, TAG_CHARS)?;
        Ok(Self { config, signature_name, secrets: secrets.clone() })
    }

    pub(super) fn names(&self) -> Vec<&str> {
        vec![&self.config.name, &self.signature_name]
    }

    /// Collects the first value under each of the two names. One without the other is no session.
    pub(super) fn read(&self, headers: &HeaderMap) -> Candidates {
        match first_values(headers, [&self.config.name, &self.signature_name]) {
            [Some(value), Some(tag)] => Candidates::foreign([value, tag].into()),
            _ => Candidates::default(),
        }
    }

    /// Returns the value, if one of the secrets signed it.
    pub(super) fn verify<'a>(&self, candidates: &'a Candidates) -> Option<(&'a [u8], KeyAge)> {
        let [value, tag] = candidates.foreign_values()? else { return None };
        // Only the one text of a signature is accepted, as where texts are compared.
        let tag = (tag.len() == TAG_CHARS).then(|| URL_SAFE.decode(tag).ok())??;
        let age = self.secrets.verify::<HmacSha1>(&[self.config.name.as_bytes(), b"=", value], &tag)?;
        Some((value, age))
    }

    /// Sends a value, until `expires` or until the browser is closed, as `config` has it: this pair's, or one session's
    /// own.
    pub(super) fn send(
        &self,
        value: &str,
        expires: Millis,
        config: &CookieConfig,
        response: &mut HeaderEdits,
    ) {
        let expires = (config.lifetime == Lifetime::Ttl).then(|| http_date(expires));
        self.append(value, &koa_attributes(config, expires.as_deref()), response);
    }

    /// Expires both, with the attributes they were set with: browsers tell cookies apart by path and domain.
    pub(super) fn take_back(&self, options: Option<&CookieOptions>, response: &mut HeaderEdits) {
        let own = options.map(|options| options.over(&self.config));
        let config = own.as_ref().unwrap_or(&self.config);
        self.append("", &koa_attributes(config, Some(EPOCH)), response);
    }

    /// Expires a signature that fits nothing, as Koa does.
    pub(super) fn refuse(&self, response: &mut HeaderEdits) {
        let attributes = koa_attributes(&self.config, Some(EPOCH));
        header(format!("{}={attributes}", self.signature_name))
            .map(|value| response.append_cookie(value))
            .unwrap_or_default();
    }

    fn append(&self, value: &str, attributes: &str, response: &mut HeaderEdits) {
        let name = &self.config.name;
        let tag = URL_SAFE.encode(self.secrets.sign::<HmacSha1>(&[name.as_bytes(), b"=", value.as_bytes()]));
        for text in
            [format!("{name}={value}{attributes}"), format!("{}={tag}{attributes}", self.signature_name)]
        {
            if let Some(value) = header(text) {
                response.append_cookie(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str, text: &str) -> String {
        URL_SAFE.encode(Secrets::new([secret]).sign::<HmacSha1>(&[text.as_bytes()]))
    }

    #[test]
    fn signatures_are_those_of_keygrip() {
        // Made by the package itself.
        assert_eq!(sign("keys", "koa.sid=abc"), "lK1_iXCHn_udL_RhyRs2-SntCSQ");
        assert_eq!(sign("keykeys", "koa.sid=abc"), "zvv4Dfuw8qbLQm-ntNKDVjAxBPU");
        assert_eq!(sign("keys", "koa.sid="), "4Q4t-o__7Oasf7VtZqUFKLy4m7A");
    }

    #[test]
    fn every_flip_of_a_bit_is_refused() {
        let pair =
            Pair::new(&CookieConfig::of_node("koa.sid"), &Secrets::new(["keys", "keykeys"]), 3).unwrap();
        let good = |value: &[u8], tag: &[u8]| {
            pair.verify(&Candidates::foreign([Box::from(value), Box::from(tag)].into())).map(|(_, age)| age)
        };
        let (value, tag) = (b"abc", b"lK1_iXCHn_udL_RhyRs2-SntCSQ");
        assert_eq!(good(value, tag), Some(KeyAge::Newest));
        assert_eq!(good(value, b"zvv4Dfuw8qbLQm-ntNKDVjAxBPU"), Some(KeyAge::Older));
        for at in 0..tag.len() * 8 {
            let mut tag = *tag;
            tag[at / 8] ^= 1 << (at % 8);
            assert_eq!(good(value, &tag), None, "bit {at} of the signature");
        }
        for at in 0..value.len() * 8 {
            let mut value = *value;
            value[at / 8] ^= 1 << (at % 8);
            assert_eq!(good(&value, tag), None, "bit {at} of the value");
        }
        for tag in [&tag[..26], &[&tag[..], b"="].concat(), &[&tag[..], b"A"].concat(), b""] {
            assert_eq!(good(value, tag), None);
        }
    }
}
