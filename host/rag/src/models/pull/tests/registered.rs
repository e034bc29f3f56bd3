//! From the hub into the registry and into use: an encoder, a cross-encoder, what is stopped and what is refused.

use std::path::Path;

use rag_core::Error;
use rag_core::ports::{ModelKind, ModelRegistry, NewPull, Pull, PullState, When};

use super::super::super::tests::{World, entry};
use super::super::super::{Registry, Start};
use super::server::{Does, Hub, Tells, content_of};
use crate::roles;

/// The files of a small random model that the engine's tests use.
fn folder(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rag-engine/tests/hub").join(name);
    ["config.json", "tokenizer.json", "model.safetensors"]
        .into_iter()
        .map(|file| (file, fs_err::read(dir.join(file)).unwrap()))
        .collect()
}

async fn ended(registry: &Registry, id: &str) -> Pull {
    loop {
        let now = registry.pulls().await.unwrap();
        let found = now.pulls.into_iter().find(|pull| pull.id == id).unwrap();
        if found.state.ended() {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

fn wanted(name: &str) -> NewPull {
    NewPull { repository: "owner/name".into(), name: Some(name.into()), ..NewPull::default() }
}

async fn fails(registry: &Registry, new: NewPull, words: &str) {
    let begun = registry.pull(new).await.unwrap();
    let failed = ended(registry, &begun.id).await;
    assert_eq!(failed.state, PullState::Failed);
    assert!(failed.message.as_ref().is_some_and(|message| message.contains(words)), "{:?}", failed.message);
}

#[tokio::test]
async fn an_encoder_is_fetched_registered_and_used_from_the_next_start_on() {
    let mut world = World::new();
    let mut files = folder("tiny-e5-small");
    let config = String::from_utf8(files[0].1.clone()).unwrap();
    files[0].1 = config.replace("BertForSequenceClassification", "BertModel").into_bytes();
    let hub = Hub::start(&files, &[Does::Serve], Tells::Everything).await;
    world.config.models.hub.clone_from(&hub.address);
    let registry = world.registry();
    let begun = registry.pull(NewPull { online: true, ..wanted("tiny") }).await.unwrap();
    assert!(matches!(registry.pull(wanted("other")).await, Err(Error::Conflict { .. })), "one at a time");
    let pull = ended(&registry, &begun.id).await;
    assert_eq!((pull.state, pull.message, pull.name.as_str()), (PullState::Done, None, "tiny"));
    assert!(pull.files.iter().all(|file| file.bytes == Some(file.done)), "{:?}", pull.files);

    let tiny = entry(&registry, "tiny").await;
    assert_eq!((tiny.kind, tiny.architecture.as_str()), (ModelKind::Encoder, "bert 2 × 32"));
    assert_eq!((tiny.online, tiny.settings.licence.as_str()), (true, "apache-2.0"));
    assert!(tiny.settings.source.contains("owner/name@c0ffee"), "{}", tiny.settings.source);
    assert!(Path::new(&tiny.path).ends_with("data/models/name"));
    assert!(tiny.sha256.is_some() && tiny.problem.is_none());
    assert!(matches!(registry.pull(wanted("tiny")).await, Err(Error::Conflict { .. })));

    registry.choose(ModelKind::Encoder, Some("tiny"), When::Now).await.unwrap();
    assert_eq!(Start::open(&world.config).unwrap().encoder.name, "tiny");
    drop(registry);
    let engines = roles::load(&world.config).unwrap().ports();
    assert!(engines.embedder.identity().starts_with("name@"), "{}", engines.embedder.identity());
    assert_eq!(engines.embedder.dim(), 32);
    // What was measured with the shipped encoder says nothing about this one.
    let retrieval = &world.config.retrieval;
    let floors = retrieval.floors(engines.embedder.identity(), engines.reranker.identity());
    assert!(floors.dense.other.is_infinite() && floors.rerank.chinese.is_infinite());

    // A tokenizer that changes makes another model of it.
    let registry = world.registry();
    fs_err::write(Path::new(&tiny.path).join("tokenizer.json"), "{}").unwrap();
    assert!(entry(&registry, "tiny").await.problem.unwrap().contains("changed"));
}

#[tokio::test]
async fn a_cross_encoder_reranks_once_it_is_chosen() {
    let mut world = World::new();
    let hub = Hub::start(&folder("cross"), &[Does::Serve], Tells::Headers).await;
    world.config.models.hub.clone_from(&hub.address);
    let registry = world.registry();
    let begun = registry.pull(NewPull { online: true, ..wanted("cross") }).await.unwrap();
    assert_eq!(ended(&registry, &begun.id).await.state, PullState::Done);
    assert_eq!(entry(&registry, "cross").await.kind, ModelKind::Reranker);
    registry.choose(ModelKind::Reranker, Some("cross"), When::Now).await.unwrap();
    drop(registry);
    let engines = roles::load(&world.config).unwrap();
    assert!(entry(&engines.registry, "cross").await.in_use);
    assert!(engines.reranker.identity().starts_with("cross:name@"));
    let passages = ["苹果是红的。".to_owned(), "The sky is blue.".to_owned()];
    let scores = engines.reranker.rerank("苹果是什么颜色？", &passages).await.unwrap();
    assert!(scores.len() == 2 && scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    let floors =
        world.config.retrieval.floors(engines.ports().embedder.identity(), engines.reranker.identity());
    assert!(floors.rerank.other.is_infinite() && floors.dense.other > 0.0);
    engines.registry.choose(ModelKind::Reranker, None, When::Now).await.unwrap();
    assert!(Start::open(&world.config).unwrap().reranker.is_none());

    // Named in the configuration it is loaded without being chosen, and found by doctor.
    let path = entry(&engines.registry, "cross").await.path;
    let mut other = World::new();
    other.config.models.reranker = path.into();
    assert!(crate::assemble::model_file(&other.config, &other.config.models.reranker).is_ok());
    assert!(roles::load(&other.config).unwrap().reranker.identity().starts_with("cross:"));
}

#[tokio::test]
async fn what_is_stopped_goes_on_and_what_is_no_model_is_refused() {
    let mut world = World::new();
    let files = [("a.pth", content_of(0))];
    let hub = Hub::start(&files, &[Does::BreakAfter(9), Does::Hang, Does::Serve], Tells::Everything).await;
    world.config.models.hub.clone_from(&hub.address);
    let registry = world.registry();
    let begun = registry.pull(wanted("甲模型")).await.unwrap();
    while hub.asked().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(registry.stop_pull(&begun.id).await.unwrap().state, PullState::Stopped);
    assert!(matches!(registry.stop_pull(&begun.id).await, Err(Error::Conflict { .. })));
    assert!(matches!(registry.stop_pull("none").await, Err(Error::NotFound { .. })));
    // It comes whole now, but is no model.
    fails(&registry, wanted("甲模型"), "model file").await;
    assert_eq!(hub.began(), [0, 9, 9]);

    for (new, words) in [
        (NewPull { repository: "owner/../name".into(), ..NewPull::default() }, "no repository"),
        (NewPull { revision: Some("../other".into()), ..wanted("abc") }, "no branch"),
        (NewPull { file: Some("../../etc/passwd".into()), ..wanted("abc") }, "no file"),
        (NewPull { sha256: Some("00".repeat(32)), ..wanted("abc") }, "the hub tells SHA-256"),
    ] {
        fails(&registry, new, words).await;
    }
    assert!(registry.pull(wanted("../abc")).await.is_err());
    let wrong = NewPull { sha256: Some("00".into()), ..wanted("abc") };
    assert!(registry.pull(wrong).await.is_err());
    world.config.models.hub.clear();
    let refused = world.registry().pull(wanted("abc")).await;
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_repository_that_is_no_encoder_is_noticed_before_its_weights_come() {
    let mut world = World::new();
    let config = br#"{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "layer_norm_eps": 1e-5, "hidden_act": "silu"}"#;
    let files = [
        ("config.json", config.to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("model.safetensors", content_of(0)),
    ];
    let hub = Hub::start(&files, &[Does::Serve], Tells::Everything).await;
    world.config.models.hub.clone_from(&hub.address);
    let registry = world.registry();
    fails(&registry, wanted("llama"), "'llama' are not read").await;
    assert!(hub.asked().is_empty(), "its weights are not asked for");
}
