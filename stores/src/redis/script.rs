//! The Lua scripts: each touches the keys it is given, is sent by its hash, and whole when the server lost it.

use std::sync::OnceLock;

use redis::Cmd;

use super::command::command;

/// Replaces the value if it is the expected one: 1, nil when there is none, else the value that is there.
pub(super) static REPLACE: Script = Script::new(
    "local v=redis.call('GET',KEYS[1]) \
     if v==ARGV[1] then redis.call('PSETEX',KEYS[1],ARGV[3],ARGV[2]) return 1 end return v",
);

/// Removes the value if it is the expected one: 1, nil when there is none, else the value that is there.
pub(super) static REMOVE: Script = Script::new(
    "local v=redis.call('GET',KEYS[1]) \
     if v==ARGV[1] then redis.call('DEL',KEYS[1]) return 1 end return v",
);

/// Notes a key in its user's sorted set, and who owns the key if that name is given: in a cluster it is not, since it
/// lies elsewhere.
///
/// Members are scored by when they expire. One with a space before it says that the key was bound a moment ago: until
/// then nobody takes it for stale.
pub(super) static BIND: Script = Script::new(
    "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) local ttl=tonumber(ARGV[2]) \
     redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf',now) \
     redis.call('ZADD',KEYS[1],now+ttl,ARGV[1],now+tonumber(ARGV[4]),' '..ARGV[1]) \
     local keep=math.max(ttl,tonumber(ARGV[4])) \
     if redis.call('PTTL',KEYS[1])<keep then redis.call('PEXPIRE',KEYS[1],keep) end \
     if KEYS[2] then redis.call('SET',KEYS[2],ARGV[3],'PX',ttl) end return 1",
);

/// Drops what has expired from a user's sorted set and returns the rest, without what guards it.
pub(super) static BOUND: Script = Script::new(
    "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) \
     redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf',now) local keys={} \
     for _,member in ipairs(redis.call('ZRANGE',KEYS[1],0,-1)) do \
     if string.sub(member,1,1)~=' ' then keys[#keys+1]=member end end return keys",
);

/// Drops keys from a user's sorted set, but those that were bound a moment ago.
pub(super) static FORGET: Script = Script::new(
    "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) local dropped=0 \
     for _,key in ipairs(ARGV) do local guard=redis.call('ZSCORE',KEYS[1],' '..key) \
     if not guard or tonumber(guard)<=now then dropped=dropped+redis.call('ZREM',KEYS[1],key) end end return dropped",
);

/// Tells of each pair of a note and a value whether the note names this user and the value is there.
pub(super) static LIVE: Script = Script::new(
    "local live={} for i=1,#KEYS,2 do \
     if redis.call('GET',KEYS[i])==ARGV[1] then live[#live+1]=redis.call('EXISTS',KEYS[i+1]) \
     else live[#live+1]=0 end end return live",
);

/// Removes the value of each pair whose note names this user, and counts those that were there.
pub(super) static END: Script = Script::new(
    "local ended=0 for i=1,#KEYS,2 do if redis.call('GET',KEYS[i])==ARGV[1] \
     then ended=ended+redis.call('UNLINK',KEYS[i+1]) end end return ended",
);

/// Every script, to load when a connection is made.
pub(super) static ALL: [&Script; 7] = [&REPLACE, &REMOVE, &BIND, &BOUND, &FORGET, &LIVE, &END];

/// A script and its hash.
pub(super) struct Script {
    code: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    pub(super) const fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the command that names the script by its hash.
    pub(super) fn by_hash(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        let hash = self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned());
        call("EVALSHA", hash, keys, args)
    }

    /// Returns the command that sends the script whole, which also loads it.
    pub(super) fn whole(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        call("EVAL", self.code, keys, args)
    }
}

fn call(name: &str, script: &str, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
    let count = keys.len().to_string();
    command([name.as_bytes(), script.as_bytes(), count.as_bytes()].iter().chain(keys).chain(args).copied())
}
