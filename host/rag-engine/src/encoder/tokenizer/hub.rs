//! Vocabularies in the usual hub's `tokenizer.json`: XLM-RoBERTa's unigrams, BERT's word pieces, RoBERTa's byte pairs.

use std::path::Path;

use tokenizers::Tokenizer;

use super::Specials;

/// Text that a vocabulary without an unknown piece cannot cut: a character that no vocabulary has.
const RARE: &str = "\u{10fffd}";

/// How families write the piece for what they do not know.
const UNKNOWN: [&str; 2] = ["<unk>", "[UNK]"];

/// Reads a vocabulary and the special tokens that its template puts around one text and between two.
pub(super) fn read(path: &Path) -> Result<(Tokenizer, Specials), String> {
    let file = path.display();
    let mut tokenizer =
        Tokenizer::from_file(path).map_err(|error| format!("{file} is no vocabulary: {error}"))?;
    tokenizer
        .with_truncation(None)
        .map_err(|error| format!("{file}: its truncation cannot be turned off: {error}"))?
        .with_padding(None);
    let ids = |first: &str, second: Option<&str>| {
        let encoded = match second {
            Some(second) => tokenizer.encode((first, second), true),
            None => tokenizer.encode(first, true),
        };
        encoded.map(|encoded| encoded.get_ids().to_vec()).map_err(|error| format!("{file}: {error}"))
    };
    ids(RARE, None)?;
    let (&[begin, end], pair) = (ids("", None)?.as_slice(), ids("", Some(""))?) else {
        return Err(format!("{file} does not put one special token before and one after a text"));
    };
    let [first, middle @ .., last] = pair.as_slice() else {
        return Err(format!("{file} puts no special tokens around two texts"));
    };
    if *first != begin || *last != end || middle.is_empty() {
        return Err(format!("{file} frames two texts otherwise than one"));
    }
    let unknown = UNKNOWN.iter().find_map(|piece| tokenizer.token_to_id(piece));
    let specials = Specials { begin, end, middle: middle.to_vec(), unknown };
    Ok((tokenizer, specials))
}

/// Ids of a text's pieces. `read` has made sure that any text can be cut.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    match tokenizer.encode_fast(text, false) {
        Ok(encoded) => encoded.get_ids().to_vec(),
        Err(error) => {
            tracing::error!(%error, "a text could not be cut into tokens");
            Vec::new()
        }
    }
}
