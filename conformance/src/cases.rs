//! The one list of cases: the macro, `run` and the mutants all read it.

use futures_util::future::BoxFuture;

use crate::{
    context::Cx,
    failure::Verdict,
    machine::Stage,
    report::Group,
    subject::{Ability, Subject},
};

mod admin;
mod bindings;
mod create;
mod destroy_user;
mod expiry;
mod handles;
mod indexed;
mod keys;
mod logs;
mod model;
mod outage;
mod parallel;
mod races;
mod remove;
mod replace;
mod server;
mod sessions;
mod status;
mod touch;
mod trips;
mod values;
mod wire;

pub(crate) use self::trips::{Trips, measure};

/// One rule of the contract and how to see whether a store keeps it.
pub(crate) struct Case {
    pub(crate) group: Group,
    pub(crate) needs: &'static [Ability],
    pub(crate) outages: Outages,
    pub(crate) stage: Stage,
    pub(crate) name: &'static str,
    pub(crate) run: fn(Cx) -> BoxFuture<'static, Verdict>,
}

/// For which stores a case is, as far as outages go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outages {
    /// For all.
    Any,
    /// For those whose connection the test can break.
    Given,
    /// For those of which it was not said how.
    NotGiven,
    /// For those that talk to a server.
    Server,
    /// For those that talk to a server of one address, or have one that stands in for it.
    Wire,
}

impl Case {
    /// Whether it is about what is logged: such cases are called so, and hear everything.
    pub(crate) fn listens(&self) -> bool {
        self.name.starts_with("a_log_")
    }

    /// How many times as long as others it may take.
    pub(crate) fn patience(&self) -> u32 {
        let rounds =
            || u32::try_from(sessions::interleavings().unwrap_or_default() / 1_000).unwrap_or(u32::MAX);
        match self.name {
            "a_logout_in_one_process_ends_what_the_other_has_under_way" => rounds().clamp(1, 100) * 4,
            // A server is slower than memory, and the cases with one make thousands of calls.
            _ if self.group == Group::Server => 4,
            _ => 1,
        }
    }

    pub(crate) fn is_called_for(&self, subject: &Subject) -> bool {
        let outages = match self.outages {
            Outages::Any => true,
            Outages::Given => subject.has_outage(),
            Outages::NotGiven => !subject.has_outage(),
            Outages::Server => subject.source.is_some(),
            Outages::Wire => subject.has_wire(),
        };
        subject.wants(self.group) && outages && self.needs.iter().all(|ability| subject.declares(*ability))
    }
}

