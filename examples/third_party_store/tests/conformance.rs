use std::sync::Arc;

use cloakroom_conformance::{Env, conformance_tests};
use folder_store::FolderStore;

conformance_tests! {
    server: none,
    open: |env: Env| async move {
        let folder = env.shared(|| Arc::new(tempfile::tempdir().unwrap()));
        FolderStore::open(folder.path())
    },
    abilities: [atomic],
}
