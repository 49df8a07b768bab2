//! Express with express-session and connect-redis.

use cloakroom::Profile;

use crate::{
    pair::Kind,
    rules::{self, shared_tests},
};

pub(crate) static EXPRESS: Kind = Kind {
    program: "express",
    prefix: "sess:",
    profile: |secrets| Profile::express(secrets.iter().copied()),
};

shared_tests!(&EXPRESS);
