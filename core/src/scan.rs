//! A strict scanner of JSON: finds where a value ends, and says no to whatever is not JSON (RFC 8259).

/// The deepest nesting that a scan can follow: one bit for each open container.
const MAX_OPEN: u32 = u128::BITS;

/// The high bit of each byte of a word, and everything but.
const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = !HIGH;

/// The same byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Goes through a text from its start; that it is UTF-8 is for the caller to know. What it does not take it leaves to others to explain: a failure is `None`, and
/// the scanner is then of no further use.
///
/// It follows `serde_json` in everything a value may be, so that a value it accepts is one that can be decoded later
/// or not, just as if `serde_json` had found it: a lone surrogate in an escape passes, as there.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What stands between the quotes of a JSON string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoted<'a> {
    /// The text itself.
    Plain(&'a [u8]),
    /// The JSON of it, with the quotes: it has escapes.
    Escaped(&'a [u8]),
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Returns how many bytes have been taken.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    pub(crate) const fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes `expected`; `false`, and nothing is taken, if something else comes.
    #[inline]
    pub(crate) fn eat(&mut self, expected: &[u8]) -> bool {
        let there = self.rest().starts_with(expected);
        if there {
            self.at += expected.len();
        }
        there
    }

    /// Takes a whole number without a sign. What may follow a number is the caller's to check.
    ///
    /// `None` when there is none, when it begins with a needless zero, or when it is too large.
    pub(crate) fn integer(&mut self) -> Option<u64> {
        let start = self.at;
        let mut number = 0_u64;
        while let Some(digit) = self.peek().map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        let digits = self.text.get(start..self.at)?;
        match digits {
            [] | [b'0', _, ..] => None,
            // 19 digits cannot overflow.
            _ if digits.len() <= 19 => Some(number),
            _ => digits
                .iter()
                .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))),
        }
    }

    /// Takes digits, perhaps none.
    fn digits(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        rest.get(..count).unwrap_or_default()
    }

    /// Takes a string.
    ///
    /// `None` when none comes here, when it does not end, or when it holds a control character or a bad escape.
    #[inline]
    pub(crate) fn string(&mut self) -> Option<Quoted<'a>> {
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let escaped = self.string_end()?;
        if escaped {
            Some(Quoted::Escaped(self.text.get(start..self.at)?))
        } else {
            Some(Quoted::Plain(self.text.get(start + 1..self.at - 1)?))
        }
    }

    /// Takes the rest of a string whose opening quote was taken; `true` if it has escapes.
    ///
    /// `None` as for [`string`](Self::string).
    #[inline]
    pub(crate) fn string_end(&mut self) -> Option<bool> {
        let mut escaped = false;
        loop {
            self.at += plain_len(self.rest());
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    /// Takes one escape, of whatever code point.
    ///
    /// `None` when it is not one of those that JSON knows.
    fn escape(&mut self) -> Option<()> {
        match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [_, b'u', hex @ ..] if hex.get(..4)?.iter().all(u8::is_ascii_hexdigit) => self.at += 6,
            _ => return None,
        }
        Some(())
    }

    /// Takes one value, in which at most `depth` containers are open at a time (and never more than 128), and returns
    /// its text.
    ///
    /// `None` when what comes is no JSON value, is cut short, or is nested more deeply.
    #[inline]
    pub(crate) fn value(&mut self, depth: u32) -> Option<&'a [u8]> {
        let start = self.at;
        if self.peek()? == b'"' {
            self.at += 1;
            self.string_end()?;
        } else {
            self.nested(depth.min(MAX_OPEN))?;
        }
        self.text.get(start..self.at)
    }

    /// Takes one value of any kind, without recursion: what is open is kept as a row of bits.
    ///
    /// `None` as for [`value`](Self::value).
    fn nested(&mut self, limit: u32) -> Option<()> {
        // The lowest bit is about the innermost container: 1 for an object, 0 for an array.
        let (mut open, mut depth) = (0_u128, 0_u32);
        loop {
            // Here a value is due.
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.string_end()?;
                }
                bracket @ (b'{' | b'[') => {
                    if depth == limit {
                        return None;
                    }
                    self.at += 1;
                    self.space();
                    // `]` and `}` are both two further than what they close.
                    if self.peek()? == bracket + 2 {
                        self.at += 1;
                    } else {
                        let object = bracket == b'{';
                        open = (open << 1) | u128::from(object);
                        depth += 1;
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                _ => {
                    if !self.eat(b"true") && !self.eat(b"false") && !self.eat(b"null") {
                        return None;
                    }
                }
            }
            // Here a value has ended, and with it perhaps what it is in.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                let object = open & 1 == 1;
                let next = self.peek()?;
                self.at += 1;
                match next {
                    b',' => {
                        self.space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return None,
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    /// Takes the name of an object's member and its colon.
    ///
    /// `None` when that is not what comes.
    fn name(&mut self) -> Option<()> {
        if !self.eat(b"\"") {
            return None;
        }
        self.string_end()?;
        self.space();
        if !self.eat(b":") {
            return None;
        }
        self.space();
        Some(())
    }

    /// Takes a number, however large.
    ///
    /// `None` when the grammar does not allow it, as with a needless zero, or with nothing behind its point.
    fn number(&mut self) -> Option<()> {
        self.eat(b"-");
        if matches!(self.digits(), [] | [b'0', _, ..]) {
            return None;
        }
        if self.eat(b".") && self.digits().is_empty() {
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits().is_empty() {
                return None;
            }
        }
        Some(())
    }

    /// Takes whitespace, perhaps none.
    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }
}

const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Returns how many bytes at the start can stand in a JSON string as they are.
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let done = |rest: &[u8]| bytes.len() - rest.len();
    // Most keys and many values end within a few words.
    for _ in 0..4 {
        let Some((word, tail)) = rest.split_first_chunk() else { break };
        if let Some(at) = first_special(*word) {
            return done(rest) + at;
        }
        rest = tail;
    }
    // Without a way out in the middle, the compiler makes vector instructions of a run.
    while let Some((run, tail)) = rest.split_first_chunk::<32>() {
        let special = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        if run.iter().fold(0, |found, byte| found | special(*byte)) != 0 {
            break;
        }
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk() {
        if let Some(at) = first_special(*word) {
            return done(rest) + at;
        }
        rest = tail;
    }
    done(rest) + rest.iter().take_while(|byte| is_plain(**byte)).count()
}

/// Returns where in eight bytes the first one is that cannot stand in a JSON string as it is.
fn first_special(word: [u8; 8]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    let low = word & LOW;
    // In each byte the sum reaches the high bit unless the byte is a control character, a quote or a backslash; it
    // never reaches the next byte. A byte that has the high bit itself is part of a longer character.
    let plain = (low + each(0x80 - 0x20)) & ((low ^ each(b'"')) + LOW) & ((low ^ each(b'\\')) + LOW) | word;
    let special = !plain & HIGH;
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests;
