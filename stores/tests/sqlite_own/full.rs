//! A full disk: simulated everywhere, and a real one on Linux, which lets anybody mount one in a namespace of its own.

#[cfg(target_os = "linux")]
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use cloakroom::{AdminStore, AtomicStore, ErrorKind, SqliteStore, Store, Swapped};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::{
    File,
    sql::place::{LONG, Place, key},
};

#[tokio::test]
async fn a_full_disk_is_a_clear_error_and_nothing_is_lost() {
    let place = File::make().await;
    place.table("full").await.set(&key("a"), "before".into(), LONG).await.unwrap();
    // What SQLite answers is the same whether the disk is full or the file may not grow.
    let options: SqliteConnectOptions = place.folder.url().parse().unwrap();
    let pages = place.number("PRAGMA page_count").await.to_string();
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options.pragma("max_page_count", pages)).await.unwrap();
    let store = SqliteStore::builder().table("full").from_pool(pool).unwrap();
    for (name, error) in [
        ("set", store.set(&key("a"), vec![1; 100_000].into(), LONG).await.unwrap_err()),
        ("create", store.create(&key("b"), vec![1; 100_000].into(), LONG).await.unwrap_err()),
        ("replace", store.replace(&key("a"), b"before", vec![1; 100_000].into(), LONG).await.unwrap_err()),
    ] {
        assert_eq!((error.kind(), error.failed_operation()), (ErrorKind::Backend, Some(name)), "{error}");
        assert!(error.to_string().contains("disk is full"), "{error}");
    }
    assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&b"before"[..]));
    assert_eq!(store.len().await.unwrap(), 1);
    // And what needs no room goes on.
    assert_eq!(store.replace(&key("a"), b"before", "after".into(), LONG).await.unwrap(), Swapped::Done);
}

/// What this test is told by, when it runs in a namespace of its own.
#[cfg(target_os = "linux")]
const APART: &str = "CLOAKROOM_TEST_APART";

/// A disk of its own in memory, gone when this is dropped.
#[cfg(target_os = "linux")]
struct Disk(PathBuf);

#[cfg(target_os = "linux")]
impl Disk {
    /// Mounts one of so many MiB, or says why it cannot.
    fn mount(path: &Path, mib: u32) -> Result<Self, String> {
        std::fs::create_dir_all(path).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"], path)?;
        Ok(Self(path.to_owned()))
    }

    fn grow(&self, mib: u32) {
        run("mount", &["-o", &format!("remount,size={mib}m")], &self.0).unwrap();
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy"], &self.0);
    }
}

#[cfg(target_os = "linux")]
fn run(program: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).arg(path).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Runs this one test again where its process may mount what it likes.
#[cfg(target_os = "linux")]
fn run_apart(reason: &str) {
    const NAME: &str = "full::a_disk_that_is_really_full_is_a_clear_error_and_nothing_is_lost";
    const CURE: &str = "run the tests as root with the right to mount, or allow user namespaces: \
                        sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 \
                        kernel.apparmor_restrict_unprivileged_userns=0; for docker: --cap-add SYS_ADMIN";
    assert!(
        std::env::var_os(APART).is_none(),
        "no disk can be mounted, in no namespace either: {reason}; {CURE}"
    );
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]).arg(program).args(["--exact", NAME, "--nocapture"]);
    let output = command.env(APART, "1").output();
    let output =
        output.unwrap_or_else(|error| panic!("no disk can be mounted ({reason}), and no `unshare`: {error}"));
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        output.status.success(),
        "no disk can be mounted here ({reason}), and in a namespace: {told}; {CURE}"
    );
    assert!(told.contains("1 passed"), "the test has another name by now: {told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_is_really_full_is_a_clear_error_and_nothing_is_lost() {
    let place = File::make().await;
    let folder = place.folder.path().join("disk");
    let disk = match Disk::mount(&folder, 1) {
        Ok(disk) => disk,
        // Only the superuser may, and not in every container.
        Err(reason) => return run_apart(&reason),
    };
    let url = format!("sqlite://{}/sessions.db", folder.display());
    let store = SqliteStore::builder().max_connections(2).sweep_every(None).connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    let value = |number: usize| vec![u8::try_from(number % 251).unwrap(); 50_000];
    let mut stored = 0;
    let error = loop {
        match store.set(&key(&format!("key-{stored}")), value(stored).into(), LONG).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk is never full");
    };
    assert_eq!((error.kind(), error.failed_operation()), (ErrorKind::Backend, Some("set")), "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert!(stored > 3, "{stored} values fit");
    // Here, and for whoever opens the file now.
    let other = SqliteStore::builder().max_connections(1).sweep_every(None).connect(&url).await.unwrap();
    for store in [&store, &other] {
        for number in 0..stored {
            let found = store.get(&key(&format!("key-{number}"))).await.unwrap();
            assert_eq!(found.as_deref(), Some(&value(number)[..]));
        }
        assert_eq!(store.len().await.unwrap(), stored as u64);
    }
    disk.grow(8);
    store.set(&key("more"), value(1).into(), LONG).await.unwrap();
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(store.pool()).await.unwrap();
    assert_eq!(sound, "ok");
    store.pool().close().await;
    other.pool().close().await;
}
