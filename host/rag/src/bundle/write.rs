//! Out: parts become entries of a zip file on a thread of its own, a bounded number of pieces ahead of its reader.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use rag_core::ports::{BundleBytes, BundlePart, BundleWriter};
use rag_core::{Error, Result};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use zip::ZipWriter;
use zip::write::{SimpleFileOptions, StreamWriter};

use super::format::{DocumentJson, HeadJson, SectionJson};
use super::{DOCUMENT_END, DOCUMENTS, HEAD, ORIGINALS, SUMS};

/// Parts that wait to be written, and pieces of the file that wait to be read.
const PARTS_WAITING: usize = 2;
const PIECES_WAITING: usize = 4;
/// Bytes of such a piece.
const PIECE_BYTES: usize = 256 << 10;

/// A writer and what it writes.
pub(super) fn start() -> (Box<dyn BundleWriter>, BundleBytes) {
    let (parts, waiting) = mpsc::channel(PARTS_WAITING);
    let (pieces, bytes) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || run(waiting, &pieces));
    (Box::new(Parts { parts }), Box::pin(Pieces(bytes)))
}

enum Order {
    Part(BundlePart),
    Finish,
    Fail(Error),
}

struct Parts {
    parts: mpsc::Sender<Order>,
}

#[async_trait]
impl BundleWriter for Parts {
    async fn put(&mut self, part: BundlePart) -> Result<()> {
        self.parts.send(Order::Part(part)).await.map_err(|_| Error::Cancelled)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.parts.send(Order::Finish).await.map_err(|_| Error::Cancelled)
    }

    async fn fail(self: Box<Self>, error: Error) {
        // Nobody reads the file any more otherwise.
        let _ = self.parts.send(Order::Fail(error)).await;
    }
}

struct Pieces(mpsc::Receiver<Result<Bytes>>);

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

fn run(mut parts: mpsc::Receiver<Order>, pieces: &mpsc::Sender<Result<Bytes>>) {
    let out = Out { pieces: pieces.clone(), held: Vec::new() };
    let mut zip = Entries { zip: ZipWriter::new_stream(out), sums: String::new(), open: None, documents: 0 };
    let failure = loop {
        let written = match parts.blocking_recv() {
            Some(Order::Part(part)) => zip.part(part),
            Some(Order::Finish) => match zip.finish() {
                Ok(()) => return,
                Err(error) => break error,
            },
            Some(Order::Fail(error)) => break error,
            None => break Error::Cancelled,
        };
        if let Err(error) = written {
            break error;
        }
    };
    // A reader that is gone is told nothing.
    let _ = pieces.blocking_send(Err(failure));
}

/// The file's entries, one after the other.
struct Entries {
    zip: ZipWriter<StreamWriter<Out>>,
    sums: String,
    open: Option<(String, Sha256)>,
    documents: u64,
}

impl Entries {
    fn part(&mut self, part: BundlePart) -> Result<()> {
        match part {
            BundlePart::Head(head) => {
                self.begin(HEAD.to_owned())?;
                self.write(&HeadJson::of(&head)?.to_bytes()?)
            }
            BundlePart::Original(hash) => self.begin(format!("{ORIGINALS}{hash}")),
            BundlePart::Piece(bytes) => self.write(&bytes),
            BundlePart::Document(document) => {
                self.begin(format!("{DOCUMENTS}{:08}{DOCUMENT_END}", self.documents))?;
                self.documents += 1;
                self.write(&DocumentJson::from(*document).to_line()?)
            }
            BundlePart::Section { text, chunks } => self.write(&SectionJson::new(text, chunks).to_line()?),
        }
    }

    fn begin(&mut self, name: String) -> Result<()> {
        self.end();
        let options = SimpleFileOptions::default().large_file(true);
        self.zip.start_file(name.as_str(), options).map_err(|error| failed(&error.into()))?;
        self.open = Some((name, Sha256::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, hasher)) = &mut self.open {
            hasher.update(bytes);
        }
        self.zip.write_all(bytes).map_err(|error| failed(&error))
    }

    fn end(&mut self) {
        if let Some((name, hasher)) = self.open.take() {
            let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            self.sums.push_str(&format!("{hash}  {name}\n"));
        }
    }

    fn finish(mut self) -> Result<()> {
        self.end();
        let sums = std::mem::take(&mut self.sums);
        self.begin(SUMS.to_owned())?;
        self.write(sums.as_bytes())?;
        let mut out = self.zip.finish().map_err(|error| failed(&error.into()))?.into_inner();
        out.send().map_err(|error| failed(&error))
    }
}

/// The reader going away is the one thing that fails here.
fn failed(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Cancelled,
        _ => Error::internal(format!("the file cannot be written: {error}")),
    }
}

/// Bytes to the reader, in pieces.
struct Out {
    pieces: mpsc::Sender<Result<Bytes>>,
    held: Vec<u8>,
}

impl Out {
    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.held));
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
