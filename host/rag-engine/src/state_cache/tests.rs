//! States come back for their own scope and prefix, to the bit, from memory and from a folder, within both budgets.

use super::*;
use crate::rwkv::{Config, Version};

fn config() -> Config {
    Config {
        vocabulary: 10,
        width: 4,
        layers: 1,
        heads: 2,
        head_size: 2,
        hidden: 4,
        version: Version::V6 { mix_rank: 1, decay_rank: 1 },
    }
}

/// A state told by one number.
fn state(value: f32) -> State {
    let values: Vec<u8> = (0..config().state_len()).flat_map(|i| (value + i as f32).to_le_bytes()).collect();
    State::from_bytes(&values, &config()).unwrap()
}

fn kept(value: f32) -> Arc<State> {
    Arc::new(state(value))
}

fn scope(tenant: &str) -> Scope {
    Scope::of(&[b"model", tenant.as_bytes()])
}

/// Length of the prefix found.
fn found(cache: &mut StateCache, tokens: &[u32]) -> usize {
    cache.find(scope("a"), tokens, &config()).map_or(0, |(_, len)| len)
}

#[test]
fn the_longest_prefix_is_found() {
    let mut cache = StateCache::new(10_000, None);
    cache.insert(scope("a"), &[1, 2], kept(1.0));
    cache.insert(scope("a"), &[1, 2, 3, 4], kept(2.0));
    for (tokens, len) in [
        (&[1, 2, 3, 4, 5][..], 4),
        (&[1, 2, 3, 4], 4),
        (&[1, 2, 3], 2),
        (&[1, 2, 9, 4], 2),
        (&[1], 0),
        (&[2, 1], 0),
        (&[], 0),
    ] {
        assert_eq!(found(&mut cache, tokens), len, "{tokens:?}");
    }
    let (restored, _) = cache.find(scope("a"), &[1, 2, 3], &config()).unwrap();
    assert_eq!(*restored, state(1.0));
}

#[test]
fn tenants_share_nothing() {
    let mut cache = StateCache::new(10_000, None);
    cache.insert(scope("a"), &[1, 2], kept(1.0));
    assert_eq!(cache.find(scope("b"), &[1, 2, 3], &config()), None);
    assert_ne!(Scope::of(&[b"ab", b"c"]), Scope::of(&[b"a", b"bc"]));
}

#[test]
fn the_budget_holds_and_the_least_used_goes() {
    let one = state(0.0).bytes() + 4;
    let mut cache = StateCache::new(one * 3, None);
    for token in 1..=3 {
        cache.insert(scope("a"), &[token], kept(0.0));
    }
    assert_eq!(found(&mut cache, &[1]), 1);
    cache.insert(scope("a"), &[4], kept(0.0));
    assert_eq!([1, 2, 3, 4].map(|token| found(&mut cache, &[token])), [1, 0, 1, 1]);
    assert!(cache.bytes <= cache.bytes_max);
    // The same prefix again takes no more room.
    let bytes = cache.bytes;
    cache.insert(scope("a"), &[4], kept(0.0));
    assert_eq!(cache.bytes, bytes);

    let mut none = StateCache::new(0, None);
    none.insert(scope("a"), &[1], kept(0.0));
    assert_eq!(found(&mut none, &[1]), 0);
}

/// A cache over a folder, with room for one state in memory.
fn over(dir: &std::path::Path, files: u64) -> StateCache {
    let disk = DiskCache { dir: dir.to_path_buf(), bytes_max: files * (state(0.0).bytes() as u64 + 60) };
    StateCache::new(state(0.0).bytes() + 8, Some(Disk::open(&disk).unwrap()))
}

/// Waits for the writer's thread.
fn wait_for_files(dir: &std::path::Path, count: usize) {
    let whole = || {
        let names = fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".state")).count()
    };
    while whole() < count {
        std::thread::yield_now();
    }
}

#[test]
fn what_memory_has_no_room_for_comes_back_from_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = over(folder.path(), 10);
    cache.insert(scope("a"), &[1, 2], kept(0.1));
    cache.insert(scope("a"), &[3], kept(5.0));
    wait_for_files(folder.path(), 1);
    assert_eq!(cache.find(scope("a"), &[1, 2, 3], &config()), Some((kept(0.1), 2)));
    cache.insert_lasting(scope("a"), &[9], kept(9.0));
    wait_for_files(folder.path(), 3);
    drop(cache);

    // Another process finds it, for the same scope only.
    let mut cache = over(folder.path(), 10);
    assert_eq!(cache.find(scope("b"), &[9], &config()), None);
    assert_eq!(cache.find(scope("a"), &[9, 9], &config()), Some((kept(9.0), 1)));
}

#[test]
fn damaged_files_are_removed_and_the_folder_s_budget_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = over(folder.path(), 10);
    for token in 0..4 {
        cache.insert_lasting(scope("a"), &[token], kept(token as f32));
        wait_for_files(folder.path(), token as usize + 1);
    }
    drop(cache);
    let first = over(folder.path(), 10).disk.unwrap().path(key_of(scope("a"), &[2]));
    let mut bytes = fs_err::read(&first).unwrap();
    bytes[30] ^= 1;
    fs_err::write(&first, bytes).unwrap();
    let mut cache = over(folder.path(), 10);
    assert_eq!([2, 3].map(|token| found(&mut cache, &[token])), [0, 1]);
    assert!(!first.exists());
    drop(cache);
    assert!(over(folder.path(), 1).disk.unwrap().index.len() <= 1);
}
