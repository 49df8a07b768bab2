//! The one list of cases: the macro, `run` and the mutants all read it.

use futures_util::future::BoxFuture;

use crate::{context::Cx, failure::Verdict, report::Group, subject::Ability};

mod expiry;
mod handles;
mod keys;
mod values;

/// One rule of the contract and how to see whether a store keeps it.
pub(crate) struct Case {
    pub(crate) group: Group,
    pub(crate) needs: Option<Ability>,
    pub(crate) name: &'static str,
    pub(crate) run: fn(Cx) -> BoxFuture<'static, Verdict>,
}

/// Hands the list of all cases to another macro.
///
/// The list is what [`conformance_tests!`](crate::conformance_tests) and [`run`](crate::run) are made from; call it
/// to make a harness of another kind. `for_each_case! { [path::to::mac] args }` becomes
/// `path::to::mac! { args base {..} atomic {..} indexed {..} admin {..} concurrency {..} races {..} }`, where each
/// pair of braces holds `topic: [case, …]` one after another. The cases of `races` need the ability `atomic` and
/// belong to the group `concurrency`.
#[macro_export]
macro_rules! for_each_case {
    ([$($callback:tt)*] $($args:tt)*) => {
        $($callback)*! {
            $($args)*
            base {
                values: [
                    an_absent_key_is_none,
                    a_value_comes_back_as_it_was_set,
                    an_empty_value_is_a_value,
                    every_byte_comes_back,
                    values_that_look_like_something_come_back,
                    a_value_of_one_mebibyte_comes_back_or_is_too_large,
                    an_oversized_value_is_kept_or_is_too_large,
                    set_replaces_the_value,
                    a_write_changes_no_other_value,
                    destroy_removes_a_live_value_and_is_true,
                    destroy_of_an_absent_key_is_ok_and_false,
                    destroy_of_a_destroyed_key_is_false,
                    destroy_removes_only_its_key,
                    a_destroyed_key_can_be_set_again,
                    an_open_store_is_connected,
                    declared_abilities_are_there,
                    undeclared_abilities_are_none,
                    debug_of_the_store_shows_neither_key_nor_value,
                    an_error_shows_neither_key_nor_value,
                ]
                keys: [
                    hostile_keys_are_keys_like_any_other,
                    every_key_of_one_byte_is_a_key_of_its_own,
                    keys_that_differ_in_case_are_different,
                    a_key_of_255_bytes_is_not_cut,
                    a_key_that_begins_with_another_is_different,
                    a_key_that_is_a_pattern_matches_only_itself,
                ]
                expiry: [
                    an_expired_value_is_none,
                    destroy_of_an_expired_value_is_false,
                    an_expired_value_can_be_set_again,
                    an_expired_value_stays_absent,
                    a_value_lives_no_shorter_than_its_ttl,
                    the_shortest_ttl_is_no_error_and_expires,
                    long_ttls_do_not_overflow,
                    get_does_not_extend_the_ttl,
                    set_replaces_the_ttl_by_a_shorter_one,
                    set_replaces_the_ttl_by_a_longer_one,
                    every_value_has_a_ttl_of_its_own,
                ]
                handles: [
                    a_set_is_seen_by_another_handle_at_once,
                    a_destroy_is_seen_by_another_handle_at_once,
                    a_dropped_set_leaves_the_old_value_or_the_new,
                    a_dropped_set_leaves_no_value_without_its_ttl,
                    a_dropped_destroy_leaves_the_value_or_nothing,
                    a_dropped_call_leaves_the_others_their_own_answers,
                ]
            }
            atomic {}
            indexed {}
            admin {}
            concurrency {}
            races {}
        }
    };
}

macro_rules! table {
    (
        base {$($base:ident: [$($b:ident),* $(,)?])*}
        atomic {$($atomic:ident: [$($a:ident),* $(,)?])*}
        indexed {$($indexed:ident: [$($i:ident),* $(,)?])*}
        admin {$($admin:ident: [$($d:ident),* $(,)?])*}
        concurrency {$($concurrency:ident: [$($c:ident),* $(,)?])*}
        races {$($races:ident: [$($r:ident),* $(,)?])*}
    ) => {
        &[
            $($(table!(@case Group::Base, None, $base, $b),)*)*
            $($(table!(@case Group::Atomic, Some(Ability::Atomic), $atomic, $a),)*)*
            $($(table!(@case Group::Indexed, Some(Ability::Indexed), $indexed, $i),)*)*
            $($(table!(@case Group::Admin, Some(Ability::Admin), $admin, $d),)*)*
            $($(table!(@case Group::Concurrency, None, $concurrency, $c),)*)*
            $($(table!(@case Group::Concurrency, Some(Ability::Atomic), $races, $r),)*)*
        ]
    };
    (@case $group:expr, $needs:expr, $topic:ident, $name:ident) => {
        Case {
            group: $group,
            needs: $needs,
            name: stringify!($name),
            run: |cx| Box::pin($topic::$name(cx)),
        }
    };
}

static CASES: &[Case] = for_each_case! { [table] };

/// Every case, group by group.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter()
}

/// The case with this id: `base::an_absent_key_is_none`.
pub(crate) fn find(id: &str) -> Option<&'static Case> {
    let (group, name) = id.split_once("::")?;
    all().find(|case| case.group.as_str() == group && case.name == name)
}
