//! Express with express-session and connect-redis.

use crate::{
    home::Home,
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

pub(crate) static EXPRESS: Kind =
    Kind { format: Format::Express, store: "redis", prefix: "sess:", home: Home::redis };

shared_tests!(&EXPRESS);

/// As the documentation has it: no prefix of the store's own.
mod bare {
    use super::{Home, Kind, rules, shared_tests};

    static EXPRESS: Kind = Kind { home: |_| Home::bare_redis(14), ..super::EXPRESS };

    shared_tests!(
        &EXPRESS,
        a_login_and_what_is_written_are_seen_on_the_other_side,
        a_logout_on_either_side_ends_it_on_both,
    );
}
