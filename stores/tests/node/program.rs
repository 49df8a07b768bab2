//! Node programs: their packages installed once, each started for one test and ended with it.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where the programs are, and what they need.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/programs");

const HELP: &str = "these tests need Node 20 or later with npm, and reach the npm registry once: \
                    `apt-get install nodejs npm`, or see https://nodejs.org";

/// A running program. It ends with this value, and with the process of the test, whatever becomes of that.
pub(crate) struct Program {
    child: Child,
    site: String,
}

impl Program {
    /// Starts `programs/<name>.cjs` and waits until it listens.
    pub(crate) fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("node")
            .arg(format!("{PROGRAMS}/{name}.cjs"))
            .env("NODE_PATH", installed().join("node_modules"))
            .envs(environment.iter().copied())
            // The program ends when its standard input does.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect(HELP);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on ").expect("the program says where it listens");
        let site = format!("http://127.0.0.1:{port}");
        Self { child, site }
    }

    pub(crate) fn site(&self) -> &str {
        &self.site
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the folder with the packages that the lock file pins, installed if need be.
fn installed() -> PathBuf {
    let lock = fs::read(format!("{PROGRAMS}/package-lock.json")).unwrap();
    let mut hash = DefaultHasher::new();
    lock.hash(&mut hash);
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = temporary.join(format!("node-{:016x}", hash.finish()));
    if !folder.exists() {
        // Beside it first, and moved when it is whole. Another test may be doing the same: either result will do.
        let staging = temporary.join(format!("node-{:016x}.{}", hash.finish(), std::process::id()));
        fs::create_dir_all(&staging).unwrap();
        for file in ["package.json", "package-lock.json"] {
            fs::copy(format!("{PROGRAMS}/{file}"), staging.join(file)).unwrap();
        }
        let npm = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&staging)
            .status();
        assert!(npm.expect(HELP).success(), "npm ci failed: {HELP}");
        if fs::rename(&staging, &folder).is_err() {
            fs::remove_dir_all(&staging).unwrap();
        }
    }
    folder
}
