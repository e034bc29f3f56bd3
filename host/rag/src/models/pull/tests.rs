//! Downloads from a hub that breaks off, lies about sizes, serves wrong bytes and leads elsewhere.

mod registered;
mod server;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rag_core::Error;
use tempfile::TempDir;

use super::fetch::{Terms, Watch, fetch};
use super::hub::{self, Hash, Plan};
use super::way::Way;
use super::{already, forget_others, hold_to, name_of};
use crate::config::outside;
use crate::egress::{Egress, SystemLookup};
use server::{Does, Hub, Tells, content_of, sha256};

const SILENCE: Duration = Duration::from_secs(30);

/// A hub with one file that an engine reads, and a folder for it.
struct World {
    hub: Hub,
    dir: TempDir,
    seen: Seen,
}

/// What a download told.
#[derive(Default)]
struct Seen {
    at: Mutex<Vec<u64>>,
    broke: Mutex<usize>,
}

impl Watch for Seen {
    fn at(&self, done: u64, _: Option<u64>) {
        self.at.lock().unwrap().push(done);
    }

    fn broke(&self, error: Option<&Error>) {
        *self.broke.lock().unwrap() += usize::from(error.is_some());
    }
}

fn way(hub: &str) -> Way {
    let egress = Egress::new(outside::Egress::default(), Arc::new(SystemLookup));
    Way::new(&egress, hub, SILENCE).unwrap()
}

impl World {
    async fn new(does: &[Does]) -> Self {
        Self::telling(does, Tells::Everything).await
    }

    async fn telling(does: &[Does], tells: Tells) -> Self {
        let files = [("README.md", b"abc".to_vec()), ("deep/model.pth", content_of(0))];
        let hub = Hub::start(&files, does, tells).await;
        World { hub, dir: tempfile::tempdir().unwrap(), seen: Seen::default() }
    }

    async fn plan(&self) -> rag_core::Result<Plan> {
        hub::plan(&way(&self.hub.address), "owner/name", "main", None).await
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("model.pth")
    }

    async fn fetch(&self, spare: u64) -> rag_core::Result<()> {
        let plan = self.plan().await.unwrap();
        let terms = Terms { pause: Duration::ZERO, spare, watch: &self.seen };
        fetch(&way(&self.hub.address), &plan.files[0], &self.target(), &terms).await
    }

    async fn comes_whole(&self) {
        self.fetch(0).await.unwrap();
        assert_eq!(sha256(&fs_err::read(self.target()).unwrap()), sha256(&content_of(0)));
        assert_eq!(self.left(), ["model.pth"]);
    }

    /// Fails with these words; nothing wrong is kept under the name. Returns what is kept.
    async fn fails(&self, words: &str) -> Vec<String> {
        let error = self.fetch(0).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!self.target().exists());
        self.left()
    }

    fn left(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn bytes_left(&self) -> u64 {
        fs_err::metadata(self.dir.path().join("model.pth.part")).map_or(0, |metadata| metadata.len())
    }
}

