//! Which node of a cluster owns which key.

use cloakroom_core::Result;
use redis::Value;

use super::reply::unexpected;

/// How many parts the keys of a cluster are divided into.
pub(super) const SLOTS: u16 = 16384;

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `host:port`, as a redirection names a node. A host that is left out is the one that was asked.
    pub(super) fn parse(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: named(host.trim_matches(['[', ']']), asked), port: port.parse().ok()? })
    }
}

/// Who owns what, as far as is known.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotMap {
    masters: Vec<Address>,
    /// For each slot the place of its owner among the masters, and one more; 0 for none. Empty at first.
    owners: Vec<u16>,
}

impl SlotMap {
    /// Reads what `CLUSTER SLOTS` answers.
    pub(super) fn read(reply: Value, asked: &str) -> Result<Self> {
        let Value::Array(ranges) = reply else {
            return Err(unexpected());
        };
        let mut map = Self { masters: Vec::new(), owners: vec![0; SLOTS.into()] };
        for range in ranges {
            let (first, last, master) = read_range(range, asked).ok_or_else(unexpected)?;
            let owner = map.place(master);
            for slot in first..=last {
                map.owners[usize::from(slot)] = owner;
            }
        }
        Ok(map)
    }

    /// Returns who owns a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let place = *self.owners.get(usize::from(slot))?;
        self.masters.get(usize::from(place.checked_sub(1)?))
    }

    /// Notes that a slot has another owner now.
    pub(super) fn moved(&mut self, slot: u16, to: Address) {
        self.owners.resize(SLOTS.into(), 0);
        let owner = self.place(to);
        if let Some(place) = self.owners.get_mut(usize::from(slot)) {
            *place = owner;
        }
    }

    /// Returns every node that owns something.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// Returns the place of a master, and one more.
    fn place(&mut self, master: Address) -> u16 {
        let place = self.masters.iter().position(|known| *known == master).unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(place + 1).unwrap_or(0)
    }
}

/// Returns the slot of a name: of what stands in its first braces, if anything does, else of the whole.
pub(super) fn slot(name: &[u8]) -> u16 {
    let tag = name.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(name)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Reads one range: its first and last slot, and the master; the replicas that follow are of no use here.
fn read_range(range: Value, asked: &str) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = range else {
        return None;
    };
    let mut parts = parts.into_iter();
    let [first, last] = [number(&parts.next()?)?, number(&parts.next()?)?];
    let Some(Value::Array(master)) = parts.next() else {
        return None;
    };
    let host = match master.first()? {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    let address = Address { host: named(host, asked), port: number(master.get(1)?)? };
    (last < SLOTS).then_some((first, last, address))
}

/// A node that does not know its own name says nothing or `?`: then it is the one that was asked.
fn named(host: &str, asked: &str) -> String {
    if matches!(host, "" | "?") { asked.to_owned() } else { host.to_owned() }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), bulk("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` answers.
        for (name, expected) in [("foo", 12182), ("bar", 5061), ("{}foo", slot(b"{}foo")), ("", 0)] {
            assert_eq!(slot(name.as_bytes()), expected);
        }
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
    }

    #[test]
    fn a_map_says_who_owns_a_slot() {
        let reply = Value::Array(vec![
            range(0, 8000, bulk("a"), 1),
            range(8001, 16382, bulk("b"), 2),
            range(9000, 9000, bulk("a"), 1),
        ]);
        let mut map = SlotMap::read(reply, "asked").unwrap();
        assert_eq!(map.owner(0), Some(&address("a", 1)));
        assert_eq!(map.owner(8001), Some(&address("b", 2)));
        assert_eq!(map.owner(9000), Some(&address("a", 1)));
        assert_eq!(map.owner(16383), None);
        assert_eq!(map.masters().len(), 2);
        map.moved(16383, address("c", 3));
        assert_eq!(map.owner(16383), Some(&address("c", 3)));
        assert_eq!(SlotMap::default().owner(5), None);
    }

    #[test]
    fn a_node_without_a_name_is_the_one_that_was_asked() {
        for host in [Value::Nil, bulk(""), bulk("?")] {
            let map = SlotMap::read(Value::Array(vec![range(0, 1, host, 7)]), "asked").unwrap();
            assert_eq!(map.owner(0), Some(&address("asked", 7)));
        }
        assert_eq!(Address::parse(":6381", "asked"), Some(address("asked", 6381)));
        assert_eq!(Address::parse("10.0.0.1:6381", "asked"), Some(address("10.0.0.1", 6381)));
        assert_eq!(Address::parse("::1:6381", "asked"), Some(address("::1", 6381)));
        assert_eq!(Address::parse("nothing", "asked"), None);
    }

    #[test]
    fn what_is_no_map_is_an_error() {
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Array(vec![])]),
            Value::Array(vec![range(0, 16384, bulk("a"), 1)]),
            Value::Array(vec![range(-1, 5, bulk("a"), 1)]),
            Value::Array(vec![range(0, 5, bulk("a"), 70_000)]),
        ] {
            assert!(SlotMap::read(reply, "asked").is_err());
        }
    }
}
