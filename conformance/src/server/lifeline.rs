//! Ends what this process has started when it ends, however it ends.
//!
//! A shell waits beside each server for the end of its standard input. The other side is held by this process and by
//! nobody else, and the system closes it, also after a kill -9, when no code of this process runs any more. The shell
//! is in a process group of its own, so that what is sent to a whole group of tests does not meet it, and it holds
//! none of the test's outputs open.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Removes a container at the end of its input.
const CONTAINER: &str = r#"
read -r _
docker rm --force --volumes "$1" && exit
curl --silent --request DELETE --unix-socket /var/run/docker.sock "http://localhost/containers/$1?force=1&v=1"
"#;

/// A shell that acts when this value is dropped, or when the process ends.
#[derive(Debug)]
pub(crate) struct Lifeline {
    open: Option<ChildStdin>,
    shell: Child,
}

impl Lifeline {
    /// Ties a container to this process.
    pub(crate) fn to_container(id: &str) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", CONTAINER, "sh", id]).stdout(Stdio::null());
        Self::with(shell)
    }

    /// Starts a shell that acts at the end of its input.
    pub(crate) fn with(mut shell: Command) -> io::Result<Self> {
        shell.stdin(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut shell = shell.spawn()?;
        Ok(Self { open: shell.stdin.take(), shell })
    }

    /// What the shell writes, if it was started with a pipe; once.
    pub(crate) const fn output(&mut self) -> Option<ChildStdout> {
        self.shell.stdout.take()
    }

    /// Tells the shell something.
    pub(crate) fn tell(&mut self, line: &str) -> io::Result<()> {
        match &mut self.open {
            Some(input) => input.write_all(line.as_bytes()).and_then(|()| input.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the shell without its having to act.
    pub(crate) fn cut(&mut self) {
        // It may have ended by itself.
        let _ = self.shell.kill();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.open.take());
        // Until it has done its work.
        let _ = self.shell.wait();
    }
}
