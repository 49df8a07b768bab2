//! What only this store does.

use cloakroom_core::{Key, Store, Ttl};
use folder_store::FolderStore;

#[tokio::test]
async fn sweeping_deletes_the_files_of_expired_sessions_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    let long = "k".repeat(255);
    for (key, ttl) in [("dead", Ttl::MIN), ("live", Ttl::MAX), (&long, Ttl::MIN)] {
        store.set(&Key::new(key).unwrap(), "value".into(), ttl).await.unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(store.sweep().await.unwrap(), 2);
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert!(store.get(&Key::new("live").unwrap()).await.unwrap().is_some());
}
