//! What the tests of the SQL stores share.

pub(crate) mod place;
pub(crate) mod shared;
pub(crate) mod sweeping;
