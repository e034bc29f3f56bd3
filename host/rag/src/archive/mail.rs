//! What is attached to a mail, as files of an archive: everything but the texts and mails, which `parse-mail` reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use rag_core::ports::{Blob, BlobWriter, PackedFile, Unpacked};
use rag_core::{Error, Result};

/// Bytes of a mail with all that is attached, as `parse-mail` has it.
const MAIL_BYTES_MAX: u64 = 64 << 20;
/// Mails within each other.
const DEPTH_MAX: usize = 8;
/// Bytes read at once, and handed on.
const PIECE_BYTES: usize = 256 << 10;
/// Characters of an attachment's name.
const NAME_CHARS_MAX: usize = 120;

/// Reads the whole mail; its attachments stay in memory until it is dropped.
pub(super) async fn open(blob: Arc<dyn Blob>, files_max: u64) -> Result<Box<dyn Unpacked>> {
    let name = blob.name().to_owned();
    if blob.size() > MAIL_BYTES_MAX {
        return Err(Error::invalid(format!("'{name}' is larger than a mail of {MAIL_BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(blob.size()).unwrap_or_default());
    while (bytes.len() as u64) < blob.size() {
        let piece = blob.read_at(bytes.len() as u64, PIECE_BYTES as u32).await?;
        if piece.is_empty() {
            return Err(Error::invalid(format!("'{name}' is cut off")));
        }
        bytes.extend_from_slice(&piece);
    }
    let opened = tokio::task::spawn_blocking(move || Attached::read(&name, &bytes, files_max)).await;
    Ok(Box::new(opened.map_err(|error| Error::internal(error.to_string()))??))
}

struct Attached {
    mail: String,
    files: Vec<PackedFile>,
    bodies: Vec<Bytes>,
}

impl Attached {
    fn read(mail: &str, bytes: &[u8], files_max: u64) -> Result<Self> {
        let message = MessageParser::default().parse(bytes);
        let message = message.ok_or_else(|| Error::invalid(format!("'{mail}' is no mail")))?;
        let mut found = Attached { mail: mail.to_owned(), files: Vec::new(), bodies: Vec::new() };
        found.message(&message, files_max, &mut BTreeSet::new(), 0)?;
        Ok(found)
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        files_max: u64,
        names: &mut BTreeSet<String>,
        depth: usize,
    ) -> Result<()> {
        for part in message.attachments() {
            match &part.body {
                PartType::Message(inner) if depth < DEPTH_MAX => {
                    self.message(inner, files_max, names, depth + 1)?;
                }
                // Pictures within the text, such as a signature's, have no place of their own.
                PartType::Binary(body) => {
                    let Some(name) = part.attachment_name().map(plain).filter(|name| !name.is_empty()) else {
                        continue;
                    };
                    if self.files.len() as u64 >= files_max {
                        return Err(Error::TooLarge {
                            what: format!("what is attached to '{}'", self.mail),
                            size: files_max + 1,
                            limit: files_max,
                            unit: "files",
                            setting: "data.archive_files_max",
                        });
                    }
                    let name = (1..).map(|count| numbered(&name, count)).find(|name| !names.contains(name));
                    let name = name.unwrap_or_default();
                    names.insert(name.clone());
                    let size = body.len() as u64;
                    self.files.push(PackedFile { name, size, packed: size });
                    self.bodies.push(Bytes::copy_from_slice(body));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The last part of a name: whoever sent it may have written a path.
fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    let kept = kept.trim();
    if kept.chars().all(|c| c == '.') { String::new() } else { kept.to_owned() }
}

/// `report.pdf`, then `report (2).pdf`.
fn numbered(name: &str, count: u32) -> String {
    match (count, name.rsplit_once('.')) {
        (1, _) => name.to_owned(),
        (_, Some((stem, end))) if !stem.is_empty() => format!("{stem} ({count}).{end}"),
        _ => format!("{name} ({count})"),
    }
}

#[async_trait]
impl Unpacked for Attached {
    fn files(&self) -> &[PackedFile] {
        &self.files
    }

    async fn copy(&mut self, at: usize, bytes_max: u64, to: &mut dyn BlobWriter) -> Result<u64> {
        let body = self.bodies.get(at).cloned();
        let mut body = body.ok_or_else(|| Error::internal(format!("'{}' has no file {at}", self.mail)))?;
        let size = body.len() as u64;
        if size > bytes_max {
            return Err(Error::invalid(format!(
                "'{}' unpacks to more than is allowed (setting data.archive_bytes_max)",
                self.mail
            )));
        }
        while !body.is_empty() {
            to.write(body.split_to(body.len().min(PIECE_BYTES))).await?;
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: wang@example.com\r\nSubject: tides\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nSee what is attached.\r\n\
        --b\r\nContent-Type: application/pdf; name=\"../../etc/tides.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment\r\n\r\nJVBERi0xLjQ=\r\n\
        --b\r\nContent-Type: application/pdf; name=\"tides.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment\r\n\r\nJVBERi0xLjU=\r\n\
        --b\r\nContent-Type: image/png; name=\"logo.png\"\r\nContent-ID: <logo>\r\nContent-Disposition: inline\r\n\
        Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n\
        --b\r\nContent-Type: text/plain; name=\"note.txt\"\r\nContent-Disposition: attachment\r\n\r\nA note.\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nFrom: li@example.com\r\nSubject: inner\r\n\
        Content-Type: application/zip; name=\"=?utf-8?B?5rWB5rC0LnppcA==?=\"\r\nContent-Disposition: attachment\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nUEsDBA==\r\n--b--\r\n";

    #[test]
    fn files_that_are_attached_are_found_in_forwarded_mails_too() {
        let found = Attached::read("a.eml", MAIL.as_bytes(), 10).unwrap();
        let files: Vec<(&str, u64)> =
            found.files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        assert_eq!(files, [("tides.pdf", 8), ("tides (2).pdf", 8), ("流水.zip", 4)]);
        assert_eq!(found.bodies[1], "%PDF-1.5");
        let error = Attached::read("a.eml", MAIL.as_bytes(), 2).err().unwrap();
        assert!(error.to_string().contains("archive_files_max"), "{error}");
    }

    #[test]
    fn names_stay_names() {
        for (name, kept) in [
            ("a/b\\c.pdf", "c.pdf"),
            ("..", ""),
            ("../..", ""),
            (" 表\u{0}.xlsx\n", "表.xlsx"),
            ("/etc/passwd", "passwd"),
        ] {
            assert_eq!(plain(name), kept, "{name:?}");
        }
        assert_eq!(
            (numbered(".env", 2), numbered("a.b.c", 3)),
            (".env (2)".to_owned(), "a.b (3).c".to_owned())
        );
    }
}
