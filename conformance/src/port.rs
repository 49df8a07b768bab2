//! Ports for servers: free, held as long as the server is of use, and not among those that the system hands out itself.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

use crate::failure::{Failure, Verdict};

/// A server that is stopped leaves its port free for a while. Below 32768 nobody's outgoing connection takes it.
const FIRST: u16 = 20_001;
const LAST: u16 = 32_767;

/// How far above its port a node of a Redis cluster listens for the others.
#[cfg(feature = "servers")]
pub(crate) const BUS: u16 = 10_000;

/// A port that no other test is given while this is alive, also while nobody listens on it.
///
/// Its sign is the socket of the same number in UDP, of which no server here has any use: the system gives it to one
/// process only, and takes it back however that process ends.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: Vec<UdpSocket>,
}

impl Port {
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Takes `number` if nobody holds it and nobody listens on it, at any address of this machine.
    fn take(number: u16) -> Option<Self> {
        // In this order: whoever only tries to listen on a port that another one holds is in the way of its server, which
        // may be starting again at this moment.
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        let is_free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        is_free.then(|| Self { number, _held: vec![held] })
    }

    #[cfg(feature = "servers")]
    fn take_with_bus(number: u16) -> Option<Self> {
        let (mut port, bus) = (Self::take(number)?, Self::take(number + BUS)?);
        port._held.extend(bus._held);
        Some(port)
    }
}

/// Returns a port that nobody listens on, at any address of this machine.
pub(crate) fn free() -> Verdict<Port> {
    draw(LAST, Port::take)
}

/// As [`free`], and the port of the cluster's bus is free as well.
#[cfg(feature = "servers")]
pub(crate) fn free_with_bus() -> Verdict<Port> {
    draw(LAST - BUS, Port::take_with_bus)
}

fn draw(last: u16, take: impl Fn(u16) -> Option<Port>) -> Verdict<Port> {
    // Random, so that processes that start servers at the same moment do not all try the same ones.
    let span = u64::from(last - FIRST) + 1;
    let drawn = || {
        let draw = RandomState::new().build_hasher().finish() % span;
        u16::try_from(draw).map_or(FIRST, |draw| FIRST + draw)
    };
    (0..200).find_map(|_| take(drawn())).ok_or_else(|| {
        Failure::new(
            "a server finds a free port",
            format!("200 random ports from {FIRST} to {last} were taken; end what listens there"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on_and_is_not_one_of_the_systems_own() {
        let port = free().unwrap();
        assert!((FIRST..=LAST).contains(&port.number()));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let port = free().unwrap().number();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(Port::take(port).is_none());
    }

    #[test]
    fn a_port_is_nobody_elses_while_its_server_is_down() {
        let port = free().unwrap();
        let number = port.number();
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap());
        assert!(Port::take(number).is_none());
        drop(port);
        assert!(Port::take(number).is_some());
    }

    #[cfg(feature = "servers")]
    #[test]
    fn the_port_of_a_clusters_bus_is_held_as_well_and_is_not_one_of_the_systems_own() {
        let port = free_with_bus().unwrap();
        let bus = port.number() + BUS;
        assert!(bus <= LAST);
        assert!(Port::take(bus).is_none());
        drop(port);
        assert!(Port::take(bus).is_some());
    }
}