/// Hands the list of all cases to another macro.
///
/// The list is what [`conformance_tests!`](crate::conformance_tests) and [`run`](crate::run) are made from; call it
/// to make a harness of another kind. `for_each_case! { [path::to::mac] args }` becomes
/// `path::to::mac! { args base {..} steady {..} atomic {..} … }`, where each pair of braces holds `topic: [case, …]`
/// one after another:
///
/// | block | group | for stores with |
/// |---|---|---|
/// | `base` | `base` | |
/// | `steady` | `base` | no outage given |
/// | `atomic`, `indexed`, `admin` | of the same name | the ability |
/// | `bindings` | `admin` | `indexed` and `admin` |
/// | `concurrency` | `concurrency` | |
/// | `races` | `concurrency` | `atomic` |
/// | `status` | `status` | an outage given |
/// | `status_atomic`, `status_indexed`, `status_admin` | `status` | an outage given, and the ability |
/// | `server` | `server` | a server |
/// | `server_sessions` | `server` | a server, and `atomic` |
/// | `server_model` | `server` | a server |
/// | `server_wire` | `server` | a server of one address, or one that stands in for it |
/// | `server_wire_atomic` | `server` | the same, and `atomic` |
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
                    the_longest_key_is_not_cut,
                    a_key_that_is_too_long_is_a_bad_value_and_changes_nothing,
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
                    many_handles_can_be_opened_at_once,
                    a_dropped_set_leaves_the_old_value_or_the_new,
                    a_dropped_set_leaves_no_value_without_its_ttl,
                    a_dropped_destroy_leaves_the_value_or_nothing,
                    a_dropped_call_leaves_the_others_their_own_answers,
                ]
                logs: [
                    a_log_shows_neither_key_nor_value,
                ]
                model: [
                    a_random_walk_agrees_with_the_model,
                ]
            }
            steady {
                status: [
                    a_store_that_cannot_be_cut_off_stays_connected,
                ]
            }
            atomic {
                create: [
                    create_under_an_absent_key_stores_and_is_true,
                    create_gives_the_value_its_ttl,
                    create_under_a_live_key_is_false_and_keeps_the_value,
                    create_that_is_false_does_not_lengthen_the_ttl,
                    create_that_is_false_does_not_shorten_the_ttl,
                    create_over_an_expired_value_is_true,
                    create_after_destroy_is_true,
                    what_is_created_is_an_ordinary_value,
                    an_oversized_create_is_kept_or_is_too_large,
                    a_dropped_create_leaves_nothing_or_the_value,
                ]
                replace: [
                    replace_of_the_expected_value_is_done,
                    replace_of_another_value_is_a_conflict_with_the_latest,
                    a_conflicting_replace_changes_nothing,
                    a_conflicting_replace_does_not_lengthen_the_ttl,
                    replace_compares_every_byte,
                    replace_of_an_absent_key_is_gone_and_creates_nothing,
                    replace_of_an_expired_value_is_gone_and_creates_nothing,
                    replace_after_destroy_is_gone_and_creates_nothing,
                    replace_by_the_same_value_renews_the_ttl,
                    replace_sets_a_longer_ttl,
                    replace_sets_a_shorter_ttl,
                    replace_changes_only_its_key,
                    an_oversized_replace_is_kept_or_is_too_large,
                    a_dropped_replace_leaves_the_old_value_or_the_new,
                ]
                remove: [
                    remove_of_the_expected_value_is_done_and_removes_it,
                    remove_of_another_value_is_a_conflict_with_the_latest,
                    a_conflicting_remove_keeps_the_value,
                    a_conflicting_remove_keeps_the_ttl,
                    remove_compares_every_byte,
                    remove_of_an_absent_key_is_gone,
                    remove_of_an_expired_value_is_gone,
                    remove_after_destroy_is_gone,
                    remove_removes_only_its_key,
                    a_dropped_remove_leaves_the_value_or_nothing,
                ]
                touch: [
                    touch_extends_the_ttl,
                    touch_shortens_the_ttl,
                    touch_keeps_the_value,
                    touch_writes_no_old_value_back,
                    touch_of_an_absent_key_is_false_and_creates_nothing,
                    touch_of_an_expired_value_is_false_and_does_not_revive_it,
                    touch_after_destroy_is_false_and_creates_nothing,
                    touch_changes_only_its_key,
                    a_dropped_touch_keeps_the_value,
                ]
                model: [
                    a_random_walk_with_conditions_agrees_with_the_model,
                ]
            }
            indexed {
                indexed: [
                    a_bound_key_is_listed,
                    an_unknown_user_has_no_keys,
                    a_binding_is_seen_by_another_handle,
                    a_key_bound_before_its_value_is_listed_when_it_has_one,
                    a_binding_waits_for_its_value,
                    bind_to_no_user_at_all_is_a_bad_value_and_changes_nothing,
                    a_destroyed_key_is_not_listed,
                    destroy_leaves_the_binding,
                    an_expired_key_is_not_listed,
                    binding_again_lists_the_key_once,
                    binding_again_renews_the_binding,
                    an_expired_binding_is_not_listed,
                    binding_to_another_user_moves_the_key,
                    bind_leaves_value_and_ttl_alone,
                    a_binding_survives_writes_to_the_value,
                    users_are_told_apart_whatever_their_names,
                ]
                destroy_user: [
                    destroy_user_removes_every_value_of_the_user,
                    destroy_user_spares_the_excepted_key,
                    an_excepted_key_of_somebody_else_spares_nothing,
                    destroy_user_of_an_unknown_user_is_zero,
                    destroy_user_leaves_other_users_alone,
                    destroy_user_counts_only_live_values,
                    destroy_user_leaves_keys_whose_binding_has_expired,
                    destroy_user_leaves_the_bindings,
                    a_user_may_have_many_keys,
                    destroy_user_removes_all_that_was_bound_before_it,
                ]
            }
            admin {
                admin: [
                    an_empty_store_has_nothing_to_scan_count_clear_or_sweep,
                    a_scan_yields_every_key_with_its_exact_text,
                    a_scan_yields_live_keys_only,
                    a_scan_yields_every_one_of_many_keys,
                    a_key_that_lives_through_a_scan_is_yielded,
                    other_calls_are_carried_out_during_a_scan,
                    len_counts_live_values_only,
                    clear_removes_every_value_and_counts_the_live_ones,
                    a_neighbour_is_neither_scanned_nor_counted,
                    clear_leaves_the_neighbours_alone,
                    sweep_never_deletes_a_live_value,
                    sweep_deletes_at_most_its_limit,
                    sweep_of_live_values_only_is_zero,
                    a_swept_key_is_absent_and_free,
                ]
            }
            bindings {
                bindings: [
                    clear_removes_the_bindings_of_the_values,
                    sweep_keeps_the_bindings_of_live_values,
                    sweep_keeps_a_binding_that_waits_for_its_value,
                ]
            }
            concurrency {
                parallel: [
                    no_reader_sees_half_a_value,
                    parallel_writers_of_different_keys_lose_nothing,
                    of_parallel_destroys_exactly_one_is_true,
                ]
            }
            races {
                races: [
                    of_parallel_creates_exactly_one_wins,
                    of_parallel_creates_over_an_expired_value_exactly_one_wins,
                    of_parallel_replaces_of_one_value_exactly_one_is_done,
                    a_counter_that_many_tasks_increment_loses_nothing,
                    a_destroyed_value_is_never_replaced_back,
                    a_destroyed_value_is_never_touched_back,
                    a_touch_never_undoes_a_replace,
                    of_remove_and_replace_exactly_one_wins,
                ]
            }
            status {
                status: [
                    the_stream_yields_the_level_first_and_then_each_change,
                    an_outage_shows_within_a_second,
                    the_end_of_an_outage_shows_within_a_second_though_nobody_calls,
                    the_start_of_an_outage_does_not_move,
                    every_outage_has_a_start_of_its_own,
                    two_handles_both_notice_an_outage_and_its_end,
                    slow_and_dropped_subscribers_block_nobody,
                    many_outages_in_a_row_end_in_the_right_state,
                ]
                outage: [
                    a_read_in_an_outage_is_never_an_answer,
                    a_write_in_an_outage_is_never_a_success,
                    an_outage_is_unavailable_or_a_timeout_and_nothing_else,
                    an_operation_in_an_outage_ends_in_bounded_time,
                    the_first_operations_after_an_outage_succeed,
                    what_was_stored_before_an_outage_is_there_after_it,
                    a_write_that_an_outage_failed_is_whole_or_not_there,
                    a_write_that_an_outage_failed_does_not_come_late,
                ]
                logs: [
                    a_log_of_an_outage_shows_neither_key_nor_value,
                ]
            }
            status_atomic {
                outage: [
                    a_conditional_write_in_an_outage_is_never_an_answer,
                    a_conditional_write_that_an_outage_failed_is_whole_or_not_there,
                ]
            }
            status_indexed {
                outage: [
                    the_index_in_an_outage_is_never_an_answer,
                    a_user_bound_before_an_outage_is_found_after_it,
                ]
            }
            status_admin {
                outage: [
                    administration_in_an_outage_is_never_an_answer,
                ]
            }
            server {
                server: [
                    the_status_follows_the_servers_death_and_return,
                    a_request_waits_for_the_server_no_longer_than_it_may,
                    the_first_request_after_the_return_succeeds,
                    a_kill_under_load_hangs_no_request_and_answers_nothing_wrong,
                    a_server_that_stands_still_costs_an_operation_no_more_than_the_bound,
                    an_emptied_server_ends_sessions_and_adopts_no_id,
                ]
            }
            server_sessions {
                sessions: [
                    a_session_that_two_processes_change_at_once_loses_nothing,
                    a_logout_in_one_process_ends_what_the_other_has_under_way,
                ]
            }
            server_model {
                sessions: [
                    ten_thousand_random_operations_agree_with_the_model,
                ]
            }
            server_wire {
                wire: [
                    a_stalled_server_costs_a_request_no_more_than_the_deadline,
                    two_hundred_clients_that_reconnect_make_no_storm,
                ]
                trips: [
                    each_operation_takes_the_round_trips_it_declares,
                ]
            }
            server_wire_atomic {
                wire: [
                    a_lost_reply_applies_no_update_twice_and_hides_behind_no_success,
                    a_write_whose_reply_was_lost_is_sent_once,
                ]
            }
        }
    };
}

