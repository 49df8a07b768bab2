//! Proves a Cloakroom session store.

pub mod runner;

mod cases;
mod context;
mod env;
mod failure;
mod reference;
mod report;
mod subject;
mod tests_macro;

pub use crate::{
    env::Env,
    failure::Failure,
    reference::{Plain, Reference},
    report::{CaseReport, Group, Outcome, Report},
    runner::run,
    subject::{Ability, Subject},
};
