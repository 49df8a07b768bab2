//! Koa with koa-generic-session and koa-redis.

use cloakroom::Profile;

use crate::{
    pair::Kind,
    rules::{self, shared_tests},
};

pub(crate) static KOA: Kind =
    Kind { program: "koa", prefix: "koa:sess:", profile: |secrets| Profile::koa(secrets.iter().copied()) };

shared_tests!(&KOA);
