//! What does a mail say? Its subject as a heading, who wrote to whom, its text, then mails and texts within it.

use std::collections::VecDeque;
use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, Kind, Ocr, Result, Summary, read_all};
use guest_settings::Settings;
use mail_parser::{Address, Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// Bytes of one mail with all that is attached.
const MAIL_BYTES_MAX: u64 = 64 << 20;
/// Mails within each other, and parts of one.
const DEPTH_MAX: usize = 8;
const PARTS_MAX: usize = 2_000;
/// Characters below which a plain text may only say that there is HTML, and how much longer that then is.
const STUB_CHARS: usize = 200;
const STUB_TIMES: usize = 4;
/// People named of a header.
const PEOPLE_MAX: usize = 50;

/// Opens a mail.
#[expect(clippy::needless_pass_by_value, reason = "every format is opened alike, and most keep the file")]
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    Settings::parse(settings, &[]).map_err(DocError::Invalid)?;
    let bytes = read_all(file.as_ref(), MAIL_BYTES_MAX)?;
    let message = MessageParser::default().parse(&bytes);
    let none = || DocError::unsupported("the file is no mail: it has neither a sender nor a subject or date");
    let message = message.filter(is_mail).ok_or_else(none)?;
    let mut reader = Reader::default();
    reader.message(&message, 0)?;
    let mut summary = summary(&message);
    summary.add("attachments", &reader.attachments.join("、"));
    Ok(Box::new(Mail { blocks: reader.blocks.into(), summary }))
}

fn is_mail(message: &Message<'_>) -> bool {
    message.from().is_some() || message.subject().is_some() || message.date().is_some()
}

struct Mail {
    blocks: VecDeque<Block>,
    summary: Summary,
}

impl Document for Mail {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        blocks.extend(self.blocks.pop_front());
        Ok(!self.blocks.is_empty())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

fn summary(message: &Message<'_>) -> Summary {
    let mut summary = Summary { title: message.subject().map(str::to_owned), ..Summary::default() };
    summary.add("from", &people(message.from()));
    summary.add("to", &people(message.to()));
    summary.add("cc", &people(message.cc()));
    summary.add("date", &message.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default());
    summary
}

/// `王伟 <wang@example.com>, …`
fn people(address: Option<&Address<'_>>) -> String {
    let all = address.into_iter().flat_map(Address::iter).take(PEOPLE_MAX);
    let shown = all.map(|one| match (one.name.as_deref(), one.address.as_deref()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    });
    shown.filter(|one| !one.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Reads a mail and those within it.
#[derive(Debug, Default)]
struct Reader {
    blocks: Vec<Block>,
    /// Names of what is attached and no text.
    attachments: Vec<String>,
    parts: usize,
}

impl Reader {
    fn message(&mut self, message: &Message<'_>, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(DocError::too_large(format!(
                "more than {DEPTH_MAX} mails are forwarded within each other"
            )));
        }
        let level = 1 + depth as u8;
        self.blocks.extend(message.subject().map(|subject| Block::new(Kind::Heading(level), subject)));
        let date = message.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default();
        let lines = [
            ("From", people(message.from())),
            ("To", people(message.to())),
            ("Cc", people(message.cc())),
            ("Date", date),
        ];
        let lines = lines.iter().filter(|(_, value)| !value.is_empty());
        let head: Vec<String> = lines.map(|(name, value)| format!("{name}: {value}")).collect();
        self.blocks.push(Block::new(Kind::Paragraph, head.join("\n")));
        self.body(message)?;
        for part in message.attachments() {
            self.attachment(message, part, depth)?;
        }
        Ok(())
    }

    /// The text that people see: the plain one, unless it only stands in for HTML.
    fn body(&mut self, message: &Message<'_>) -> Result<()> {
        let mut plain = Vec::new();
        let mut html = Vec::new();
        for part in message.text_body.iter().filter_map(|id| message.part(*id)) {
            self.count()?;
            match &part.body {
                PartType::Text(text) => plain.extend(paragraphs(&decoded(message, part, text))),
                PartType::Html(text) => plain.extend(page(message, part, text)?),
                _ => {}
            }
        }
        let chars = |blocks: &[Block]| blocks.iter().map(|block| block.text.chars().count()).sum::<usize>();
        if chars(&plain) < STUB_CHARS {
            for part in message.html_body.iter().filter_map(|id| message.part(*id)) {
                if let PartType::Html(text) = &part.body {
                    html.extend(page(message, part, text)?);
                }
            }
        }
        let stub = chars(&html) > chars(&plain) * STUB_TIMES;
        self.blocks.extend(if stub { html } else { plain });
        Ok(())
    }

    fn attachment(&mut self, message: &Message<'_>, part: &MessagePart<'_>, depth: usize) -> Result<()> {
        self.count()?;
        let name = part.attachment_name().unwrap_or_default().to_owned();
        let found = match &part.body {
            PartType::Message(inner) => return self.message(inner, depth + 1),
            PartType::Text(text) => paragraphs(&decoded(message, part, text)),
            PartType::Html(text) => page(message, part, text)?,
            PartType::Binary(_) if !name.is_empty() => {
                self.blocks.push(Block::new(Kind::Paragraph, format!("Attachment: {name}")));
                self.attachments.push(name);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if name.is_empty() {
            self.blocks.extend(found);
        } else {
            self.blocks.extend(found.into_iter().map(|block| block.in_part(&name)));
        }
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(DocError::too_large(format!("the mail has more than {PARTS_MAX} parts")));
        }
        Ok(())
    }
}

/// A part's text; what names no encoding, or a wrong one, is looked at again.
fn decoded(message: &Message<'_>, part: &MessagePart<'_>, text: &str) -> String {
    if !text.contains('\u{fffd}') || part.encoding != Encoding::None {
        return text.to_owned();
    }
    let raw = message.raw_message.get(part.offset_body as usize..part.offset_end as usize);
    raw.map_or_else(|| text.to_owned(), |raw| guest_html::decode(raw, None).0)
}

fn page(message: &Message<'_>, part: &MessagePart<'_>, html: &str) -> Result<Vec<Block>> {
    Ok(guest_html::page(&decoded(message, part, html), true)?.blocks)
}

/// Paragraphs between blank lines; lines that are quoted are a paragraph of their own.
fn paragraphs(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let quoted = line.trim_start().starts_with('>');
        let line = line.trim_start_matches(['>', ' ']).trim_end();
        let kind = if quoted { Kind::Quote } else { Kind::Paragraph };
        match blocks.last_mut() {
            _ if line.is_empty() => open = false,
            // The mark before a signature.
            _ if line == "--" => open = false,
            Some(block) if open && block.kind == kind => {
                block.text.push('\n');
                block.text.push_str(line);
            }
            _ => {
                blocks.push(Block::new(kind, line));
                open = true;
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests;
