//! `conformance_tests!`: one named test for each case.

/// Writes one `#[test]` for each rule of the store contract.
///
/// ```
/// use cloakroom_conformance::{Env, Reference, conformance_tests};
///
/// conformance_tests! {
///     server: none,
///     open: |env: Env| async move { Ok::<_, cloakroom_core::Error>(env.shared(Reference::new)) },
///     abilities: [atomic, indexed, admin],
/// }
/// ```
///
/// - `server`: where the store's backend comes from. `none`, for a store that lives inside the process; or, with the
///   feature `servers`, anything that can be called and returns a [`Server`](crate::Server): `Server::redis`,
///   `|| Server::redis().arg("--maxmemory").arg("64mb")`. Its address is [`Env::url`](crate::Env::url). The cases of
///   `status` are then written also without an `outage`: they break connections by a proxy.
/// - `open`: a closure from [`Env`](crate::Env) to a future of `Result<S, E>`, with `S` a
///   [`Store`](cloakroom_core::Store) and `E` anything that can be displayed. It is called at least once for each
///   test, and again with a clone of the same `Env` for a second handle onto the same data. Each test has a runtime
///   of its own, so connect here, and do not hand out a connection that was made elsewhere.
/// - `abilities`: those the store declares, any of `atomic`, `indexed` and `admin`, in any order, also none: `[]`.
///   A declared ability must be there and pass its cases; one that is not declared must be `None`, which a test
///   asserts as well. Nothing is skipped.
/// - `round_trips`, may be left out, for a store with a server: how many round trips an operation takes where it is not
///   one: `round_trips: [KeysOf: 2, DestroyUser: 3]`. What is counted on the wire must be exactly this.
/// - `refusals`, may be left out: the same for an operation that answers `None`, `false`, `Gone` or `Conflict`, of several
///   such answers the one that takes most. Where it is left out, that takes at most one more than otherwise.
/// - `addresses: many`, for a server that tells its clients further addresses, as a cluster does. No proxy can stand
///   before it, so the cases of `status` stop all of it, and those about what goes over the wire are only written with
///   `wire`.
/// - `wire`, after `addresses: many`: what stands in for the server in the cases about what goes over the wire, a server
///   of one address and a closure as `open`: `wire: { server: one_node, open: by_the_proxy }`. The closure gets the
///   address of a proxy and must have the store go by it alone; see [`Subject::wire`](crate::Subject::wire).
/// - `longest_key`, may be left out: the longest key the store takes, in bytes, from 128. 255 unless given.
/// - `outage`, may be left out: a closure from [`&Env`](crate::Env) to an [`Outage`](crate::Outage), which takes the
///   backend of that place away and brings it back. With it the cases of `status` are written. Without it there is one
///   test that the store stays connected.
///
/// ```
/// use cloakroom_conformance::{Env, Reference, Switch, conformance_tests};
///
/// fn switched(env: &Env) -> Switch<Reference> {
///     env.shared(|| Switch::new(Reference::new()))
/// }
///
/// conformance_tests! {
///     server: none,
///     open: |env: Env| async move { Ok::<_, cloakroom_core::Error>(switched(&env)) },
///     abilities: [atomic, indexed, admin],
///     longest_key: 255,
///     outage: switched,
/// }
/// ```
///
/// A word it does not know is an error where it stands:
///
/// ```compile_fail
/// # use cloakroom_conformance::{Env, Reference, conformance_tests};
/// conformance_tests! {
///     server: none,
///     open: |env: Env| async move { Ok::<_, cloakroom_core::Error>(env.shared(Reference::new)) },
///     abilities: [atomic, telepathic],             // unknown ability `telepathic`
/// }
/// ```
/// ```compile_fail
/// # use cloakroom_conformance::{Env, Reference, conformance_tests};
/// conformance_tests! {
///     server: cloud,                               // no such function
///     open: |env: Env| async move { Ok::<_, cloakroom_core::Error>(env.shared(Reference::new)) },
///     abilities: [],
/// }
/// ```
///
/// The tests are in a module `conformance` with the sub-modules `base`, `atomic`, `indexed`, `admin`,
/// `concurrency`, `status` and `server`. To test several stores in one file, write each call in a module of its own.
#[macro_export]
macro_rules! conformance_tests {
    (@ability atomic) => { $crate::Ability::Atomic };
    (@ability indexed) => { $crate::Ability::Indexed };
    (@ability admin) => { $crate::Ability::Admin };
    (@ability $unknown:ident) => {
        ::core::compile_error!(::core::concat!(
            "unknown ability `", ::core::stringify!($unknown), "`: expected `atomic`, `indexed` or `admin`"
        ))
    };

    // Which of the optional groups are called for: a `yes` or a `no` for each ability, then for outages, for a server,
    // and for what goes over the wire to it.
    (@select [$a:ident $i:ident $d:ident $($o:ident)*] atomic $($rest:ident)*) => {
        $crate::conformance_tests! { @select [yes $i $d $($o)*] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident $($o:ident)*] indexed $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a yes $d $($o)*] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident $($o:ident)*] admin $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a $i yes $($o)*] $($rest)* }
    };
    // `@ability` has said already that it is unknown.
    (@select [$a:ident $i:ident $d:ident $($o:ident)*] $unknown:ident $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a $i $d $($o)*] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident $($o:ident)*]) => {
        $crate::for_each_case! { [$crate::conformance_tests] @write [$a $i $d $($o)*] }
    };

    (@write [
        $has_atomic:ident $has_indexed:ident $has_admin:ident $has_outage:ident $has_server:ident $has_wire:ident
    ]
        base {$($bt:ident: [$($b:ident),* $(,)?])*}
        steady {$($yt:ident: [$($y:ident),* $(,)?])*}
        atomic {$($at:ident: [$($a:ident),* $(,)?])*}
        indexed {$($it:ident: [$($i:ident),* $(,)?])*}
        admin {$($dt:ident: [$($d:ident),* $(,)?])*}
        bindings {$($gt:ident: [$($g:ident),* $(,)?])*}
        concurrency {$($ct:ident: [$($c:ident),* $(,)?])*}
        races {$($rt:ident: [$($r:ident),* $(,)?])*}
        status {$($st:ident: [$($s:ident),* $(,)?])*}
        status_atomic {$($sat:ident: [$($sa:ident),* $(,)?])*}
        status_indexed {$($sit:ident: [$($si:ident),* $(,)?])*}
        status_admin {$($sdt:ident: [$($sd:ident),* $(,)?])*}
        server {$($vt:ident: [$($v:ident),* $(,)?])*}
        server_sessions {$($vst:ident: [$($vs:ident),* $(,)?])*}
        server_model {$($vmt:ident: [$($vm:ident),* $(,)?])*}
        server_wire {$($wt:ident: [$($w:ident),* $(,)?])*}
        server_wire_atomic {$($wat:ident: [$($wa:ident),* $(,)?])*}
    ) => {
        mod conformance {
            mod base {
                $($($crate::conformance_tests! { @test "base" $b })*)*
                $crate::conformance_tests! { @unless $has_outage
                    $($($crate::conformance_tests! { @test "base" $y })*)*
                }
            }
            $crate::conformance_tests! { @when $has_atomic mod atomic {
                $($($crate::conformance_tests! { @test "atomic" $a })*)*
            } }
            $crate::conformance_tests! { @when $has_indexed mod indexed {
                $($($crate::conformance_tests! { @test "indexed" $i })*)*
            } }
            $crate::conformance_tests! { @when $has_admin mod admin {
                $($($crate::conformance_tests! { @test "admin" $d })*)*
                $crate::conformance_tests! { @when $has_indexed
                    $($($crate::conformance_tests! { @test "admin" $g })*)*
                }
            } }
            mod concurrency {
                $($($crate::conformance_tests! { @test "concurrency" $c })*)*
                $crate::conformance_tests! { @when $has_atomic
                    $($($crate::conformance_tests! { @test "concurrency" $r })*)*
                }
            }
            $crate::conformance_tests! { @when $has_outage mod status {
                $($($crate::conformance_tests! { @test "status" $s })*)*
                $crate::conformance_tests! { @when $has_atomic
                    $($($crate::conformance_tests! { @test "status" $sa })*)*
                }
                $crate::conformance_tests! { @when $has_indexed
                    $($($crate::conformance_tests! { @test "status" $si })*)*
                }
                $crate::conformance_tests! { @when $has_admin
                    $($($crate::conformance_tests! { @test "status" $sd })*)*
                }
            } }
            $crate::conformance_tests! { @when $has_server mod server {
                $($($crate::conformance_tests! { @test "server" $v })*)*
                $($($crate::conformance_tests! { @test "server" $vm })*)*
                $crate::conformance_tests! { @when $has_atomic
                    $($($crate::conformance_tests! { @test "server" $vs })*)*
                }
                $crate::conformance_tests! { @when $has_wire
                    $($($crate::conformance_tests! { @test "server" $w })*)*
                    $crate::conformance_tests! { @when $has_atomic
                        $($($crate::conformance_tests! { @test "server" $wa })*)*
                    }
                }
            } }
        }
    };
    (@when yes $($item:tt)*) => { $($item)* };
    (@when no $($item:tt)*) => {};
    (@unless yes $($item:tt)*) => {};
    (@unless no $($item:tt)*) => { $($item)* };
    (@test $group:literal $name:ident) => {
        #[test]
        fn $name() -> ::core::result::Result<(), $crate::Failure> {
            let id = ::core::concat!($group, "::", ::core::stringify!($name));
            $crate::runner::test(&super::super::conformance_subject(), id)
        }
    };

    (
        server: none,
        open: $open:expr,
        abilities: [$($ability:ident),* $(,)?]
        $(, longest_key: $longest_key:expr)?,
        outage: $outage:expr $(,)?
    ) => {
        // Beside the module and not in it, so that the names in `open` are looked up where it was written.
        #[allow(dead_code)]
        fn conformance_subject() -> $crate::Subject {
            $crate::Subject::new($open, [$($crate::conformance_tests!(@ability $ability)),*])
                $(.longest_key($longest_key))?
                .outage($outage)
        }
        $crate::conformance_tests! { @select [no no no yes no no] $($ability)* }
    };
    (
        server: none,
        open: $open:expr,
        abilities: [$($ability:ident),* $(,)?]
        $(, longest_key: $longest_key:expr)? $(,)?
    ) => {
        #[allow(dead_code)]
        fn conformance_subject() -> $crate::Subject {
            $crate::Subject::new($open, [$($crate::conformance_tests!(@ability $ability)),*])
                $(.longest_key($longest_key))?
        }
        $crate::conformance_tests! { @select [no no no no no no] $($ability)* }
    };
    (
        server: $server:expr,
        open: $open:expr,
        abilities: [$($ability:ident),* $(,)?]
        $(, longest_key: $longest_key:expr)?
        $(, outage: $outage:expr)?
        $(, round_trips: [$($operation:ident: $trips:expr),* $(,)?])?
        $(, refusals: [$($refused:ident: $refusal:expr),* $(,)?])?
        $(, addresses: $addresses:ident $(, wire: { server: $stand_in:expr, open: $by:expr $(,)? })?)? $(,)?
    ) => {
        #[allow(dead_code)]
        fn conformance_subject() -> $crate::Subject {
            $crate::conformance_tests! { @addresses [$($addresses)?]
                $crate::Subject::new($open, [$($crate::conformance_tests!(@ability $ability)),*])
                    .server(($server)())
                    $(.longest_key($longest_key))?
                    $(.outage($outage))?
                    $($(.round_trips($crate::Operation::$operation, $trips))*)?
                    $($(.refusals($crate::Operation::$refused, $refusal))*)?
                    $($(.wire(($stand_in)(), $by))?)?
            }
        }
        $crate::conformance_tests! { @servers [$($addresses $(by $stand_in)?)?] $($ability)* }
    };
    (@addresses [] $subject:expr) => { $subject };
    (@addresses [many] $subject:expr) => { $subject.many_addresses() };
    (@servers [] $($ability:ident)*) => {
        $crate::conformance_tests! { @select [no no no yes yes yes] $($ability)* }
    };
    (@servers [many by $stand_in:expr] $($ability:ident)*) => {
        $crate::conformance_tests! { @select [no no no yes yes yes] $($ability)* }
    };
    (@servers [many] $($ability:ident)*) => {
        $crate::conformance_tests! { @select [no no no yes yes no] $($ability)* }
    };
}
