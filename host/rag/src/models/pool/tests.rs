//! Small encoders beside the shipped one: each is itself, few are in memory, and none stands in for another.

use std::path::{Path, PathBuf};

use rag_core::ports::{ModelChange, ModelRegistry as _, NewModel};

use super::super::tests::World;
use super::*;
use crate::roles;

const TEXT: &str = "怎样安装软件包？";

/// A folder of the engine's tests; the little encoder's configuration says that it embeds.
fn put(models: &Path, source: &str, name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rag-engine/tests/hub").join(source);
    let to = models.join(name);
    fs_err::create_dir(&to).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs_err::copy(from.join(file), to.join(file)).unwrap();
    }
    if source != "cross" {
        let config = fs_err::read_to_string(to.join("config.json")).unwrap();
        let config = config.replace("BertForSequenceClassification", "BertModel");
        fs_err::write(to.join("config.json"), config).unwrap();
    }
    to
}

/// Encoders `small` and `twin`, of the same weights under two names, and the cross-encoder `cross`, all online.
async fn world(encoders_max: usize) -> (World, roles::LocalEngines) {
    let mut world = World::new();
    world.config.models.encoders_max = encoders_max;
    for (source, name) in [("tiny-e5-small", "small"), ("tiny-e5-small", "twin"), ("cross", "cross")] {
        put(&world.config.models.dir, source, name);
    }
    let engines = roles::load(&world.config).unwrap();
    for name in ["small", "twin", "cross"] {
        let new = NewModel { name: name.into(), path: name.into(), ..NewModel::default() };
        engines.registry.add(new).await.unwrap();
        online(&engines, name, true).await;
    }
    (world, engines)
}

async fn online(engines: &roles::LocalEngines, name: &str, online: bool) {
    let change = ModelChange { online: Some(online), ..ModelChange::default() };
    engines.registry.change(name, change).await.unwrap();
}

async fn dim(encoder: &Arc<dyn Embed>) -> Result<usize> {
    Ok(encoder.embed(vec![TEXT.to_owned()], Purpose::Query).await?.dim)
}

fn in_memory(engines: &roles::LocalEngines) -> usize {
    locked(&engines.pool.0.loaded).len()
}

#[tokio::test]
async fn each_is_in_memory_once_and_makes_room_for_another() {
    let (world, engines) = world(1).await;
    let pool = &engines.pool;
    let for_all = pool.encoder(None).await.unwrap();
    let named = pool.encoder(Some("e5-small")).await.unwrap();
    assert_eq!((for_all.dim(), in_memory(&engines)), (384, 0));
    assert_eq!(named.identity(), for_all.identity());

    let small = pool.encoder(Some("small")).await.unwrap();
    assert!(small.identity().starts_with("small@"), "{}", small.identity());
    assert_eq!((small.dim(), dim(&small).await.unwrap(), in_memory(&engines)), (32, 32, 1));
    let again = pool.encoder(Some("small")).await.unwrap();
    assert!(Arc::ptr_eq(&small, &again));
    assert!(small.count_tokens(&[TEXT.to_owned()])[0] > 0);

    let cross = pool.reranker(Some("cross")).await.unwrap();
    assert!(cross.identity().starts_with("cross:cross@"));
    assert_eq!(in_memory(&engines), 1);
    let scores = cross.rerank(TEXT, &["用 apt 安装。".to_owned(), "The sky.".to_owned()]).await.unwrap();
    assert_eq!(scores.len(), 2);
    // It went, and comes back when it is asked.
    assert_eq!((dim(&small).await.unwrap(), in_memory(&engines)), (32, 1));
    let maxsim = pool.reranker(Some("small")).await.unwrap();
    assert!(maxsim.identity().starts_with("maxsim:small@"));
    let of_for_all = pool.reranker(Some("e5-small")).await.unwrap();
    assert_eq!(of_for_all.identity(), format!("maxsim:{}", for_all.identity()));
    // What was measured with the shipped encoder holds for no other.
    let floors = world.config.retrieval.floors(small.identity(), maxsim.identity());
    assert!(floors.dense.other.is_infinite() && floors.rerank.chinese.is_infinite());
}

#[tokio::test]
async fn one_at_work_is_not_sent_away() {
    let (_world, engines) = world(1).await;
    let pool = &engines.pool;
    let small = pool.encoder(Some("small")).await.unwrap();
    let at_work = pool.0.loaded.lock().unwrap()[0].2.clone();
    let refused = pool.reranker(Some("cross")).await.err().unwrap();
    assert!(refused.retryable() && refused.to_string().contains("models.encoders_max"), "{refused}");
    drop(at_work);
    pool.reranker(Some("cross")).await.unwrap();
    assert_eq!(dim(&small).await.unwrap(), 32);
}

#[tokio::test]
async fn an_identity_finds_its_encoder_and_nothing_else() {
    let (world, engines) = world(2).await;
    let pool = &engines.pool;
    let small = pool.encoder(Some("small")).await.unwrap().identity().to_owned();
    let twin = pool.encoder(Some("twin")).await.unwrap().identity().to_owned();
    let weights = |identity: &str| identity.split('@').nth(1).map(str::to_owned);
    assert_eq!(weights(&small), weights(&twin));
    let found = pool.of_identity(&small).await.unwrap().unwrap();
    assert_eq!(found.identity(), small);
    let shipped = engines.encoder.identity();
    assert_eq!(pool.of_identity(shipped).await.unwrap().unwrap().identity(), shipped);
    assert!(pool.of_identity("small@000000000000").await.unwrap().is_none());
    let file = world.config.models.dir.join("e5-small.safetensors");
    assert_eq!(encoder::identity(&file).unwrap(), shipped);

    online(&engines, "small", false).await;
    assert!(pool.of_identity(&small).await.unwrap().is_none());
    let refused = pool.encoder(Some("small")).await.err().unwrap();
    assert!(matches!(&refused, Error::Conflict { message } if message.contains("model online small")));
    assert!(matches!(pool.encoder(Some("cross")).await.err(), Some(Error::NotFound { .. })));
    assert!(matches!(
        pool.reranker(Some("gone")).await.err(),
        Some(Error::NotFound { what: "reranker", .. })
    ));
}

#[tokio::test]
async fn a_model_whose_file_changed_is_refused() {
    let (world, engines) = world(1).await;
    let small = engines.pool.encoder(Some("small")).await.unwrap();
    let folder = world.config.models.dir.join("small");
    let text = fs_err::read_to_string(folder.join("tokenizer.json")).unwrap();
    fs_err::write(folder.join("tokenizer.json"), format!("{text}\n")).unwrap();
    let refused = engines.pool.encoder(Some("small")).await.err().unwrap();
    assert!(refused.to_string().contains("changed since"), "{refused}");
    // Who holds it from before still gets the very model, or nothing.
    engines.pool.0.loaded.lock().unwrap().clear();
    assert!(dim(&small).await.is_err());
}
