//! Proves a Cloakroom session store: one macro call, one named test for each rule of the contract.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod runner;

mod background;
mod cases;
mod context;
mod counting;
mod ear;
mod env;
mod failure;
mod fault_proxy;
mod machine;
mod operation;
mod outage;
mod port;
mod recorder;
mod reference;
mod report;
#[cfg(feature = "servers")]
mod server;
mod subject;
mod switch;
mod tests_macro;
mod visitor;

pub use crate::{
    counting::{Counting, Counts},
    env::Env,
    failure::Failure,
    fault_proxy::{FaultProxy, Traffic},
    operation::Operation,
    outage::Outage,
    reference::{Plain, Reference},
    report::{CaseReport, Group, Outcome, Report},
    runner::run,
    subject::{Ability, Subject},
    switch::{Call, Pause, Switch},
};

#[cfg(feature = "servers")]
pub use crate::server::{
    Server,
    running::{Node, Running},
};
