//! What may be read of the server, and what leads out of it.

use std::os::unix::fs::symlink;

use super::*;
use crate::testing::TestStore;

/// A store whose only root is `root` in a folder that also holds a secret.
fn store() -> (TestStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs_err::create_dir_all(root.join("子/deep")).unwrap();
    fs_err::write(dir.path().join("secret"), "secret").unwrap();
    fs_err::write(root.join("a.md"), "alpha").unwrap();
    fs_err::write(root.join("子/b.md"), "乙").unwrap();
    fs_err::write(root.join("子/deep/c.md"), vec![b'x'; 3 * PIECE + 1]).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink(dir.path(), root.join("up")).unwrap();
    symlink("a.md", root.join("in")).unwrap();
    (TestStore::with(|config| config.ingest_roots = vec![root]), dir)
}

async fn content(store: &TestStore, path: &str) -> Result<Vec<u8>> {
    let mut file = store.open_file(path).await?;
    let mut all = Vec::new();
    while let Some(bytes) = file.read().await? {
        assert!(!bytes.is_empty() && bytes.len() <= PIECE);
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[tokio::test]
async fn files_below_a_root_are_listed_and_read() {
    let (store, _dir) = store();
    assert_eq!(store.roots().await.unwrap(), ["root"]);
    let names = |entries: Vec<FolderEntry>| entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
    let top = store.list_folder("root", 10).await.unwrap();
    assert_eq!((top[0].path.as_str(), top[0].folder, top[1].size), ("root/子", true, 5));
    assert_eq!(names(top), ["root/子", "root/a.md", "root/in"], "links that lead out are not there");
    assert_eq!(names(store.list_folder("root/子", 1).await.unwrap()), ["root/子/deep"]);
    let all = ["root/a.md", "root/in", "root/子/b.md", "root/子/deep/c.md"];
    assert_eq!(names(store.files_under("root", 4).await.unwrap()), all);
    assert_eq!(names(store.files_under("root/子/b.md", 1).await.unwrap()), ["root/子/b.md"]);
    assert!(matches!(store.files_under("root", 3).await, Err(Error::InvalidInput { .. })));
    assert_eq!(content(&store, "root/子/b.md").await.unwrap(), "乙".as_bytes());
    assert_eq!(content(&store, "root/in").await.unwrap(), b"alpha");
    assert_eq!(content(&store, "root/子/deep/c.md").await.unwrap().len(), 3 * PIECE + 1);
}

#[tokio::test]
async fn nothing_leads_out_of_a_root() {
    let (store, dir) = store();
    let secret = dir.path().join("secret");
    for path in [
        "root/../secret",
        "root/子/../../secret",
        "root/out",
        "root/up/secret",
        "root/up",
        "../secret",
        "/etc/passwd",
        "root//etc/passwd",
        secret.to_str().unwrap(),
        "",
        "elsewhere/a.md",
    ] {
        let opened = content(&store, path).await;
        assert!(matches!(opened, Err(Error::Denied { .. })), "{path}: {opened:?}");
        let listed = store.files_under(path, 10).await;
        assert!(matches!(listed, Err(Error::Denied { .. })), "{path}: {listed:?}");
    }
    assert!(matches!(content(&store, "root/none").await, Err(Error::NotFound { .. })));
    assert!(matches!(content(&store, "root/子").await, Err(Error::InvalidInput { .. })));
    assert!(matches!(store.list_folder("root/a.md", 9).await, Err(Error::InvalidInput { .. })));
}
