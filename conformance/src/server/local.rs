//! How each kind of server is started as a program of this machine.

use std::{path::PathBuf, process::Command};

use crate::{
    failure::{Failure, Verdict},
    server::{
        kind::{Kind, REDIS_ARGS},
        process::{Folder, Process, Program, Signal, find},
    },
};

/// What the server's own arguments and files are.
pub(crate) struct Extras<'a> {
    pub(crate) arguments: &'a [String],
    pub(crate) files: &'a [(String, std::sync::Arc<[u8]>)],
}

impl Kind {
    /// The programs to look for, the first one first.
    pub(crate) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Redis | Self::RedisCluster | Self::RedisSentinel => &["redis-server", "valkey-server"],
            Self::Postgres => &["postgres"],
            Self::Mysql => &["mysqld", "mariadbd"],
            Self::Mariadb => &["mariadbd", "mysqld"],
            Self::Mongo => &["mongod"],
            Self::Command => &[],
        }
    }

    /// What installs the program where packages come from Debian.
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Redis | Self::RedisCluster | Self::RedisSentinel => "redis-server",
            Self::Postgres => "postgresql",
            Self::Mysql | Self::Mariadb => "mariadb-server",
            Self::Mongo => "mongodb-org-server",
            Self::Command => "",
        }
    }

    /// Who runs it if the tests run as root.
    const fn users(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "nobody"],
            Self::Mysql | Self::Mariadb => &["mysql", "nobody"],
            _ => &[],
        }
    }
}

/// Starts the program of this kind on `port` in a folder of its own.
pub(crate) async fn run(kind: Kind, port: u16, extras: Extras<'_>) -> Verdict<Process> {
    let Some(path) = kind.programs().iter().find_map(|name| find(name)) else {
        let names = kind.programs().join(" or ");
        return Err(Failure::new("a server's program is installed", format!("there is no {names}")));
    };
    let folder = Folder::new(kind.users())?;
    for (name, content) in extras.files {
        folder.write(name, content)?;
    }
    let here = folder.path().display().to_string();
    let mut program = match kind {
        Kind::Redis | Kind::RedisCluster | Kind::RedisSentinel => redis(path, port, &here),
        Kind::Postgres => postgres(path, port, &folder)?,
        Kind::Mysql | Kind::Mariadb => mysql(path, port, &folder)?,
        Kind::Mongo | Kind::Command => mongo(path, port, &here),
    };
    program.arguments.extend(filled(extras.arguments, port, &here));
    Process::run(program, folder).await
}

/// Starts a program of the store author's.
pub(crate) async fn run_command(program: &str, port: u16, extras: Extras<'_>) -> Verdict<Process> {
    let folder = Folder::new(&[])?;
    for (name, content) in extras.files {
        folder.write(name, content)?;
    }
    let path = if program.contains('/') { Some(PathBuf::from(program)) } else { find(program) };
    let path = path.filter(|path| path.is_file()).ok_or_else(|| {
        Failure::new("a server's program is installed", format!("there is no program {program}"))
    })?;
    let here = folder.path().display().to_string();
    let arguments = filled(extras.arguments, port, &here);
    let program = Program { path, arguments, before: None, last: Signal::Kill, stop: Signal::Term };
    Process::run(program, folder).await
}

/// The arguments with port and folder in the places kept for them.
pub(crate) fn filled(arguments: &[String], port: u16, folder: &str) -> Vec<String> {
    let fill = |text: &String| text.replace("{port}", &port.to_string()).replace("{dir}", folder);
    arguments.iter().map(fill).collect()
}

fn redis(path: PathBuf, port: u16, here: &str) -> Program {
    let own = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", here].map(ToOwned::to_owned);
    let arguments = own.into_iter().chain(REDIS_ARGS.map(ToOwned::to_owned)).collect();
    Program { path, arguments, before: None, last: Signal::Kill, stop: Signal::Term }
}

fn postgres(path: PathBuf, port: u16, folder: &Folder) -> Verdict<Program> {
    folder.write("password", b"postgres\n")?;
    let data = folder.path().join("data").display().to_string();
    let initdb = path.with_file_name("initdb");
    let initdb = if initdb.is_file() { Some(initdb) } else { find("initdb") };
    let initdb =
        initdb.ok_or_else(|| Failure::new("a server's program is installed", "there is no initdb"))?;
    let make = ["--pgdata", &data, "--username", "postgres", "--pwfile", "password", "--encoding", "UTF8"];
    let and = ["--auth-host", "scram-sha-256", "--auth-local", "trust", "--locale", "C", "--no-sync"];
    let serve = ["-D", &data, "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"];
    let quietly = ["-c", "unix_socket_directories=", "-c", "fsync=off"];
    Ok(Program {
        path,
        arguments: serve.into_iter().chain(quietly).map(ToOwned::to_owned).collect(),
        before: Some((initdb, make.into_iter().chain(and).map(ToOwned::to_owned).collect())),
        // It removes what it shares with its children, which a KILL would leave.
        last: Signal::Quit,
        stop: Signal::Int,
    })
}

fn mysql(path: PathBuf, port: u16, folder: &Folder) -> Verdict<Program> {
    // One statement a line. Root comes from anywhere and without a password, as in the containers.
    let first = "CREATE DATABASE IF NOT EXISTS test;\n\
                 CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '';\n\
                 GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;\n";
    folder.write("first.sql", first.as_bytes())?;
    let data = format!("--datadir={}", folder.path().join("data").display());
    let version = Command::new(&path).arg("--version").output();
    let version = version.map_err(|error| Failure::new("a server tells its version", error.to_string()))?;
    let is_mariadb = String::from_utf8_lossy(&version.stdout).contains("MariaDB");
    let before = if is_mariadb {
        let install = find("mariadb-install-db").or_else(|| find("mysql_install_db"));
        let install = install.ok_or_else(|| {
            Failure::new("a server's program is installed", "there is no mariadb-install-db")
        })?;
        let how = ["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"];
        (install, how.map(ToOwned::to_owned).to_vec())
    } else {
        (path.clone(), ["--no-defaults", "--initialize-insecure", &data].map(ToOwned::to_owned).to_vec())
    };
    let here = folder.path().display();
    let mut arguments = vec!["--no-defaults".to_owned(), data, format!("--port={port}")];
    arguments.extend([
        "--bind-address=127.0.0.1".to_owned(),
        format!("--socket={here}/socket"),
        format!("--pid-file={here}/server.pid"),
        format!("--init-file={here}/first.sql"),
        "--innodb-flush-log-at-trx-commit=2".to_owned(),
    ]);
    if !is_mariadb {
        arguments.push("--mysqlx=OFF".to_owned());
    }
    Ok(Program { path, arguments, before: Some(before), last: Signal::Kill, stop: Signal::Term })
}

fn mongo(path: PathBuf, port: u16, here: &str) -> Program {
    let arguments = ["--port", &port.to_string(), "--dbpath", here, "--bind_ip", "127.0.0.1"];
    let arguments = arguments.map(ToOwned::to_owned).to_vec();
    Program { path, arguments, before: None, last: Signal::Kill, stop: Signal::Term }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_folder_are_filled_in() {
        let arguments = ["--listen=127.0.0.1:{port}".to_owned(), "{dir}/x".to_owned()];
        assert_eq!(filled(&arguments, 7, "/there"), ["--listen=127.0.0.1:7", "/there/x"]);
    }
}
