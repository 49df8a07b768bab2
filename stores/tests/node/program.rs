//! Node programs: their packages installed once, each started for one test and ended with it.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
};

/// Where the programs are, and what they need.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/programs");

const HELP: &str = "these tests need Node 20.8 or later with npm, and reach the npm registry once: \
                    `apt-get install nodejs npm`, or see https://nodejs.org; where no SQLite for Node can be fetched, \
                    it is built: `apt-get install build-essential python3 libnode-dev`";

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
    let name = format!("node-{:016x}", hash.finish());
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = temporary.join(&name);
    while !folder.exists() {
        let turn = Turn::take(&env::temp_dir().join(format!("{name}.socket")));
        if turn.is_some() && !folder.exists() {
            // Beside it first, and moved when it is whole.
            let staging = temporary.join(format!("{name}.{}", process::id()));
            install(&staging);
            if fs::rename(&staging, &folder).is_err() {
                fs::remove_dir_all(&staging).unwrap();
            }
        }
    }
    folder
}

fn install(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("{PROGRAMS}/{file}"), folder.join(file)).unwrap();
    }
    npm(
        folder,
        &["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"],
    );
    // The one package that is not JavaScript alone: fetched as it was built for this machine, else built.
    npm(folder, &["rebuild", "sqlite3", "--ignore-scripts=false", "--loglevel=error"]);
}

fn npm(folder: &Path, arguments: &[&str]) {
    let mut npm = Command::new("npm");
    // Without optimisation, which would take a minute that no test gets back.
    npm.args(arguments).current_dir(folder).envs([("CFLAGS", "-O0"), ("CXXFLAGS", "-O0")]);
    // What is built needs the headers of Node: those that came with it, where they did, instead of a download.
    if let Some(prefix) = headers() {
        npm.env("npm_config_nodedir", prefix);
    }
    let status = npm.stdout(Stdio::null()).status().expect(HELP);
    assert!(status.success(), "npm {} failed: {HELP}", arguments.join(" "));
}

/// Returns the folder whose `include/node` has the headers of this Node, if there is one.
fn headers() -> Option<PathBuf> {
    let node = Command::new("node").args(["-p", "process.execPath"]).output().expect(HELP);
    let node = PathBuf::from(String::from_utf8(node.stdout).unwrap().trim());
    let prefix = node.parent()?.parent()?.to_path_buf();
    prefix.join("include/node/node_api.h").exists().then_some(prefix)
}

/// The turn to install, which one process has at a time. It ends with this value, and with the process.
struct Turn {
    path: PathBuf,
    _listener: UnixListener,
}

impl Turn {
    /// Takes it, or waits until whoever has it is done and returns `None`.
    fn take(path: &Path) -> Option<Self> {
        if let Ok(listener) = UnixListener::bind(path) {
            return Some(Self { path: path.to_owned(), _listener: listener });
        }
        match UnixStream::connect(path) {
            // Nothing is ever sent: this ends with the listener.
            Ok(mut other) => drop(other.read(&mut [0])),
            // Its process is gone. Two may find that at once and both install: either result will do.
            Err(_) => drop(fs::remove_file(path)),
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
