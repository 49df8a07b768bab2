//! A server as a program of this machine, in a temporary folder of its own.

use std::{
    collections::hash_map::RandomState,
    env, fmt, fs,
    hash::{BuildHasher, Hasher},
    io::{self, BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    failure::{Failure, Verdict},
    server::{family, lifeline::Lifeline},
};

/// How long a server may take to end by itself.
const PEACE: Duration = Duration::from_secs(5);

/// Starts the program when it is told to, says when it ends, passes signals on. At the end of its input, which is the
/// end of the test, it ends the program and removes the folder.
const SUPERVISOR: &str = r#"
folder=$1 last=$2
shift 2
while read -r word rest; do
  case $word in
    start)
      (
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server" >"$folder/pid"
        echo "started $server"
        wait "$server"
        rm -f "$folder/pid"
        echo ended
      ) &
      ;;
    signal) kill $rest ;;
  esac
done
if [ -e "$folder/pid" ]; then
  server=$(cat "$folder/pid")
  kill -CONT "$server"
  kill "-$last" "$server"
fi
wait
rm -rf "$folder"
"#;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// What must have run once before: it makes the data of a new server.
    pub(crate) before: Option<(PathBuf, Vec<String>)>,
    /// Ends it without delay.
    pub(crate) last: Signal,
    /// Ends it in peace.
    pub(crate) stop: Signal,
}

/// What can be sent to a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Int,
    Term,
    Quit,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ended,
    Running(u32),
}

/// A folder that the program may write to, and whose it is.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The user that the program runs as, if not our own: several servers refuse to run as root.
    user: Option<(u32, u32)>,
}

impl Folder {
    /// Makes a fresh folder. If we are root it belongs to the first of `users` that this machine has.
    pub(crate) fn new(users: &[&str]) -> Verdict<Self> {
        let path = fresh(&env::temp_dir(), &mut drawn)?;
        let failed = |error: io::Error| no_folder(&path, &error);
        let own = fs::metadata(&path).map_err(failed)?.uid();
        let user = if own == 0 { users.iter().find_map(|user| user_of(user)) } else { None };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if let Some((user, group)) = user {
            chown(&path, Some(user), Some(group)).map_err(failed)?;
        }
        Ok(Self { path, user })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that the program may read.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Verdict {
        let path = self.path.join(name);
        let written = fs::write(&path, content).and_then(|()| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            self.user.map_or(Ok(()), |(user, group)| chown(&path, Some(user), Some(group)))
        });
        written.map_err(|error| Failure::new("a server gets its files", error.to_string()))
    }

    fn run_as_user(&self, command: &mut Command) {
        command.current_dir(&self.path);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
    }
}

/// Makes a folder in `parent` that was not there: one of that name may be left of a killed run, for temporary folders
/// outlive machines' restarts, and processes' numbers come again.
fn fresh(parent: &Path, draw: &mut dyn FnMut() -> u64) -> Verdict<PathBuf> {
    const TRIES: usize = 100;
    let mut tries = 0;
    loop {
        let path = parent.join(format!("cloakroom-{}-{:x}", process::id(), draw()));
        tries += 1;
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {}
            Err(error) => return Err(no_folder(&path, &error)),
        }
    }
}

/// Another number each time, in each process.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn no_folder(path: &Path, error: &io::Error) -> Failure {
    Failure::new("a server gets a temporary folder", format!("{}: {error}", path.display()))
}

/// A program that ends with this value, or with this process.
pub(crate) struct Process {
    program: Program,
    folder: Folder,
    supervisor: Mutex<Lifeline>,
    state: watch::Receiver<State>,
}

