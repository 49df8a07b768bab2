//! Commands, put together in one go.

use redis::Cmd;

/// Returns the command that these parts make, its name first.
///
/// It has just the room it needs. One that grows with each argument is moved about in memory several times, and moving
/// takes the allocator's lock, for which the threads of a busy server queue.
pub(super) fn command<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Cmd {
    let (count, bytes) = parts.clone().fold((0, 0), |(count, bytes), part| (count + 1, bytes + part.len()));
    let mut command = Cmd::with_capacity(count, bytes);
    for part in parts {
        command.arg(part);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_its_parts_whatever_bytes_they_have() {
        let parts: [&[u8]; 4] = [b"SET", b"a name", b"\0\r\n\xff", b""];
        let packed = command(parts.into_iter()).get_packed_command();
        assert_eq!(packed, b"*4\r\n$3\r\nSET\r\n$6\r\na name\r\n$4\r\n\0\r\n\xff\r\n$0\r\n\r\n");
    }
}
