//! The registry on real files: what is added and chosen, what is refused, and that a failed switch changes nothing.

use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use rag_core::ports::{
    Generate, GenerateRequest, GenerationEvent, ModelChange, ModelEntry, ModelKind, ModelRegistry,
    ModelSettings, NewModel, Sampling, Variant, When,
};
use rag_core::{Error, Result};
use tempfile::TempDir;

use super::{Registry, Start};
use crate::config::{Config, Data, Models};

/// A models folder of its own with links to the shipped files, and a data folder.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) config: Config,
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name)
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("models");
        fs_err::create_dir(&models).unwrap();
        for name in ["rwkv6-demo.safetensors", "e5-small.safetensors", "rwkv_vocab_v20230424.txt"] {
            fs_err::copy(shipped(name), models.join(name)).unwrap();
        }
        let config = Config {
            models: Models { dir: models, threads: 1, slots: 2, ..Models::default() },
            data: Data { dir: dir.path().join("data"), ..Data::default() },
            ..Config::default()
        };
        World { dir, config }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("models").join(name)
    }

    pub(super) fn registry(&self) -> Registry {
        Start::open(&self.config).unwrap().load(&self.config).unwrap()
    }

    /// A tuned state for models of 12 layers and 6 heads of 64.
    fn write_state(&self, name: &str, layers: usize) {
        // Not all alike: the norm after each head takes away what all its values share.
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 3_000.0 - 11.0;
        let one: Vec<u8> = (0..6 * 64 * 64).flat_map(|i| value(i).to_le_bytes()).collect();
        let tensors: Vec<String> = (0..layers)
            .map(|layer| {
                let offsets = [layer * one.len(), (layer + 1) * one.len()];
                format!(
                    r#""blocks.{layer}.att.time_state":{{"dtype":"F32","shape":[6,64,64],"data_offsets":{offsets:?}}}"#
                )
            })
            .collect();
        let header = format!("{{{}}}", tensors.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(one.repeat(layers));
        fs_err::write(self.file(name), bytes).unwrap();
    }
}

fn new(name: &str, path: &str) -> NewModel {
    NewModel { name: name.into(), path: path.into(), ..NewModel::default() }
}

fn online(online: bool) -> ModelChange {
    ModelChange { online: Some(online), ..ModelChange::default() }
}

pub(super) async fn entry(registry: &Registry, name: &str) -> ModelEntry {
    let now = registry.models().await.unwrap();
    now.entries.into_iter().find(|entry| entry.name == name).unwrap()
}

async fn answer(model: &dyn Generate) -> Result<String> {
    answer_as(model, None).await
}

async fn answer_as(model: &dyn Generate, variant: Option<Variant>) -> Result<String> {
    let request = GenerateRequest {
        // Short, so that what it begins from is not forgotten.
        prompt: "苹果".into(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        tokens_max: 8,
        stop: vec![],
        tenant: String::new(),
        bounds: None,
        variant,
    };
    let mut stream = model.generate(request).await?;
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        if let GenerationEvent::Text(part) = event? {
            text.push_str(&part);
        }
    }
    Ok(text)
}

fn says(result: Result<impl std::fmt::Debug>, words: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn what_is_chosen_answers_now_and_after_a_restart() {
    let world = World::new();
    fs_err::copy(world.file("rwkv6-demo.safetensors"), world.file("other.safetensors")).unwrap();
    let registry = world.registry();
    let before = answer(registry.switch().as_ref()).await.unwrap();
    let added = registry.add(new("second", "other.safetensors")).await.unwrap();
    assert_eq!((added.online, added.in_use, added.kind), (false, false, ModelKind::Language));
    assert_eq!(added.sha256.unwrap().len(), 64);
    assert!(added.memory_bytes.unwrap() > added.bytes);
    let language = ModelKind::Language;
    says(registry.choose(language, Some("second"), When::Now).await, "offline");
    registry.change("second", online(true)).await.unwrap();

    // A choice for the next start changes nothing now.
    registry.choose(language, Some("second"), When::NextStart).await.unwrap();
    let second = entry(&registry, "second").await;
    assert_eq!((second.in_use, second.chosen), (false, true));
    assert_eq!(registry.switch().identity(), "rwkv6-demo");

    // An answer that was begun by the old model ends whole.
    let switch = registry.switch();
    let mut stream = switch
        .generate(GenerateRequest {
            prompt: "a".into(),
            sampling: Sampling { seed: Some(1), ..Sampling::default() },
            tokens_max: 30,
            stop: vec![],
            tenant: String::new(),
            bounds: None,
            variant: None,
        })
        .await
        .unwrap();
    registry.choose(language, Some("second"), When::Now).await.unwrap();
    assert_eq!(registry.switch().identity(), "second");
    let mut ended = false;
    while let Some(event) = stream.next().await {
        ended = matches!(event.unwrap(), GenerationEvent::Done { .. });
    }
    assert!(ended, "the old model finishes what it began");
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), before, "the same weights");
    says(registry.change("second", online(false)).await, "in use");
    says(registry.remove("second").await, "in use");
    registry.restart().await.unwrap();

    drop(registry);
    let registry = world.registry();
    assert_eq!(registry.switch().identity(), "second");
    registry.choose(language, Some("rwkv6-demo"), When::Now).await.unwrap();
    registry.remove("second").await.unwrap();
    assert!(registry.models().await.unwrap().entries.iter().all(|entry| entry.name != "second"));
}

