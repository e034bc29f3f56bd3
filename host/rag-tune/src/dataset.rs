//! J2B: a JSON Lines file of texts becomes a shuffled binidx pair (`.bin`, `.idx`) that RWKV's trainers read.
//!
//! As RWKV-RAG does it: blank lines are dropped, each copy of the data is shuffled anew, every document ends with
//! token 0. Unlike there, every bad line is named before anything is written, shuffles repeat from a seed, and the
//! pair appears whole or not at all.

pub mod binidx;
mod jsonl;
pub mod mask;
pub mod samples;
mod shuffle;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use binidx::Binidx;
pub use jsonl::{LineError, LineFault};
use shuffle::SplitMix64;

/// Ends every document; no tokenizer gives it to a text.
pub const END_OF_DOCUMENT: u16 = 0;
/// Errors that are listed one by one; the total is always told.
pub const LISTED_ERRORS_MAX: usize = 1_000;
/// Bytes of one line, and so of one text.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Tokens of a data set, copies not counted: they are held in memory, two bytes each.
pub const TOKENS_MAX: usize = 2_000_000_000;

/// How a data set is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often every document is written, each time in a new order.
    pub copies: u32,
    /// Tokens of a training sample; only the magic prime depends on it.
    pub context_tokens: u64,
    /// The same seed gives the same files.
    pub seed: u64,
}

/// RWKV-RAG's defaults.
impl Default for Settings {
    fn default() -> Self {
        Settings { copies: 3, context_tokens: 1024, seed: 0 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Documents of the source; the files hold `copies` times as many.
    pub documents: usize,
    /// Tokens of the files, ends of documents included.
    pub tokens: u64,
    /// For trainers that sample by it; none when the data is shorter than three contexts.
    pub magic_prime: Option<u64>,
    pub bin: PathBuf,
    pub idx: PathBuf,
}

/// Why no data set was made. The files of an earlier run are untouched then.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Lines that are not what they should be: all of them, as far as `LISTED_ERRORS_MAX`.
    #[error("{total} bad line{}: {}", if *.total == 1 { "" } else { "s" }, named(.listed, *.total))]
    Lines { listed: Vec<LineError>, total: usize },
    /// Nothing but blank lines.
    #[error("the data set has no text")]
    Empty,
    /// No copies, or a context of no tokens.
    #[error("{setting} must be at least 1")]
    Setting { setting: &'static str },
    /// More tokens than fit.
    #[error("the data set has more than {TOKENS_MAX} tokens")]
    TooLarge,
    /// A pair that was read is not a binidx pair of 16-bit tokens.
    #[error("{path}: {message}", path = .path.display())]
    Corrupt { path: PathBuf, message: String },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Every bad line that is known, and how many more there are.
fn named(listed: &[LineError], total: usize) -> String {
    let mut lines: Vec<String> = listed.iter().map(ToString::to_string).collect();
    if total > lines.len() {
        lines.push(format!("and {} more", total - lines.len()));
    }
    lines.join("; ")
}

impl From<DatasetError> for rag_core::Error {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Io(error) => rag_core::Error::Storage { message: error.to_string() },
            other => rag_core::Error::invalid(other.to_string()),
        }
    }
}

/// Reads `source`, writes `<prefix>.bin` and `<prefix>.idx`. `tokenize` gives ids from 1 to 65535.
pub fn make_data(
    source: impl BufRead,
    tokenize: &dyn Fn(&str) -> Vec<u32>,
    settings: &Settings,
    prefix: &Path,
) -> Result<Summary, DatasetError> {
    if settings.copies == 0 {
        return Err(DatasetError::Setting { setting: "copies" });
    }
    if settings.context_tokens == 0 {
        return Err(DatasetError::Setting { setting: "context_tokens" });
    }
    let documents = jsonl::documents(source, tokenize)?;
    let (bin, idx) = (with_suffix(prefix, "bin"), with_suffix(prefix, "idx"));
    let order = order(documents.len(), settings);
    replace(&bin, |file| {
        binidx::write_bin(file, order.iter().map(|&document| documents[document].as_slice()))
    })?;
    let lengths = order.iter().map(|&document| documents[document].len());
    replace(&idx, |file| binidx::write_idx(file, &lengths.collect::<Vec<_>>()))?;
    let tokens = verify(prefix)?;
    Ok(Summary {
        documents: documents.len(),
        tokens,
        magic_prime: magic_prime(tokens, settings.context_tokens),
        bin,
        idx,
    })
}

/// The largest prime of the form 3n + 2 that is at most `tokens / context − 1`: cubing is then a bijection modulo it,
/// by which RWKV-LM samples without repeating. None below three contexts.
pub fn magic_prime(tokens: u64, context_tokens: u64) -> Option<u64> {
    if tokens < context_tokens.checked_mul(3)? {
        return None;
    }
    let largest = tokens.checked_div(context_tokens)?.checked_sub(1)?;
    (2..=largest).rev().find(|&candidate| candidate % 3 == 2 && is_prime(candidate))
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|divisor| divisor * divisor <= n).all(|divisor| !n.is_multiple_of(divisor))
}

/// Document numbers in the order of the file.
fn order(documents: usize, settings: &Settings) -> Vec<usize> {
    let mut random = SplitMix64::new(settings.seed);
    let mut order = Vec::with_capacity(documents * settings.copies as usize);
    for _ in 0..settings.copies {
        let mut copy: Vec<usize> = (0..documents).collect();
        random.shuffle(&mut copy);
        order.extend(copy);
    }
    order
}

/// Reads the pair back: its structure holds, and the first and the last document end as they must. Returns its tokens.
fn verify(prefix: &Path) -> Result<u64, DatasetError> {
    let written = Binidx::open(prefix)?;
    for document in [0, written.len().saturating_sub(1)] {
        if written.document(document)?.last() != Some(&END_OF_DOCUMENT) {
            let message = format!("document {document} does not end with token {END_OF_DOCUMENT}");
            return Err(DatasetError::Corrupt { path: with_suffix(prefix, "bin"), message });
        }
    }
    Ok(written.tokens())
}

/// Writes beside the target and renames: nobody sees half a file.
pub(crate) fn replace(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let part = with_suffix(target, "part");
    let mut file = std::io::BufWriter::new(fs_err::File::create(&part)?);
    write(&mut file)?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(fs_err::rename(&part, target)?)
}

/// The path with `.suffix` appended, whatever dots its name has.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests;
