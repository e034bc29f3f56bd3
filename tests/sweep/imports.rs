//! A file becomes a knowledge base whole or not at all, whichever call fails and whether the process survives it or not.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::kb::KbName;
use rag_core::ports::{BundleBytes, BundlePart, BundleReader, BundleUpload, BundleWriter, Bundles, Catalog};
use rag_core::{Error, ErrorCode, Rag, Result};

use crate::fault::Fault;
use crate::{FIRST, Index, KB, SECOND, close, drain, index, submit_as, system};

/// Parts of a file in memory.
#[derive(Clone, Default)]
struct Parts(Arc<Mutex<Vec<BundlePart>>>);

impl Bundles for Parts {
    fn write(&self) -> (Box<dyn BundleWriter>, BundleBytes) {
        (Box::new(self.clone()), Box::pin(futures_util::stream::empty()))
    }
    fn upload(&self) -> Result<Box<dyn BundleUpload>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl BundleWriter for Parts {
    async fn put(&mut self, part: BundlePart) -> Result<()> {
        self.0.lock().unwrap().push(part);
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
    async fn fail(self: Box<Self>, error: Error) {
        panic!("{error}");
    }
}

#[async_trait]
impl BundleUpload for Parts {
    async fn write(&mut self, _: Bytes) -> Result<()> {
        Ok(())
    }
    async fn open(self: Box<Self>) -> Result<Box<dyn BundleReader>> {
        let parts = self.0.lock().unwrap().clone();
        Ok(Box::new(Reader(parts.into())))
    }
}

struct Reader(VecDeque<BundlePart>);

#[async_trait]
impl BundleReader for Reader {
    async fn next(&mut self) -> Result<Option<BundlePart>> {
        Ok(self.0.pop_front())
    }
}

/// A knowledge base of two documents, with a chunk that somebody edited and one that somebody disabled, and its file.
async fn exported() -> (Index, Parts) {
    let dir = tempfile::tempdir().unwrap();
    let (mut rag, store) = system::open(dir.path(), &Arc::default());
    let parts = Parts::default();
    rag.bundles = Arc::new(parts.clone());
    rag.create_kb(KB, None).await.unwrap();
    submit_as(&rag, "手册.txt", FIRST).await.unwrap();
    submit_as(&rag, "release.txt", SECOND).await.unwrap();
    drain(&rag, 0).await.unwrap();
    let kb = KbName::parse(KB).unwrap();
    let documents = store.documents(&kb, None, 9).await.unwrap();
    let chunks = store.chunks(&documents[0].id, None, 9).await.unwrap();
    rag.edit_chunk(&kb, &chunks[0].chunk.id, "Somebody wrote this.").await.unwrap();
    rag.set_chunk_enabled(&kb, &chunks[1].chunk.id, false).await.unwrap();
    let rag = Arc::new(rag);
    rag.clone().export_kb(KB).await.unwrap().1.await;
    (index(&rag, &store).await, parts)
}

async fn import(rag: &Rag, parts: &Parts) -> Result<()> {
    let imported = rag.import_kb(Box::new(parts.clone()), None).await?;
    assert_eq!((imported.kb.documents, imported.embedded), (2, 0));
    Ok(())
}

fn originals(dir: &Path) -> usize {
    let mut folders = vec![dir.join("blobs")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found += 1;
            }
        }
    }
    found
}

/// Calls that only try the settings, before anything is kept: a search that fails then is no reason to refuse them.
async fn trying() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let fault = Arc::new(Fault::default());
    let (rag, _store) = system::open(dir.path(), &fault);
    rag.create_kb(KB, None).await.unwrap();
    // The knowledge base itself is one call, counted before and after.
    fault.calls.load(Ordering::Relaxed) - 2
}

