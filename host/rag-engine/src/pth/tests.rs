//! Files as PyTorch writes them, and what an attacker would make of them.

use super::*;

/// A ZIP of stored entries, as PyTorch writes it (checksums are not read and stay 0).
fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for (name, data) in entries {
        let local = out.len() as u32;
        let sizes = [data.len() as u32, data.len() as u32];
        out.extend(LOCAL_SIGNATURE);
        out.extend([0; 14]);
        sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(name.as_bytes());
        out.extend(*data);

        central.extend([0x50, 0x4b, 1, 2]);
        central.extend([0; 16]);
        sizes.iter().for_each(|size| central.extend(size.to_le_bytes()));
        central.extend((name.len() as u16).to_le_bytes());
        central.extend([0; 12]);
        central.extend(local.to_le_bytes());
        central.extend(name.as_bytes());
    }
    let at = out.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(&central);
    out.extend([0x50, 0x4b, 5, 6, 0, 0, 0, 0]);
    out.extend(count);
    out.extend(count);
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0; 2]);
    out
}

const LOCAL_SIGNATURE: [u8; 4] = [0x50, 0x4b, 3, 4];

struct Tensor<'a> {
    name: &'a str,
    class: &'a str,
    key: &'a str,
    storage_len: u8,
    offset: u8,
    shape: [u8; 2],
    stride: [u8; 2],
}

