//! Ports for servers: free, and at a distance from those that the system hands out by itself.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::{Ipv4Addr, TcpListener},
};

use crate::failure::{Failure, Verdict};

/// A server that is stopped leaves its port free for a while. Below 32768 nobody's outgoing connection takes it.
const FIRST: u16 = 20_001;
const LAST: u16 = 32_767;

/// How far above its port a node of a Redis cluster listens for the others.
#[cfg(feature = "servers")]
pub(crate) const BUS: u16 = 10_000;

/// Returns a port that nobody listens on, at any address of this machine.
pub(crate) fn free() -> Verdict<u16> {
    free_if(|_| true)
}

/// As [`free`], and the port of the cluster's bus is free as well.
#[cfg(feature = "servers")]
pub(crate) fn free_with_bus() -> Verdict<u16> {
    free_if(|port| port + BUS < 65_535 && is_free(port + BUS))
}

fn free_if(also: impl Fn(u16) -> bool) -> Verdict<u16> {
    // Random, so that processes that start servers at the same moment do not all try the same ones.
    let span = u64::from(LAST - FIRST) + 1;
    for _ in 0..200 {
        let draw = RandomState::new().build_hasher().finish() % span;
        let port = u16::try_from(draw).map_or(FIRST, |draw| FIRST + draw);
        if is_free(port) && also(port) {
            return Ok(port);
        }
    }
    Err(Failure::new(
        "a server finds a free port",
        format!("200 random ports from {FIRST} to {LAST} were taken; end what listens there"),
    ))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on_and_is_not_one_of_the_systems_own() {
        let port = free().unwrap();
        assert!((FIRST..=LAST).contains(&port));
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(taken);
        assert!(free_with_bus().is_ok());
    }
}
