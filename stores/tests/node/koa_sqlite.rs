//! Koa with koa-generic-session and koa-sqlite3-session, over its file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cloakroom::shape::KoaSqlite3Session;

use crate::{
    home::{Home, Later},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static KOA_SQLITE: Kind = Kind { format: Format::Koa, store: "sqlite", prefix: "koa:sess:", home };

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn home(name: String) -> Later<Home> {
    Box::pin(async move {
        let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::create_dir_all(&folder.0).unwrap();
        let file = format!("{}/sessions.db", folder.0.display());
        Home::new(&[("FILE", &file)], move || {
            let url = format!("sqlite://{}/sessions.db", folder.0.display());
            async move { KoaSqlite3Session::builder().connect(&url).await }
        })
    })
}

shared_tests!(&KOA_SQLITE);
