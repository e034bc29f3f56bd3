//! What is written is what the engine reads, and a failed write leaves what was there.

use rag_engine::checkpoint;

use super::*;

fn tensors() -> Vec<Named> {
    let values = |len: usize, a: f32| (0..len).map(|i| (i as f32 * a).sin()).collect::<Vec<f32>>();
    vec![
        Named { name: "blocks.0.att.time_state".into(), shape: vec![2, 4, 4], values: values(32, 0.3) },
        Named { name: "blocks.0.att.key.lora_A".into(), shape: vec![2, 8], values: values(16, 0.7) },
        Named { name: "blocks.0.ln1.weight".into(), shape: vec![8], values: values(8, 1.1) },
    ]
}

#[test]
fn the_engine_reads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for container in [Container::Pth, Container::Safetensors] {
        for kind in [Type::F32, Type::Bf16] {
            let path = dir.path().join(format!("tensors.{}", container.ending()));
            container.write_all(&path, &tensors(), kind, &[("step".into(), "7".into())]).unwrap();
            let read = checkpoint::open(&path).unwrap();
            assert_eq!(read.names().len(), 3);
            for tensor in tensors() {
                assert_eq!(read.shape(&tensor.name).unwrap(), tensor.shape);
                let values = read.read(&tensor.name).unwrap();
                let worst = values.iter().zip(&tensor.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    worst <= if kind == Type::F32 { 0.0 } else { 0.004 },
                    "{container:?} {kind:?}: {worst}"
                );
            }
        }
    }
    let metadata = safetensors::metadata(&dir.path().join("tensors.safetensors")).unwrap();
    assert_eq!(metadata["step"], "7");
    assert!(safetensors::metadata(&dir.path().join("tensors.pth")).is_none());
}

#[test]
fn storages_are_aligned_and_files_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = dir.path().join(name).join("rwkv-0.pth");
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        Container::Pth.write_all(&path, &tensors(), Type::F32, &[]).unwrap();
        fs_err::read(path).unwrap()
    };
    let bytes = write("a");
    assert_eq!(bytes, write("b"));
    for tensor in tensors() {
        let data = Type::F32.encode(&tensor.values);
        let at = bytes.windows(data.len()).position(|window| window == data).unwrap();
        assert_eq!(at % 64, 0, "{}", tensor.name);
    }
}

#[test]
fn a_failed_write_leaves_the_file_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.pth");
    Container::Pth.write_all(&path, &tensors(), Type::F32, &[]).unwrap();
    let before = fs_err::read(&path).unwrap();
    let planned = [Planned { name: "x".into(), shape: vec![2], kind: Type::F32 }];
    let failed =
        Container::Pth.write(&path, &planned, &[], |_| Err(Error::Storage { message: "disk full".into() }));
    assert!(matches!(failed, Err(Error::Storage { .. })));
    assert_eq!(fs_err::read(&path).unwrap(), before);
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    let elsewhere = dir.path().join("none").join("state.pth");
    assert!(matches!(
        Container::Pth.write_all(&elsewhere, &tensors(), Type::F32, &[]),
        Err(Error::Storage { .. })
    ));
}
