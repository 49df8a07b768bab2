//! The cases about servers, over a store with a server of its own kind: the good one passes, and each mutant is caught.

use std::time::Duration;

use cloakroom_conformance::{
    Ability, Env, Failure, Group, Report, Server, Subject, conformance_tests, runner,
};

use crate::{bug::Bug, store::RiverStore};

#[path = "river/bug.rs"]
mod bug;
#[path = "river/store.rs"]
mod store;

fn river() -> Server {
    Server::command(env!("CARGO_BIN_EXE_river"), "river://127.0.0.1:{port}").arg("{port}")
}

/// The same server with a file, so that it keeps what it has answered.
fn durable_river() -> Server {
    river().arg("{dir}/rows").durable()
}

fn subject(bug: Bug) -> Subject {
    on(if bug == Bug::OutageIsGone { durable_river() } else { river() }, bug)
}

fn on(server: Server, bug: Bug) -> Subject {
    let open = move |env: Env| async move { RiverStore::connect(bug, env.url(), env.namespace()).await };
    Subject::new(open, [Ability::Atomic]).server(server)
}

conformance_tests! {
    server: river,
    open: |env: Env| async move { RiverStore::connect(Bug::Nothing, env.url(), env.namespace()).await },
    abilities: [atomic],
}

#[test]
fn the_good_one_passes_on_a_server_that_keeps_what_it_has_answered() {
    for case in [
        "server::a_kill_under_load_hangs_no_request_and_answers_nothing_wrong",
        "server::an_emptied_server_ends_sessions_and_adopts_no_id",
    ] {
        passes(&on(durable_river(), Bug::Nothing), case);
    }
}

/// Each mutant, with the cases that name its bug and must fail, and cases that its bug does not concern and must pass.
///
/// Which others fail depends on the moment: with a real server, and in real time, the rest cannot be pinned.
macro_rules! mutants {
    ($($name:ident: $bug:ident => [$($case:ident),+ $(,)?] spares [$($spared:ident),+ $(,)?],)*) => {
        mod mutants {
            use super::{Bug, caught, spared};

            $(
                #[test]
                fn $name() {
                    $(caught(Bug::$bug, concat!("server::", stringify!($case)));)+
                    $(spared(Bug::$bug, concat!("server::", stringify!($spared)));)+
                }
            )*
        }

        /// Every case that a mutant names.
        const NAMED: &[&str] = &[$($(stringify!($case)),+),*];
    };
}