impl Process {
    /// Prepares `program` in `folder` and starts it. Whether it is ready is not looked at.
    pub(crate) async fn run(program: Program, folder: Folder) -> Verdict<Self> {
        if let Some((path, arguments)) = &program.before {
            prepare(path, arguments, &folder).await?;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", SUPERVISOR, "sh"]).arg(folder.path()).arg(program.last.name());
        shell.arg(&program.path).args(&program.arguments).stdout(Stdio::piped());
        folder.run_as_user(&mut shell);
        let failed = |seen: String| Failure::new("a program can be started", seen);
        let mut supervisor = Lifeline::with(shell).map_err(|error| failed(error.to_string()))?;
        let output = supervisor.output().ok_or_else(|| failed("the shell has no output".into()))?;
        let (sender, state) = watch::channel(State::Ended);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let number = line.strip_prefix("started ").and_then(|number| number.parse().ok());
                sender.send_replace(number.map_or(State::Ended, State::Running));
            }
        });
        let process = Self { program, folder, supervisor: Mutex::new(supervisor), state };
        process.start().await?;
        Ok(process)
    }

    pub(crate) async fn start(&self) -> Verdict {
        self.tell("start\n")?;
        self.wait(|state| state != State::Ended, PEACE).await
    }

    pub(crate) async fn stop(&self) -> Verdict {
        self.signal(self.program.stop, Whom::Server)?;
        if self.wait(|state| state == State::Ended, PEACE).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    pub(crate) async fn kill(&self) -> Verdict {
        self.signal(Signal::Kill, Whom::ChildrenToo)?;
        self.wait(|state| state == State::Ended, PEACE).await
    }

    /// Returns when the program stands still: a signal that is sent has not arrived yet.
    pub(crate) async fn pause(&self) -> Verdict {
        self.signal(Signal::Stop, Whom::ChildrenToo)?;
        let State::Running(server) = *self.state.borrow() else { return Ok(()) };
        let stands_still = async {
            while !family::stands_still(server) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let late = |_| Failure::new("a program that is paused stands still", "it runs on");
        timeout(PEACE, stands_still).await.map_err(late)
    }

    pub(crate) fn resume(&self) -> Verdict {
        self.signal(Signal::Continue, Whom::ChildrenToo)
    }

    /// What the program says of its version.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.program.path).arg("--version").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Returns when the program has ended.
    pub(crate) async fn ended(&self) {
        let mut state = self.state.clone();
        // An error means that the shell beside it has ended, and the program with it.
        let _ = state.wait_for(|state| *state == State::Ended).await;
    }

    /// The last lines of what the program wrote.
    pub(crate) fn log(&self) -> String {
        tail(&self.folder)
    }

    /// The program's file.
    pub(crate) fn path(&self) -> &Path {
        &self.program.path
    }

    fn signal(&self, signal: Signal, whom: Whom) -> Verdict {
        let State::Running(server) = *self.state.borrow() else {
            return Err(Failure::new("a program that is sent a signal runs", "it does not"));
        };
        let mut numbers = vec![server];
        if matches!(whom, Whom::ChildrenToo) {
            numbers.extend(family::descendants(server));
        }
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        self.tell(&format!("signal -{} {}\n", signal.name(), numbers.join(" ")))
    }

    fn tell(&self, line: &str) -> Verdict {
        let told = self.supervisor.lock().tell(line);
        told.map_err(|error| Failure::new("the shell beside a program listens", error.to_string()))
    }

    async fn wait(&self, until: impl Fn(State) -> bool, patience: Duration) -> Verdict {
        let mut state = self.state.clone();
        match timeout(patience, state.wait_for(|state| until(*state))).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::new(
                "a program starts and ends when it is told to",
                format!("{} did not; its log ends: {}", self.program.path.display(), self.log()),
            )),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("path", &self.program.path).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Whom {
    Server,
    ChildrenToo,
}

/// Finds `name` in the path, or in folders where packages put servers that are not for everybody.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    // Debian keeps the programs of each version of PostgreSQL apart. The newest.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    folders.extend(versions);
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

async fn prepare(path: &Path, arguments: &[String], folder: &Folder) -> Verdict {
    let failed = |seen: String| Failure::new("a new server's data can be made", seen);
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log"));
    let log = log.map_err(|error| failed(error.to_string()))?;
    if let Some((user, group)) = folder.user {
        chown(folder.path().join("log"), Some(user), Some(group))
            .map_err(|error| failed(error.to_string()))?;
    }
    let errors = log.try_clone().map_err(|error| failed(error.to_string()))?;
    command.stdout(log).stderr(errors);
    folder.run_as_user(&mut command);
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("{} ended with {status}: {}", path.display(), tail(folder)))),
        Ok(Err(error)) => Err(failed(format!("{}: {error}", path.display()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn tail(folder: &Folder) -> String {
    let log = fs::read(folder.path().join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// User and group of this name.
fn user_of(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[user, _, number, group, ..] = fields.as_slice() else {
            return None;
        };
        (user == name).then(|| Some((number.parse().ok()?, group.parse().ok()?))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_a_killed_run_has_left_is_in_nobodys_way() {
        let parent = fresh(&env::temp_dir(), &mut drawn).unwrap();
        let mut numbers = [1, 1, 2].into_iter();
        let mut draw = || numbers.next().unwrap();
        let (one, two) = (fresh(&parent, &mut draw).unwrap(), fresh(&parent, &mut draw).unwrap());
        assert!(one != two && one.is_dir() && two.is_dir());
        fs::remove_dir_all(parent).unwrap();
    }
}