/// Fails one call after the other, beginning with the `first`, until an import makes fewer.
async fn sweep(dead: bool, first: usize, step: usize) {
    let ((want, parts), trying) = (exported().await, trying().await);
    for n in (first..).step_by(step) {
        let when = format!("call {n} failed (dead: {dead})");
        let dir = tempfile::tempdir().unwrap();
        let fault = Arc::new(Fault::default());
        let (rag, store) = system::open(dir.path(), &fault);
        fault.dead.store(dead, Ordering::Relaxed);
        fault.fail_at.store(n, Ordering::Relaxed);
        let ended = import(&rag, &parts).await;
        let reached = fault.calls.load(Ordering::Relaxed) >= n;
        let failed = ended.is_err();
        assert!(failed == reached || n <= trying, "{when}: {ended:?}");
        if failed {
            // Whatever is left until the next start, nobody takes it for a knowledge base.
            fault.fail_at.store(0, Ordering::Relaxed);
            assert!(rag.kb(KB).await.is_err() || dead, "{when}");
            if rag.kb(KB).await.is_err() {
                assert_eq!(rag.catalog.kbs().await.unwrap().len(), 0, "{when}");
            }
            if !dead {
                assert_eq!(originals(dir.path()), 0, "{when}: before the next start");
            }
        }
        drop(rag);
        close(store);

        let (rag, store) = system::open(dir.path(), &Arc::default());
        assert_eq!(rag_core::jobs::recover(&rag).await.unwrap(), Vec::<String>::new(), "{when}");
        assert!(rag.catalog.imports().await.unwrap().is_empty(), "{when}");
        match rag.kb(KB).await {
            Ok(_) => assert!(dead || !failed, "{when}: an import that failed is there"),
            Err(error) => {
                assert!(failed && error.code() == ErrorCode::NotFound, "{when}: {error}");
                assert_eq!(originals(dir.path()), 0, "{when}");
                assert!(rag.catalog.jobs(None, 9).await.unwrap().is_empty(), "{when}");
                import(&rag, &parts).await.unwrap();
            }
        }
        assert_eq!(index(&rag, &store).await, want, "{when}");
        if !reached {
            assert!(n > 30, "the sweep reached only {n} calls");
            return;
        }
    }
}

#[tokio::test]
async fn an_import_that_fails_anywhere_leaves_nothing() {
    sweep(false, 1, 2).await;
}

#[tokio::test]
async fn nor_does_one_that_fails_after_a_call_took_effect() {
    sweep(false, 2, 2).await;
}

#[tokio::test]
async fn one_whose_process_dies_anywhere_is_there_whole_or_gone_at_the_next_start() {
    sweep(true, 1, 2).await;
}

#[tokio::test]
async fn one_that_is_under_way_keeps_its_name_from_others_and_can_be_given_up() {
    let (want, parts) = exported().await;
    let dir = tempfile::tempdir().unwrap();
    let fault = Arc::new(Fault::default());
    let (rag, store) = system::open(dir.path(), &fault);
    // Stands still somewhere in the middle.
    fault.freezes.store(true, Ordering::Relaxed);
    fault.fail_at.store(25, Ordering::Relaxed);
    {
        let going = std::pin::pin!(import(&rag, &parts));
        tokio::select! {
            ended = going => panic!("it ended: {ended:?}"),
            () = fault.frozen.notified() => {}
        }
    }
    let second = import(&rag, &parts).await.unwrap_err();
    let asked = rag.binding(KB).await.err().unwrap();
    let listed = store.documents(&KbName::parse(KB).unwrap(), None, 9).await.unwrap_err();
    let made = rag.create_kb(KB, None).await.unwrap_err();
    for error in [second, asked, listed, made] {
        assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
        assert!(error.to_string().contains("is being imported"), "{error}");
    }
    // It can be given up, and then its name is free.
    rag.delete_kb(KB).await.unwrap();
    import(&rag, &parts).await.unwrap();
    assert_eq!(index(&rag, &store).await, want);
    let taken = import(&rag, &parts).await.unwrap_err();
    assert!(taken.to_string().contains("already"), "{taken}");
    assert_eq!(index(&rag, &store).await, want);
}

/// A file that says something else in the middle than it did when it was checked, or that ends there.
#[tokio::test]
async fn parts_that_do_not_fit_leave_nothing() {
    let (_, parts) = exported().await;
    let whole = parts.0.lock().unwrap().clone();
    let sections: Vec<usize> =
        (0..whole.len()).filter(|at| matches!(whole[*at], BundlePart::Section { .. })).collect();
    let last = *sections.last().unwrap();
    let mut bent = Vec::new();
    let mut without_original = whole.clone();
    without_original.retain(|part| !matches!(part, BundlePart::Original(_) | BundlePart::Piece(_)));
    bent.push(("does not exist", without_original));
    let mut other = whole.clone();
    let BundlePart::Section { text, .. } = &mut other[last] else { unreachable!() };
    text.truncate(0);
    bent.push(("is not part of its text", other));
    let mut twice = whole.clone();
    twice.extend(whole[1..].iter().cloned());
    bent.push(("is in the file twice", twice));
    let mut headless = whole.clone();
    headless.remove(0);
    bent.push(("not in order", headless));
    for (words, parts) in bent {
        let dir = tempfile::tempdir().unwrap();
        let (rag, _store) = system::open(dir.path(), &Arc::default());
        let refused = import(&rag, &Parts(Arc::new(Mutex::new(parts)))).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{words}: {refused}");
        assert_eq!(rag.kb(KB).await.unwrap_err().code(), ErrorCode::NotFound, "{words}");
        assert!(rag.catalog.imports().await.unwrap().is_empty(), "{words}");
        assert_eq!(originals(dir.path()), 0, "{words}");
    }
}
