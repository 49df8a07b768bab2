//! Proves a Cloakroom session store: one macro call, one named test for each rule of the contract.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod runner;

mod cases;
mod context;
mod counting;
mod env;
mod failure;
mod operation;
mod outage;
mod reference;
mod report;
mod subject;
mod switch;
mod tests_macro;

pub use crate::{
    counting::{Counting, Counts},
    env::Env,
    failure::Failure,
    operation::Operation,
    outage::Outage,
    reference::{Plain, Reference},
    report::{CaseReport, Group, Outcome, Report},
    runner::run,
    subject::{Ability, Subject},
    switch::{Call, Pause, Switch},
};