#[tokio::test]
async fn a_failed_switch_keeps_the_old_model_and_a_lost_file_the_configured_one() {
    let world = World::new();
    let registry = world.registry();
    let whole = fs_err::read(world.file("rwkv6-demo.safetensors")).unwrap();
    fs_err::write(world.file("other.safetensors"), &whole).unwrap();
    registry.add(new("second", "other.safetensors")).await.unwrap();
    registry.change("second", online(true)).await.unwrap();

    // Other bytes than those that were registered.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs_err::write(world.file("other.safetensors"), &damaged).unwrap();
    assert!(entry(&registry, "second").await.problem.unwrap().contains("changed"));
    says(registry.choose(ModelKind::Language, Some("second"), When::Now).await, "changed since");
    let anew = ModelChange { path: Some("other.safetensors".into()), ..ModelChange::default() };
    registry.change("second", anew).await.unwrap();

    // Cut short.
    fs_err::write(world.file("other.safetensors"), &whole[..whole.len() / 2]).unwrap();
    assert!(registry.choose(ModelKind::Language, Some("second"), When::Now).await.is_err());
    assert_eq!(registry.switch().identity(), "rwkv6-demo");
    assert!(!answer(registry.switch().as_ref()).await.unwrap().is_empty());
    assert!(!entry(&registry, "second").await.chosen);
    assert!(!registry.change("second", online(false)).await.unwrap().online, "what broke can go offline");
    assert!(registry.change("second", online(true)).await.is_err());

    fs_err::write(world.file("other.safetensors"), &damaged).unwrap();
    registry.change("second", online(true)).await.unwrap();
    registry.choose(ModelKind::Language, Some("second"), When::NextStart).await.unwrap();
    fs_err::remove_file(world.file("other.safetensors")).unwrap();
    drop(registry);
    let registry = world.registry();
    assert_eq!(registry.switch().identity(), "rwkv6-demo");
    assert_eq!(registry.models().await.unwrap().failure.unwrap().model, "second");
}

#[tokio::test]
async fn a_model_too_large_for_this_machine_is_refused_with_both_figures() {
    let mut world = World::new();
    fs_err::copy(world.file("rwkv6-demo.safetensors"), world.file("other.safetensors")).unwrap();
    let registry = world.registry();
    registry.add(new("second", "other.safetensors")).await.unwrap();
    registry.change("second", online(true)).await.unwrap();
    drop(registry);
    let registry = world.registry();
    // Slots hold states: so many of them hold more than any machine has.
    world.config.models.slots = 1 << 30;
    let starved = Start::open(&world.config).unwrap();
    says(starved.load(&world.config).map(drop), "MiB are free");
    assert_eq!(registry.switch().identity(), "rwkv6-demo");
}

