//! A process that dies in the middle of publishing, or of any other step of a swap, leaves what was before; one that dies
//! right after it leaves what is new.
//!
//! The dying process is this test program itself, as in `crash_tests`.

use std::process::Command;

use rag_core::kb::PluginChoice;
use rag_core::ports::{Catalog as _, GenerationState, Generations as _, NewGeneration, SwapReport};

use super::generations_tests::{fill, flipped, new, ready, staged};
use super::{generations, indexes};
use crate::fault::Step;
use crate::testing::{Sample, TestStore, config, kb};
use crate::{Store, StoreConfig};

const DIR: &str = "RAG_STORE_TEST_DIR";
const STEP: &str = "RAG_STORE_TEST_STEP";
/// The steps that write, in order; those of filling an index are in `crash_tests`.
const STEPS: [&str; 5] = ["stage", "ready", "publish", "roll back", "drop"];

/// A knowledge base for which a step comes next.
async fn before(step: &str) -> TestStore {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "诗.md", &["one 第一段\n", "two 第二段\n"]).await;
    match step {
        "ready" | "publish" => {
            let (generation, job) = staged(&store, "chunk-other").await;
            fill(&store, &generation, &job).await;
            if step == "publish" {
                ready(&store, &generation).await;
            }
        }
        "roll back" => _ = flipped(&store, "chunk-other").await,
        "drop" => {
            flipped(&store, "chunk-other").await;
            flipped(&store, "chunk-third").await;
        }
        _ => {}
    }
    store
}

/// A step's transaction, all of it but the commit.
fn perform(transaction: &rusqlite::Transaction<'_>, step: &str, staging: &NewGeneration) -> Step<()> {
    let kb = &kb();
    match step {
        "stage" => generations::stage(transaction, kb, staging).map(|_| ()),
        "ready" => generations::ready(transaction, kb, 2, &SwapReport::default()).map(|_| ()),
        "publish" => generations::publish(transaction, kb, 2, 60_000).map(|_| ()),
        "roll back" => generations::roll_back(transaction, kb, 2, "worse", false).map(|_| ()),
        "drop" => indexes::drop_some(transaction, kb, "initial-g1").map(|_| ()),
        unknown => panic!("no step '{unknown}'"),
    }
}

/// What a person or a question could tell from before.
#[derive(Debug, PartialEq)]
struct Seen {
    live: (u64, String, PluginChoice),
    generations: Vec<(u64, GenerationState)>,
    indexes: Vec<String>,
    /// Hits by words in each index.
    words: Vec<usize>,
    documents: u64,
}

async fn seen(store: &Store) -> Seen {
    let live = store.kb(&kb()).await.unwrap();
    let generations = store.generations(&kb(), 9).await.unwrap();
    let indexes = store.indexes(&kb()).await.unwrap();
    let mut words = Vec::new();
    for collection in ["initial-g1", "initial-g2", "initial-g3"] {
        words.push(store.lexical(&kb(), collection, "第一段 anew", 99, None).await.unwrap().len());
    }
    Seen {
        live: (live.generation, live.collection, live.settings.chunker),
        generations: generations.iter().map(|one| (one.number, one.state)).collect(),
        indexes: indexes.into_iter().map(|index| index.collection).collect(),
        words,
        documents: live.documents,
    }
}

#[tokio::test]
async fn dying_within_a_step_of_a_swap_undoes_it_and_dying_after_it_does_not() {
    for step in STEPS {
        // As it is without a death.
        let undisturbed = before(step).await;
        let old = seen(&undisturbed).await;
        let staging = new(&undisturbed, "chunk-other", true).await;
        undisturbed.write(move |transaction| perform(transaction, step, &staging)).await.unwrap();
        let done = seen(&undisturbed).await;
        assert_ne!(done, old, "{step}");
        for committed in [false, true] {
            let TestStore { store, dir } = before(step).await;
            drop(store);
            let told = if committed { format!("{step}!") } else { step.to_owned() };
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "catalog::swap_crash_tests::child", "--nocapture"])
                .env(DIR, dir.path())
                .env(STEP, told)
                .output()
                .unwrap();
            assert!(!output.status.success(), "{step}: it lives: {output:?}");
            let store = TestStore { store: Store::open(config(&dir)).unwrap(), dir };
            assert_eq!(&seen(&store).await, if committed { &done } else { &old }, "{step}");
            if !committed {
                let staging = new(&store, "chunk-other", true).await;
                store.write(move |transaction| perform(transaction, step, &staging)).await.unwrap();
                assert_eq!(seen(&store).await, done, "{step}, once more");
            }
        }
    }
}

/// Does nothing unless the test above starts it.
#[tokio::test]
async fn child() {
    let (Ok(dir), Ok(told)) = (std::env::var(DIR), std::env::var(STEP)) else { return };
    let store = Store::open(StoreConfig { disk_free_min_bytes: 0, ..StoreConfig::new(dir) }).unwrap();
    let store = TestStore { store, dir: tempfile::tempdir().unwrap() };
    let staging = new(&store, "chunk-other", true).await;
    let step = told.trim_end_matches('!').to_owned();
    let dies = step == told;
    let written: rag_core::Result<()> = store
        .write(move |transaction| {
            perform(transaction, &step, &staging)?;
            if dies { std::process::abort() } else { Ok(()) }
        })
        .await;
    written.unwrap();
    std::process::abort();
}
