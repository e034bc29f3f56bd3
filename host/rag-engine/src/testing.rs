//! What this crate's own tests share: where the shipped models are, and the vocabulary.

use std::path::PathBuf;
use std::sync::LazyLock;

use crate::tokenizer::Tokenizer;

/// The repository's `models/`.
pub(crate) fn models_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

pub(crate) fn vocabulary_text() -> String {
    fs_err::read_to_string(models_dir().join("rwkv_vocab_v20230424.txt")).unwrap()
}

pub(crate) fn world() -> &'static Tokenizer {
    static WORLD: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::parse(&vocabulary_text()).unwrap());
    &WORLD
}