mutants! {
    a_status_that_never_changes_is_caught: StatusNeverChanges => [
        the_status_follows_the_servers_death_and_return,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_status_that_never_recovers_is_caught: StatusNeverRecovers => [
        the_status_follows_the_servers_death_and_return,
        the_first_request_after_the_return_succeeds,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        a_request_waits_for_the_server_no_longer_than_it_may,
    ],
    a_status_whose_start_moves_is_caught: ProbesMoveTheStart => [
        a_request_waits_for_the_server_no_longer_than_it_may,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_status_that_comes_late_is_caught: StatusComesLate => [
        the_status_follows_the_servers_death_and_return,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_status_that_rises_late_is_caught: StatusRisesLate => [
        the_status_follows_the_servers_death_and_return,
        a_kill_under_load_hangs_no_request_and_answers_nothing_wrong,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        a_request_waits_for_the_server_no_longer_than_it_may,
    ],
    a_status_that_waits_for_more_failures_is_caught: FourFailuresAreAnOutage => [
        the_status_follows_the_servers_death_and_return,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_return_that_is_not_one_yet_is_caught: WarmsUpAfterTheReturn => [
        the_first_request_after_the_return_succeeds,
        a_kill_under_load_hangs_no_request_and_answers_nothing_wrong,
    ] spares [
        a_request_waits_for_the_server_no_longer_than_it_may,
        each_operation_takes_the_round_trips_it_declares,
    ],
    an_outage_that_ends_sessions_is_caught: OutageIsGone => [
        a_kill_under_load_hangs_no_request_and_answers_nothing_wrong,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    an_outage_that_is_a_backend_error_is_caught: OutageIsABackendError => [
        a_kill_under_load_hangs_no_request_and_answers_nothing_wrong,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    a_broken_connection_that_is_handed_out_is_caught: BrokenConnectionIsHandedOut => [
        the_first_request_after_the_return_succeeds,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_wait_for_ever_is_caught: AnswersAreWaitedForForEver => [
        a_server_that_stands_still_costs_an_operation_no_more_than_the_bound,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    a_wait_that_blocks_the_thread_is_caught: WaitsBlockTheThread => [
        a_stalled_server_costs_a_request_no_more_than_the_deadline,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    answers_that_are_mixed_up_are_caught: AnswersAreMixedUp => [
        a_server_that_stands_still_costs_an_operation_no_more_than_the_bound,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    a_lost_reply_that_is_sent_again_is_caught: LostRepliesAreSentAgain => [
        a_write_whose_reply_was_lost_is_sent_once,
    ] spares [
        each_operation_takes_the_round_trips_it_declares,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_lost_reply_that_is_a_success_is_caught: LostRepliesAreSuccesses => [
        a_lost_reply_applies_no_update_twice_and_hides_behind_no_success,
        a_write_whose_reply_was_lost_is_sent_once,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    a_storm_is_caught: ReconnectsInAStorm => [
        two_hundred_clients_that_reconnect_make_no_storm,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    a_question_before_each_call_is_caught: AsksBeforeEachCall => [
        each_operation_takes_the_round_trips_it_declares,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        an_emptied_server_ends_sessions_and_adopts_no_id,
    ],
    a_question_before_every_third_call_is_caught: AsksBeforeEveryThirdCall => [
        each_operation_takes_the_round_trips_it_declares,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        an_emptied_server_ends_sessions_and_adopts_no_id,
    ],
    a_refusal_that_costs_more_than_it_says_is_caught: LooksTwiceAtConflicts => [
        each_operation_takes_the_round_trips_it_declares,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        an_emptied_server_ends_sessions_and_adopts_no_id,
    ],
    cached_reads_are_caught: ReadsAreCached => [
        a_logout_in_one_process_ends_what_the_other_has_under_way,
        ten_thousand_random_operations_agree_with_the_model,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        a_write_whose_reply_was_lost_is_sent_once,
    ],
    a_replace_that_creates_is_caught: ReplaceCreates => [
        an_emptied_server_ends_sessions_and_adopts_no_id,
        a_logout_in_one_process_ends_what_the_other_has_under_way,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        a_write_whose_reply_was_lost_is_sent_once,
    ],
    a_replace_that_reads_first_is_caught: ReplaceReadsFirst => [
        a_session_that_two_processes_change_at_once_loses_nothing,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        ten_thousand_random_operations_agree_with_the_model,
    ],
    a_ttl_that_is_only_ever_made_longer_is_caught: TouchOnlyLengthens => [
        ten_thousand_random_operations_agree_with_the_model,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
    calls_that_are_lost_late_are_caught: LateCallsAreLost => [
        ten_thousand_random_operations_agree_with_the_model,
    ] spares [
        the_status_follows_the_servers_death_and_return,
        each_operation_takes_the_round_trips_it_declares,
    ],
}

/// Fails unless the case catches the mutant.
#[track_caller]
fn caught(bug: Bug, case: &str) {
    let verdict: Result<(), Failure> = runner::test(&subject(bug), case);
    let failure = verdict.expect_err(&format!("{bug:?} passes {case}"));
    eprintln!("{bug:?}\n{failure}");
    let cause = failure.to_string();
    assert!(!cause.contains("CLOAKROOM_TEST"), "the server did not start: {cause}");
}

/// Fails unless the mutant, whose bug is another, passes the case.
#[track_caller]
fn spared(bug: Bug, case: &str) {
    eprintln!("{bug:?}");
    passes(&subject(bug), case);
}

#[track_caller]
fn passes(subject: &Subject, case: &str) {
    let verdict: Result<(), Failure> = runner::test(subject, case);
    assert!(verdict.is_ok(), "{case}: {verdict:?}");
}

#[test]
fn what_goes_over_the_wire_of_a_server_of_many_addresses_is_looked_at_on_what_stands_in_for_it() {
    let case = "server::each_operation_takes_the_round_trips_it_declares";
    let alone = on(river(), Bug::Nothing).many_addresses();
    let failure = runner::test(&alone, case).expect_err("there is no wire");
    assert!(failure.to_string().contains("`wire`"), "{failure}");
    let with = |bug| {
        let open = move |env: Env| async move { RiverStore::connect(bug, env.url(), env.namespace()).await };
        on(river(), Bug::Nothing).many_addresses().wire(river(), open)
    };
    passes(&with(Bug::Nothing), case);
    let failure = runner::test(&with(Bug::AsksBeforeEachCall), case).expect_err("it asks before each call");
    eprintln!("{failure}");
    assert!(failure.rule().contains("round trips"), "{failure}");
    passes(&with(Bug::LostRepliesAreSentAgain), case);
    let lost = "server::a_write_whose_reply_was_lost_is_sent_once";
    runner::test(&with(Bug::LostRepliesAreSentAgain), lost).expect_err("it sends it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_the_round_trips_of_what_stands_in_for_a_server_of_many_addresses() {
    let open = |env: Env| async move { RiverStore::connect(Bug::Nothing, env.url(), env.namespace()).await };
    let alone = on(river(), Bug::Nothing).many_addresses();
    let with = alone.clone().wire(river(), open);
    let mut asked = Vec::new();
    let mut report = async |subject: Subject| {
        let mut wires = 0;
        let report = subject
            .report(|id| {
                wires += usize::from(id == "server::each_operation_takes_the_round_trips_it_declares");
                Ok(Duration::ZERO)
            })
            .await;
        asked.push(wires);
        (report.round_trips().len(), Report::table(&[report]))
    };
    let (none, table) = report(alone).await;
    assert!(none == 0 && table.contains("| not counted |"), "{table}");
    let (counted, table) = report(with).await;
    assert!(counted == 7 && table.contains("| 1 |"), "{table}");
    assert_eq!(asked, [0, 1]);
}

#[test]
fn under_load_it_is_the_first_success_that_is_timed() {
    // The status is right again at once, so that nothing else can be the reason.
    let case = "server::a_kill_under_load_hangs_no_request_and_answers_nothing_wrong";
    let verdict: Result<(), Failure> = runner::test(&subject(Bug::WarmsUpAfterTheReturn), case);
    let failure = verdict.expect_err("nobody succeeds for seconds");
    assert!(failure.rule().contains("the first succeeds within a second"), "{failure}");
}

macro_rules! servers_cases {
    ($($block:ident {$($topic:ident: [$($name:ident),* $(,)?])*})*) => {
        &[$($($((stringify!($block), stringify!($name)),)*)*)*]
    };
}

const CASES: &[(&str, &str)] = cloakroom_conformance::for_each_case! { [servers_cases] };

#[test]
fn every_case_about_servers_catches_a_mutant() {
    let cases = CASES.iter().filter(|(block, _)| block.starts_with(Group::Server.as_str()));
    let idle: Vec<_> = cases.filter(|(_, name)| !NAMED.contains(name)).collect();
    assert!(idle.is_empty(), "these cases catch no mutant: {idle:?}");
}