/// A pickle of a dictionary with two-dimensional tensors, protocol 2.
fn pickle_of(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x00(".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    for tensor in tensors {
        text(&mut out, tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", tensor.class).bytes());
        text(&mut out, tensor.key);
        text(&mut out, "cpu");
        out.extend([b'K', tensor.storage_len, b't', b'Q', b'K', tensor.offset]);
        for [a, b] in [tensor.shape, tensor.stride] {
            out.extend([b'K', a, b'K', b, 0x86]);
        }
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn tensor(name: &str) -> Tensor<'_> {
    Tensor { name, class: "FloatStorage", key: "0", storage_len: 6, offset: 0, shape: [2, 3], stride: [3, 1] }
}

fn floats() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn open(bytes: &[u8]) -> Result<PthFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    fs_err::write(&path, bytes).unwrap();
    PthFile::open(&path)
}

fn refusal(bytes: &[u8]) -> String {
    match open(bytes) {
        Err(Error::Model { message, path }) => {
            assert!(path.ends_with("model.pth"));
            message
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

fn checkpoint(tensors: &[Tensor<'_>]) -> Vec<u8> {
    zip_of(&[
        ("final/data.pkl", &pickle_of(tensors)),
        ("final/byteorder", b"little"),
        ("final/data/0", &floats()),
    ])
}

#[test]
fn tensors_come_back_with_offset_and_stride() {
    let transposed = Tensor { shape: [3, 2], stride: [1, 3], ..tensor("transposed") };
    let part = Tensor { offset: 1, shape: [2, 2], ..tensor("part") };
    let file = open(&checkpoint(&[tensor("whole"), transposed, part])).unwrap();
    assert_eq!(file.tensor_names().collect::<Vec<_>>(), ["part", "transposed", "whole"]);
    assert_eq!(file.describe("part"), Some((Dtype::F32, &[2, 2][..])));
    assert_eq!(file.tensor("whole").unwrap(), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(file.tensor("transposed").unwrap(), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(file.tensor("part").unwrap(), [1., 2., 4., 5.]);
    assert!(file.tensor("missing").is_err());
}

#[test]
fn half_precision_is_exact_both_ways() {
    for half in 0..=u16::MAX {
        let value = half_to_f32(half);
        if value.is_nan() {
            assert!(half_to_f32(f32_to_half(value)).is_nan());
        } else {
            assert_eq!(f32_to_half(value), half, "{value}");
        }
    }
    assert_eq!(half_to_f32(0x3c01), 1.0 + 1.0 / 1024.0);
    assert_eq!(half_to_f32(0x0001), 2f32.powi(-24));
    // Halfway between two halves goes to the even one; beyond the largest is infinity.
    assert_eq!(f32_to_half(1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(f32_to_half(1.0 + 3.0 / 2048.0), 0x3c02);
    assert_eq!(f32_to_half(65504.0), 0x7bff);
    assert_eq!(f32_to_half(65520.0), 0x7c00);
    assert_eq!(f32_to_half(2f32.powi(-25)), 0);
    let bf16 = to_f32(Dtype::Bf16, &0xc049u16.to_le_bytes());
    assert_eq!(bf16, [-3.140625]);
}

#[test]
fn a_pickle_with_code_is_refused_by_name() {
    for (program, complaint) in [
        (&b"cos\nsystem\nX\x04\0\0\0true\x85R."[..], "names os.system"),
        (b"cbuiltins\neval\n.", "names builtins.eval"),
        (b"\x8c\x05posix\x8c\x06system\x93.", "names posix.system"),
        (b"ctorch\nDoubleStorage\n.", "names torch.DoubleStorage"),
        (b"(S'x'\ni__builtin__\nopen\n.", "instruction 0x53"),
        (b"K\x01}b.", "sets attributes of something that is no dictionary"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "RebuildTensor with arguments that it never has"),
        (b"R.", "takes more values than it made"),
        (b"h\x05.", "recalls what it never stored"),
        (b"K", "cut short"),
        (b"", "cut short"),
        (b"K\x01.", "no dictionary of tensors"),
        (b"}(K\x01K\x02u.", "an entry without a name"),
        (b"}(X\x01\0\0\0aK\x02u.", "'a' is not a tensor"),
    ] {
        let message = refusal(&zip_of(&[("m/data.pkl", program)]));
        assert!(message.contains(complaint), "{program:?}: {message}");
    }
    let mut nested = vec![b')'];
    nested.extend([0x85; 100_000]);
    nested.push(b'.');
    assert!(refusal(&zip_of(&[("m/data.pkl", &nested)])).contains("too deep"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = checkpoint(&[tensor("a")]);
    for len in 0..whole.len() {
        let error = open(&whole[..len]).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{len}: {error}");
    }
    open(&whole).unwrap();
}

#[test]
fn storages_that_do_not_fit_are_refused() {
    for (bad, complaint) in [
        (Tensor { storage_len: 7, ..tensor("a") }, "24 bytes, 7 elements"),
        (Tensor { class: "HalfStorage", ..tensor("a") }, "24 bytes, 6 elements"),
        (Tensor { offset: 1, ..tensor("a") }, "element 6 lies outside"),
        (Tensor { stride: [4, 1], ..tensor("a") }, "element 6 lies outside"),
        (Tensor { shape: [200, 200], stride: [0, 0], ..tensor("a") }, "40000 elements out of"),
        (Tensor { key: "1", ..tensor("a") }, "storage of 'a' is missing"),
    ] {
        let message = refusal(&checkpoint(&[bad]));
        assert!(message.contains(complaint), "{message}");
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let pickle = pickle_of(&[tensor("a")]);
    let big_endian = zip_of(&[("m/data.pkl", &pickle), ("m/byteorder", b"big"), ("m/data/0", &floats())]);
    assert!(refusal(&big_endian).contains("big-endian"));
    let twice = zip_of(&[("m/data.pkl", &pickle), ("m/data.pkl", &pickle)]);
    assert!(refusal(&twice).contains("comes twice"));
    assert!(refusal(&zip_of(&[("m/readme", b"hello")])).contains("no data.pkl"));
    assert!(refusal(b"\x80\x02legacy checkpoint").contains("not a ZIP file"));
    assert!(refusal(b"").contains("not a ZIP file"));

    let good = zip_of(&[("m/data.pkl", &pickle), ("m/data/0", &floats())]);
    let directory = good.windows(4).position(|w| w == [0x50, 0x4b, 1, 2]).unwrap();
    let mut compressed = good.clone();
    compressed[directory + 10] = 8;
    assert!(refusal(&compressed).contains("is compressed"));
    let mut encrypted = good.clone();
    encrypted[directory + 8] = 1;
    assert!(refusal(&encrypted).contains("is encrypted"));
    let mut bomb = good.clone();
    bomb[directory + 24..directory + 28].copy_from_slice(&[0xf0; 4]);
    assert!(refusal(&bomb).contains("two sizes"));

    // The same data as two entries.
    let mut overlapping =
        zip_of(&[("m/data.pkl", &pickle), ("m/data/0", &floats()), ("m/data/0", &floats())]);
    let last = overlapping.windows(4).rposition(|w| w == [0x50, 0x4b, 1, 2]).unwrap();
    let name = last + 46 + "m/data/".len();
    overlapping[name] = b'1';
    assert!(refusal(&overlapping).contains("not where the directory says"));
    let local = overlapping.windows(4).rposition(|w| w == LOCAL_SIGNATURE).unwrap();
    overlapping[local + 30 + "m/data/".len()] = b'1';
    // Now whole; make the second one's local header claim a long extra field before it, i.e. shift the first's data.
    open(&overlapping).unwrap();
    let first = overlapping[..local].windows(4).rposition(|w| w == LOCAL_SIGNATURE).unwrap();
    overlapping[first + 28] = 60;
    assert!(refusal(&overlapping).contains("overlap"));
}

#[test]
fn the_description_survives_random_damage() {
    let whole = checkpoint(&[tensor("a"), tensor("b")]);
    let mut random = crate::random::Random::seeded(7);
    for _ in 0..4000 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len() as u64) as usize;
            damaged[at] = random.below(256) as u8;
        }
        // Either it still describes tensors that can be read, or it is refused: never a panic.
        if let Ok((tensors, storages)) = describe(&damaged) {
            for view in tensors.values() {
                gather(view, &damaged[storages[&view.storage].clone()]);
            }
        }
    }
}