#[tokio::test]
async fn the_one_file_that_is_needed_comes_whole() {
    let world = World::new(&[Does::Serve]).await;
    let plan = world.plan().await.unwrap();
    assert_eq!(
        (plan.licence.as_str(), plan.target.as_str(), plan.is_folder),
        ("apache-2.0", "model.pth", false)
    );
    assert_eq!(plan.source, format!("owner/name@{}/deep/model.pth", server::COMMIT));
    assert_eq!(plan.files[0].hash, Hash::Sha256(sha256(&content_of(0))));
    assert_eq!(name_of(&plan), "model");
    world.comes_whole().await;
    assert_eq!(world.hub.fetched(), ["deep/model.pth"]);
    let told = world.seen.at.lock().unwrap().clone();
    assert!(told.is_sorted() && told.last() == Some(&1_200_000), "{:?}", told.last());

    // What is there is believed when it is the same.
    already(&world.target(), &plan).unwrap();
    fs_err::write(world.target(), "another").unwrap();
    assert!(already(&world.target(), &plan).unwrap_err().to_string().contains("something else"));

    let hub = way(&world.hub.address);
    for (file, words) in [("none.pth", "no file 'none.pth'"), ("README.md", "cannot name a model's file")] {
        let error = hub::plan(&hub, "owner/name", "main", Some(file)).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let missing = hub::plan(&hub, "owner/none", "main", None).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let does = [Does::BreakAfter(100_000), Does::Status("503 Busy"), Does::BreakAfter(50_000), Does::Serve];
    let world = World::new(&does).await;
    world.comes_whole().await;
    assert_eq!(world.hub.began(), [0, 100_000, 100_000, 150_000]);
    assert_eq!(world.hub.asked()[1].if_range.as_deref(), Some("\"first\""));
    assert_eq!(*world.seen.broke.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_download_that_was_given_up_is_resumed_by_the_next_one() {
    let gone = [const { Does::Status("502 Gone") }; 6];
    let does: Vec<Does> =
        std::iter::once(Does::BreakAfter(70_000)).chain(gone).chain([Does::Serve]).collect();
    let world = World::new(&does).await;
    assert_eq!(world.fails("goes on from there").await, ["model.pth.etag", "model.pth.part"]);
    assert_eq!(world.bytes_left(), 70_000);
    let so_far = world.hub.asked().len();
    world.comes_whole().await;
    assert!(world.hub.began()[so_far..].iter().all(|from| *from == 70_000));
    assert_eq!(world.hub.asked()[so_far].if_range.as_deref(), Some("\"first\""));
}

#[tokio::test]
async fn a_server_without_ranges_or_with_other_bytes_starts_over() {
    let world = World::new(&[Does::BreakAfter(100_000), Does::IgnoreRange]).await;
    world.comes_whole().await;
    assert_eq!(world.hub.began(), [0, 100_000]);
    // Its name for the bytes changed: they are not joined.
    let world = World::new(&[Does::BreakAfter(100_000), Does::Renamed]).await;
    world.comes_whole().await;
    assert_eq!(world.hub.began(), [0, 100_000]);
}

#[tokio::test]
async fn lies_are_found_and_nothing_of_them_is_kept() {
    World::new(&[Does::Announce(9)]).await.fails("announces").await;
    let flood = World::new(&[Does::Flood(9)]).await;
    flood.fails("more than").await;
    assert_eq!(flood.bytes_left(), 0);
    let spoiled = World::new(&[Does::Spoil]).await;
    assert!(spoiled.fails("another hash").await.is_empty());
    World::new(&[Does::BreakAfter(1_000), Does::OtherRange]).await.fails("another part").await;
    World::new(&[Does::Status("404 Not Found")]).await.fails("404").await;
    // Spoiled after a break: the whole is checked, not only the last part.
    let late = World::new(&[Does::BreakAfter(1_000), Does::Spoil]).await;
    assert!(late.fails("another hash").await.is_empty());
    // What lay there is not what it should be; then it is fetched anew.
    let world = World::new(&[Does::Serve]).await;
    fs_err::write(world.dir.path().join("model.pth.part"), [7; 1_000]).unwrap();
    assert!(world.fails("another hash").await.is_empty());
    world.comes_whole().await;
    let full = World::new(&[Does::Serve]).await.fetch(u64::MAX / 2).await.unwrap_err().to_string();
    assert!(full.contains("are missing and"), "{full}");
}

#[tokio::test]
async fn redirects_lead_to_public_servers_or_the_hub_itself() {
    let other = Hub::start(&[("deep/model.pth", content_of(0))], &[Does::Serve], Tells::Everything).await;
    let elsewhere = format!("{}/owner/name/resolve/{}/deep/model.pth", other.address, server::COMMIT);
    // Another server on this machine is none of the hub's business.
    World::new(&[Does::Redirect(elsewhere)]).await.fails("on this machine").await;
    assert!(other.asked().is_empty());
    let metadata = Does::Redirect("http://169.254.169.254/latest".into());
    World::new(&[metadata]).await.fails("link-local").await;
    World::new(&[Does::Redirect("ftp://localhost/a.pth".into())]).await.fails("neither http").await;
    let again = format!("/owner/name/resolve/{}/deep/model.pth", server::COMMIT);
    let world = World::new(&[Does::Redirect(again.clone()), Does::Serve]).await;
    world.comes_whole().await;
    World::new(&[Does::Redirect(again)]).await.fails("more than 5 times").await;
    // From TLS there is no way back to none.
    let sealed = way("https://hub.invalid");
    let from = sealed.address("owner/name").unwrap();
    let answer =
        http::Response::builder().status(302).header("location", "http://cdn.invalid/a").body("").unwrap();
    assert!(matches!(sealed.next(&from, &answer.into()), Err(Error::Denied { .. })));
}

#[tokio::test]
async fn hashes_come_from_the_description_the_headers_or_the_operator() {
    let world = World::telling(&[Does::Serve], Tells::Headers).await;
    let plan = world.plan().await.unwrap();
    assert_eq!(plan.files[0].bytes, Some(1_200_000));
    assert_eq!(plan.files[0].hash, Hash::Sha256(sha256(&content_of(0))));
    world.comes_whole().await;

    let world = World::telling(&[Does::Serve], Tells::Nothing).await;
    let mut plan = world.plan().await.unwrap();
    assert_eq!((plan.files[0].bytes, &plan.files[0].hash), (None, &Hash::Untold));
    assert!(hold_to(&mut plan, None).unwrap_err().to_string().contains("tells no hash"));
    hold_to(&mut plan, Some(&sha256(&content_of(0)))).unwrap();
    assert!(matches!(hold_to(&mut plan, Some(&"00".repeat(32))), Err(Error::Conflict { .. })));
    let terms = Terms { pause: Duration::ZERO, spare: 0, watch: &world.seen };
    fetch(&way(&world.hub.address), &plan.files[0], &world.target(), &terms).await.unwrap();
}

#[tokio::test]
async fn an_encoder_is_its_folder_and_nothing_else() {
    let small = |text: &str| text.as_bytes().to_vec();
    let files = [
        ("config.json", small("{}")),
        ("tokenizer.json", small("{ }")),
        ("1_Pooling/config.json", small("[]")),
        ("model.safetensors", content_of(1)),
        ("pytorch_model.bin", content_of(2)),
        ("onnx/model.onnx", content_of(3)),
        ("README.md", small("#")),
    ];
    let hub = Hub::start(&files, &[Does::Serve], Tells::Everything).await;
    let plan = hub::plan(&way(&hub.address), "owner/name", "main", None).await.unwrap();
    let paths: Vec<&str> = plan.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"]);
    assert_eq!((plan.target.as_str(), plan.is_folder), ("name", true));
    assert!(matches!(plan.files[0].hash, Hash::Git(_)));
    let split = Hub::start(&files[..3], &[Does::Serve], Tells::Everything).await;
    let error = hub::plan(&way(&split.address), "owner/name", "main", None).await.unwrap_err().to_string();
    assert!(error.contains("weights in several files"), "{error}");
    let two = [("a.pth", content_of(1)), ("b.st", content_of(2))];
    let two = Hub::start(&two, &[Does::Serve], Tells::Everything).await;
    let error = hub::plan(&way(&two.address), "owner/name", "main", None).await.unwrap_err().to_string();
    assert!(error.contains("--file): a.pth, b.st"), "{error}");
}

#[test]
fn what_pulls_of_other_commits_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".name.aaaa.part", ".name.bbbb.part", ".name.v2.cccc.part", ".name2.aaaa.part", "name"] {
        fs_err::create_dir(dir.path().join(name)).unwrap();
    }
    forget_others(dir.path(), "name", &dir.path().join(".name.bbbb.part")).unwrap();
    let mut left: Vec<_> = fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".name.bbbb.part", ".name.v2.cccc.part", ".name2.aaaa.part", "name"]);
}
