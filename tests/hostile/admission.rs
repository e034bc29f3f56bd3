//! What may not be installed, and what the message says about it.

use std::fs;

use rag_core::Error;
use rag_core::error::PluginFault::{CpuLimit, InvalidOutput, Refused, Trap};
use rag_wasm::{Compiler, Kind, Limits, PluginHost, Profile, WasmConfig};

use crate::{Expected, Fault, assert_error, guest, host, limits};

#[track_caller]
fn check(name: &str, expected: &Expected) {
    let err = host().load_file(&guest(name)).unwrap_err();
    assert_error(&err, expected, name);
    assert!(host().installed().iter().all(|plugin| !plugin.path.ends_with(name)));
}

#[test]
fn a_component_of_another_kind_is_refused_with_what_it_lacks() {
    check("stranger", &Fault(Refused, "it exports none of ragkit:plugin/parser@0.1.0"));
    check("stranger", &Fault(Refused, "it exports stranger:danger/greeting@1.0.0"));
    check("nameless", &Fault(Refused, "it does not export ragkit:plugin/info@0.1.0"));
}

#[test]
fn an_import_beyond_the_grants_is_refused_by_name() {
    check("ungranted", &Fault(Refused, "wasi:filesystem/types@0.2"));
    check("ungranted", &Fault(Refused, "which a chunker is not granted"));
}

/// A guest with something replaced or added, as a file of its own.
fn check_bytes(bytes: &[u8], expected: &Expected, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("hostile-{name}.wasm"));
    fs::write(&path, bytes).unwrap();
    assert_error(&host().load_file(&path).unwrap_err(), expected, name);
}

