//! Golden bytes are what Python's msgpack 1.x wrote; the rest follows from the format's rules.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().map(|c| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn check(value: &Value, golden: &str) {
    assert_eq!(value.encode(), hex(golden), "{value:?}");
    assert_eq!(Value::decode(&hex(golden)).unwrap(), *value);
}

#[test]
fn scalars_are_written_as_python_writes_them() {
    check(&Value::Float(0.1), "cb3fb999999999999a");
    check(&Value::Bin(Bytes::from_static(&[0, 1])), "c4020001");
    check(&"x".repeat(31).as_str().into(), &format!("bf{}", "78".repeat(31)));
    check(&"x".repeat(32).as_str().into(), &format!("d920{}", "78".repeat(32)));
    check(&"x".repeat(256).as_str().into(), &format!("da0100{}", "78".repeat(256)));
    check(&"你好".into(), "a6e4bda0e5a5bd");
}

#[test]
fn integers_take_the_shortest_form() {
    let ints = [
        0,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        0xffff_ffff,
        0x1_0000_0000,
        0xffff_ffff_ffff_ffff,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32_768,
        -32_769,
        -0x8000_0000,
        -0x8000_0001,
        -0x8000_0000_0000_0000,
    ];
    let mut values = vec![Value::Nil, Value::Bool(true), Value::Bool(false)];
    values.extend(ints.map(Value::Int));
    check(
        &Value::Array(values),
        "dc0017c0c3c2007fcc80ccffcd0100cdffffce00010000ceffffffffcf0000000100000000cfffffffffffffffff\
         ffe0d0dfd080d1ff7fd18000d2ffff7fffd280000000d3ffffffff7fffffffd38000000000000000",
    );
}

#[test]
fn containers_change_form_with_their_length() {
    let list = |length| Value::Array(vec![Value::Nil; length]);
    check(&list(15), &format!("9f{}", "c0".repeat(15)));
    check(&list(16), &format!("dc0010{}", "c0".repeat(16)));
    check(&list(65_536), &format!("dd00010000{}", "c0".repeat(65_536)));
    let map = |length| Value::Map(vec![(Value::Int(1), Value::Nil); length]);
    check(&map(15), &format!("8f{}", "01c0".repeat(15)));
    check(&map(16), &format!("de0010{}", "01c0".repeat(16)));
}

#[test]
fn single_precision_floats_are_read() {
    assert_eq!(Value::decode(&hex("ca3fc00000")).unwrap(), Value::Float(1.5));
}

#[test]
fn each_kind_of_bad_frame_has_its_error() {
    let check = |frame: &[u8], expected: WireError| {
        assert_eq!(Value::decode(frame).unwrap_err().to_string(), expected.to_string());
    };
    check(&[], WireError::Truncated);
    check(&hex("a5616263"), WireError::Truncated);
    check(&hex("cd01"), WireError::Truncated);
    check(&hex("dd7fffffff"), WireError::Truncated);
    check(&hex("dfffffffff"), WireError::Truncated);
    check(&hex("c0c0"), WireError::Trailing { bytes: 1 });
    check(&hex("a2fffe"), WireError::NotUtf8);
    check(&hex("d40100"), WireError::Extension { tag: 0xd4 });
    check(&hex("c1"), WireError::Extension { tag: 0xc1 });
    check(&[0x91; 40], WireError::TooDeep);
    let mut many = hex("dd00400000");
    many.resize(5 + (4 << 20), 0xc0);
    check(&many, WireError::TooMany);
    check(&vec![0; FRAME_BYTES_MAX + 1], WireError::TooLong { bytes: FRAME_BYTES_MAX + 1 });
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|i| Value::Int(i.into())),
        any::<u64>().prop_map(|i| Value::Int(i.into())),
        (-1e300..1e300).prop_map(Value::Float),
        ".{0,40}".prop_map(Value::Str),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Bin(bytes.into())),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in any_value()) {
        prop_assert_eq!(Value::decode(&value.encode()).unwrap(), value);
    }

    #[test]
    fn a_cut_frame_is_an_error_and_never_a_value(value in any_value(), at in any::<prop::sample::Index>()) {
        let bytes = value.encode();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(matches!(Value::decode(cut), Err(WireError::Truncated)));
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Value::decode(&bytes) {
            // NaN is not equal to itself, so compare what they are written as.
            prop_assert_eq!(Value::decode(&value.encode()).unwrap().encode(), value.encode());
        }
    }
}
