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
/// - `server`: where the store's backend comes from. `none`, for a store that lives inside the process.
/// - `open`: a closure from [`Env`](crate::Env) to a future of `Result<S, E>`, with `S` a
///   [`Store`](cloakroom_core::Store) and `E` anything that can be displayed. It is called at least once for each
///   test, and again with a clone of the same `Env` for a second handle onto the same data. Each test has a runtime
///   of its own, so connect here, and do not hand out a connection that was made elsewhere.
/// - `abilities`: those the store declares, any of `atomic`, `indexed` and `admin`, in any order, also none: `[]`.
///   A declared ability must be there and pass its cases; one that is not declared must be `None`, which a test
///   asserts as well. Nothing is skipped.
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
///     server: cloud,                               // unknown server `cloud`
///     open: |env: Env| async move { Ok::<_, cloakroom_core::Error>(env.shared(Reference::new)) },
///     abilities: [],
/// }
/// ```
///
/// The tests are in a module `conformance` with the sub-modules `base`, `atomic`, `indexed`, `admin` and
/// `concurrency`. To test several stores in one file, write each call in a module of its own.
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

    // Which of the three optional groups are called for: a `yes` or a `no` for each.
    (@select [$a:ident $i:ident $d:ident] atomic $($rest:ident)*) => {
        $crate::conformance_tests! { @select [yes $i $d] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident] indexed $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a yes $d] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident] admin $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a $i yes] $($rest)* }
    };
    // `@ability` has said already that it is unknown.
    (@select [$a:ident $i:ident $d:ident] $unknown:ident $($rest:ident)*) => {
        $crate::conformance_tests! { @select [$a $i $d] $($rest)* }
    };
    (@select [$a:ident $i:ident $d:ident]) => {
        $crate::for_each_case! { [$crate::conformance_tests] @write [$a $i $d] }
    };

    (@write [$has_atomic:ident $has_indexed:ident $has_admin:ident]
        base {$($bt:ident: [$($b:ident),* $(,)?])*}
        atomic {$($at:ident: [$($a:ident),* $(,)?])*}
        indexed {$($it:ident: [$($i:ident),* $(,)?])*}
        admin {$($dt:ident: [$($d:ident),* $(,)?])*}
        concurrency {$($ct:ident: [$($c:ident),* $(,)?])*}
        races {$($rt:ident: [$($r:ident),* $(,)?])*}
    ) => {
        mod conformance {
            mod base {
                $($($crate::conformance_tests! { @test "base" $b })*)*
            }
            $crate::conformance_tests! { @when $has_atomic mod atomic {
                $($($crate::conformance_tests! { @test "atomic" $a })*)*
            } }
            $crate::conformance_tests! { @when $has_indexed mod indexed {
                $($($crate::conformance_tests! { @test "indexed" $i })*)*
            } }
            $crate::conformance_tests! { @when $has_admin mod admin {
                $($($crate::conformance_tests! { @test "admin" $d })*)*
            } }
            mod concurrency {
                $($($crate::conformance_tests! { @test "concurrency" $c })*)*
                $crate::conformance_tests! { @when $has_atomic
                    $($($crate::conformance_tests! { @test "concurrency" $r })*)*
                }
            }
        }
    };
    (@when yes $($item:tt)*) => { $($item)* };
    (@when no $($item:tt)*) => {};
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
        abilities: [$($ability:ident),* $(,)?] $(,)?
    ) => {
        // Beside the module and not in it, so that the names in `open` are looked up where it was written.
        #[allow(dead_code)]
        fn conformance_subject() -> $crate::Subject {
            $crate::Subject::new($open, [$($crate::conformance_tests!(@ability $ability)),*])
        }
        $crate::conformance_tests! { @select [no no no] $($ability)* }
    };
    // A server becomes another arm like the one above, with the server's address given to the subject.
    (server: $unknown:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "unknown server `", ::core::stringify!($unknown), "`: expected `none`"
        ));
    };
}