#[test]
fn a_component_for_another_version_of_the_interfaces_is_told_both() {
    for (old, new, what) in [
        ("@0.1.0", "@0.2.0", "made for version 0.2.0 of ragkit:plugin, and this host speaks 0.1.0"),
        (
            "ragkit:host/config@0.1.0",
            "ragkit:host/config@0.1.1",
            "made for version 0.1.1 of ragkit:host/config, and this host speaks 0.1.0",
        ),
    ] {
        let mut newer = fs::read(guest("chunker")).unwrap();
        let places = newer.windows(old.len()).enumerate().filter(|(_, at)| *at == old.as_bytes());
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{old}");
        for at in places {
            newer[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        check_bytes(&newer, &Fault(Refused, what), "newer");
    }
}

#[test]
fn a_manifest_is_held_to_the_code_and_to_its_keys() {
    let guest = fs::read(guest("chunker")).unwrap();
    let manifest = |lines: &str| {
        let text = format!("version = '0.1.0'\nkind = 'chunker'\ndescription = 'd'\n{lines}");
        let mut bytes = guest.clone();
        let length = 16 + text.len();
        bytes.extend([0, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8, 15]);
        bytes.extend_from_slice(b"ragkit:manifest");
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    for (name, lines, part) in [
        ("key", "id = 'hostile-chunker'\nspeed = 9", "unknown field `speed`"),
        (
            "grant",
            "id = 'hostile-chunker'\n[grants]\ntokens = true",
            "it imports embed, which its manifest does not ask",
        ),
        ("name", "id = 'hostile-chunker'\n\"a\\u001b[2J\" = 1", "in line 5: unknown field `a [2J`"),
        ("files", "id = 'hostile-chunker'\n[grants]\nfiles = true", "asks in [grants] for 'files'"),
        (
            "id",
            "id = 'somebody'\n[grants]\ntokens = true\nembed = true",
            "the id 'somebody', its code 'hostile-chunker'",
        ),
    ] {
        check_bytes(&manifest(lines), &Fault(Refused, part), name);
    }
    let good = manifest("id = 'hostile-chunker'\nprofile = 'lang'\n[grants]\ntokens = true\nembed = true");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.wasm");
    fs::write(&path, good).unwrap();
    let host = PluginHost::new(WasmConfig {
        limits: limits(),
        ..WasmConfig::new(dir.path().join("c"), Compiler::Here)
    })
    .unwrap();
    let loaded = host.load_file(&path).unwrap();
    let asks: Vec<&str> = loaded.asks.iter().map(|ask| ask.interface.as_str()).collect();
    assert_eq!((asks, loaded.profile), (vec!["embed", "tokens"], Profile::Lang));
}

#[test]
fn a_component_that_cannot_say_who_it_is_is_refused() {
    check("describe_loop", &Fault(CpuLimit, "processor time"));
    check("describe_trap", &Fault(Trap, "who is asking?"));
    check("describe_nonsense", &Fault(InvalidOutput, "'../../etc/passwd' is no id"));
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let good = fs::read(guest("chunker")).unwrap();
    let noise: Vec<u8> = (0..10_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut damaged = good.clone();
    for byte in damaged.iter_mut().skip(1_000).step_by(97) {
        *byte ^= 0x55;
    }
    let mut magic_and_noise = b"\0asm\x0d\0\x01\0".to_vec();
    magic_and_noise.extend_from_slice(&noise);
    for (name, bytes, part) in [
        ("module", b"\0asm\x01\0\0\0".to_vec(), "a core module, not a component"),
        ("noise", noise, "not WebAssembly"),
        ("empty", Vec::new(), "the file is empty"),
        ("empty-component", b"\0asm\x0d\0\x01\0".to_vec(), "it exports nothing"),
        ("cut", good[..good.len() / 2].to_vec(), "not a valid component"),
        ("damaged", damaged, "not a valid component"),
        ("magic-and-noise", magic_and_noise, "not a valid component"),
    ] {
        let path = dir.path().join(format!("hostile-{name}.wasm"));
        fs::write(&path, bytes).unwrap();
        assert_error(&host().load_file(&path).unwrap_err(), &Fault(Refused, part), name);
    }
}

#[test]
fn a_file_that_is_too_large_or_not_there_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { component_bytes_max: 1_000, ..limits() };
    let host = PluginHost::new(WasmConfig { limits, ..WasmConfig::new(dir.path(), Compiler::Here) }).unwrap();
    let err = host.load_file(&guest("chunker")).unwrap_err();
    assert!(matches!(err, Error::TooLarge { limit: 1_000, .. }), "{err:?}");
    let err = host.load_file(&dir.path().join("absent.wasm")).unwrap_err();
    assert!(matches!(&err, Error::Unavailable { message } if message.contains("absent.wasm")), "{err:?}");
}

#[test]
fn a_folder_loads_what_is_good_and_reports_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["chunker", "parser"] {
        fs::copy(guest(name), dir.path().join(format!("{name}.wasm"))).unwrap();
    }
    fs::write(dir.path().join("broken.wasm"), "not wasm").unwrap();
    fs::write(dir.path().join("readme.txt"), "no plugin").unwrap();
    let host = PluginHost::new(WasmConfig {
        limits: limits(),
        ..WasmConfig::new(dir.path().join("c"), Compiler::Here)
    })
    .unwrap();
    let report: Vec<(String, bool)> = host
        .load_dir(dir.path())
        .unwrap()
        .into_iter()
        .map(|(path, loaded)| (path.file_name().unwrap().to_string_lossy().into_owned(), loaded.is_ok()))
        .collect();
    let expected = [("broken.wasm", false), ("chunker.wasm", true), ("parser.wasm", true)];
    assert_eq!(report, expected.map(|(name, good)| (name.to_owned(), good)));

    let installed = host.installed();
    assert_eq!(installed.len(), 2);
    let (chunker, parser) = (&installed[0], &installed[1]);
    assert_eq!((chunker.info.id.as_str(), chunker.kind), ("hostile-chunker", Kind::Chunker));
    assert_eq!((chunker.info.version.as_str(), chunker.info.digest.len()), ("0.1.0", 64));
    assert_eq!(
        (parser.kind, parser.accepts.as_slice()),
        (Kind::Parser, ["text/plain".to_owned()].as_slice())
    );
    assert!(host.load_dir(&dir.path().join("absent")).is_err());
}

#[test]
fn one_id_is_held_by_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.wasm"), dir.path().join("second.wasm"));
    fs::copy(guest("chunker"), &first).unwrap();
    // An empty custom section: another digest, the same plugin.
    let mut changed = fs::read(&first).unwrap();
    changed.extend_from_slice(b"\0\x02\x01x");
    fs::write(&second, &changed).unwrap();
    let host = PluginHost::new(WasmConfig {
        limits: limits(),
        ..WasmConfig::new(dir.path().join("c"), Compiler::Here)
    })
    .unwrap();
    let one = host.load_file(&first).unwrap();
    assert!(matches!(host.load_file(&second), Err(Error::Conflict { .. })));
    // The same file with new content replaces what it held.
    fs::write(&first, &changed).unwrap();
    let two = host.load_file(&first).unwrap();
    assert_ne!(one.info.digest, two.info.digest);
    assert_eq!(host.installed().len(), 1);
    // A file that moved keeps its id.
    fs::remove_file(&first).unwrap();
    assert_eq!(host.load_file(&second).unwrap().info.digest, two.info.digest);
}

#[test]
fn what_is_not_installed_is_not_found_and_settings_are_json_objects() {
    let host = host();
    let absent = host.parser("hostile-chunker", "{}", Default::default()).err().unwrap();
    assert!(matches!(absent, Error::NotFound { what: "parser plugin", .. }), "{absent:?}");
    for bad in ["", "[]", "null", "{", "{\"a\":}"] {
        let err = host.parser("hostile-parser", bad, Default::default()).err().unwrap();
        assert!(matches!(err, Error::InvalidInput { .. }), "{bad}: {err:?}");
    }
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(300 << 10));
    assert!(matches!(
        host.parser("hostile-parser", &long, Default::default()).err().unwrap(),
        Error::InvalidInput { .. }
    ));
}

#[test]
fn a_pool_that_does_not_fit_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    // Some exabytes of address space.
    let limits = Limits { instances_max: 1 << 24, ..limits() };
    let host = PluginHost::new(WasmConfig { limits, ..WasmConfig::new(dir.path(), Compiler::Here) }).unwrap();
    host.load_file(&guest("chunker")).unwrap();
}
