//! Koa with koa-generic-session and koa-redis.

use crate::{
    home::Home,
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

pub(crate) static KOA: Kind =
    Kind { format: Format::Koa, store: "redis", prefix: "koa:sess:", home: Home::redis };

shared_tests!(&KOA);

/// As the documentation has it: no prefix of the store's own.
mod bare {
    use super::{Home, Kind, rules, shared_tests};

    static KOA: Kind = Kind { home: |_| Home::bare_redis(13), ..super::KOA };

    shared_tests!(
        &KOA,
        a_login_and_what_is_written_are_seen_on_the_other_side,
        a_logout_on_either_side_ends_it_on_both,
    );
}