#[tokio::test]
async fn only_models_below_the_folders_are_added() {
    let world = World::new();
    let registry = world.registry();
    for bad in ["/etc/passwd", "../data/models.json", "none.pth", ""] {
        let refused = registry.add(new("second", bad)).await.unwrap_err();
        assert!(matches!(refused, Error::Denied { .. }), "{bad}: {refused}");
    }
    std::os::unix::fs::symlink("/etc/passwd", world.file("link.pth")).unwrap();
    says(registry.add(new("second", "link.pth")).await, "there is no file");
    assert!(matches!(
        registry.add(new("second", "rwkv_vocab_v20230424.txt")).await,
        Err(Error::Model { .. })
    ));
    says(registry.add(new("a b", "e5-small.safetensors")).await, "cannot name");
    says(registry.add(new("e5-small", "e5-small.safetensors")).await, "already");
    let wrong = NewModel { kind: Some(ModelKind::State), ..new("second", "e5-small.safetensors") };
    says(registry.add(wrong).await, "of kind encoder");
    let wrong = NewModel { sha256: Some("00".repeat(32)), ..new("second", "e5-small.safetensors") };
    says(registry.add(wrong).await, "SHA-256");
    let settings = ModelSettings { quantize: Some("int8".into()), ..ModelSettings::default() };
    let wrong = NewModel { settings, ..new("second", "e5-small.safetensors") };
    says(registry.add(wrong).await, "quantised");
    says(registry.change("rwkv6-demo", online(false)).await, "configuration");
    says(registry.choose(ModelKind::Language, None, When::Now).await, "must be");
    says(registry.choose(ModelKind::State, Some("e5-small"), When::Now).await, "does not exist");

    // An encoder waits for the next start.
    registry.add(new("second", "e5-small.safetensors")).await.unwrap();
    registry.change("second", online(true)).await.unwrap();
    registry.choose(ModelKind::Encoder, Some("second"), When::Now).await.unwrap();
    let second = entry(&registry, "second").await;
    assert_eq!((second.in_use, second.chosen, second.kind), (false, true, ModelKind::Encoder));
    assert_eq!(Start::open(&world.config).unwrap().encoder.name, "second");
}

#[tokio::test]
async fn a_state_serves_single_requests_or_all_of_them() {
    let world = World::new();
    world.write_state("a.pth", 12);
    world.write_state("deep.pth", 13);
    let registry = world.registry();
    let plain = answer(registry.switch().as_ref()).await.unwrap();
    let added = registry.add(new("tuned", "a.pth")).await.unwrap();
    assert_eq!((added.kind, added.architecture.as_str()), (ModelKind::State, "state of 12 × 384"));
    says(registry.under(Some("tuned"), None).map(drop), "offline");
    says(registry.under(Some("/tmp/evil.pth"), None).map(drop), "not registered");
    registry.change("tuned", online(true)).await.unwrap();
    let tuned = answer(registry.under(Some("a.pth"), None).unwrap().as_ref()).await.unwrap();
    assert_ne!(tuned, plain);
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), plain);

    let named = Variant { state: Some("tuned".into()), adapter: None };
    assert_eq!(answer_as(registry.switch().as_ref(), Some(named.clone())).await.unwrap(), tuned);
    assert_eq!(registry.variants().await.unwrap(), [(ModelKind::State, "tuned".to_owned())]);

    registry.choose(ModelKind::State, Some("tuned"), When::Now).await.unwrap();
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), tuned);
    let base = answer_as(registry.switch().as_ref(), Some(Variant::default())).await.unwrap();
    assert_eq!(base, plain, "one answer of the model as it is");
    assert!(entry(&registry, "tuned").await.in_use);
    drop(registry);
    let registry = world.registry();
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), tuned);
    registry.choose(ModelKind::State, None, When::Now).await.unwrap();
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), plain);
    registry.change("tuned", online(false)).await.unwrap();
    says(registry.under(Some("tuned"), None).map(drop), "offline");
    says(answer_as(registry.switch().as_ref(), Some(named)).await, "'tuned'");
    assert!(registry.variants().await.unwrap().is_empty());

    // Made for a deeper model: it may be known, but this one cannot begin from it.
    registry.add(new("deep", "deep.pth")).await.unwrap();
    registry.change("deep", online(true)).await.unwrap();
    says(registry.under(Some("deep"), None).map(drop), "not for");
    assert!(registry.choose(ModelKind::State, Some("deep"), When::Now).await.is_err());
    assert_eq!(answer(registry.switch().as_ref()).await.unwrap(), plain);
}

#[tokio::test]
async fn processes_that_share_a_registry_follow_each_other() {
    let world = World::new();
    let (first, second) = (world.registry(), world.registry());
    assert!(!second.look().await.unwrap(), "nobody changed anything");
    fs_err::copy(world.file("rwkv6-demo.safetensors"), world.file("other.safetensors")).unwrap();
    first.add(new("second", "other.safetensors")).await.unwrap();
    first.change("second", online(true)).await.unwrap();
    first.choose(ModelKind::Language, Some("second"), When::Now).await.unwrap();
    assert_eq!(second.switch().identity(), "rwkv6-demo");
    assert!(second.look().await.unwrap());
    assert_eq!(second.switch().identity(), "second");
    // A change of the second does not lose those of the first.
    second.add(new("third", "other.safetensors")).await.unwrap();
    assert!(first.look().await.unwrap());
    assert!(entry(&first, "second").await.chosen);
    assert_eq!(entry(&first, "third").await.kind, ModelKind::Language);
}