macro_rules! table {
    ($($block:ident {$($topic:ident: [$($name:ident),* $(,)?])*})*) => {
        &[$($($(table!(@case $block, $topic, $name),)*)*)*]
    };
    (@case $block:ident, $topic:ident, $name:ident) => {
        Case { name: stringify!($name), run: |cx| Box::pin($topic::$name(cx)), ..block::$block }
    };
}

/// What the cases of each block of the list have in common.
#[allow(non_upper_case_globals)]
mod block {
    use super::{Ability, Case, Group, Outages, Stage};

    const fn of(group: Group, needs: &'static [Ability], outages: Outages) -> Case {
        let stage = match group {
            Group::Status => Stage::Cut,
            _ => Stage::Shared,
        };
        Case { group, needs, outages, stage, name: "", run: |_| Box::pin(async { Ok(()) }) }
    }

    pub(super) const base: Case = of(Group::Base, &[], Outages::Any);
    pub(super) const steady: Case = of(Group::Base, &[], Outages::NotGiven);
    pub(super) const atomic: Case = of(Group::Atomic, &[Ability::Atomic], Outages::Any);
    pub(super) const indexed: Case = of(Group::Indexed, &[Ability::Indexed], Outages::Any);
    pub(super) const admin: Case = of(Group::Admin, &[Ability::Admin], Outages::Any);
    pub(super) const bindings: Case = of(Group::Admin, &[Ability::Indexed, Ability::Admin], Outages::Any);
    pub(super) const concurrency: Case = of(Group::Concurrency, &[], Outages::Any);
    pub(super) const races: Case = of(Group::Concurrency, &[Ability::Atomic], Outages::Any);
    pub(super) const status: Case = of(Group::Status, &[], Outages::Given);
    pub(super) const status_atomic: Case = of(Group::Status, &[Ability::Atomic], Outages::Given);
    pub(super) const status_indexed: Case = of(Group::Status, &[Ability::Indexed], Outages::Given);
    pub(super) const status_admin: Case = of(Group::Status, &[Ability::Admin], Outages::Given);
    pub(super) const server: Case = Case { stage: Stage::Own, ..of(Group::Server, &[], Outages::Server) };
    pub(super) const server_sessions: Case = of(Group::Server, &[Ability::Atomic], Outages::Server);
    pub(super) const server_model: Case = of(Group::Server, &[], Outages::Server);
    pub(super) const server_wire: Case = Case { stage: Stage::Wire, ..of(Group::Server, &[], Outages::Wire) };
    pub(super) const server_wire_atomic: Case =
        Case { stage: Stage::Wire, ..of(Group::Server, &[Ability::Atomic], Outages::Wire) };
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
