//! RTF from its signs to blocks: which group is text, in which encoding, and where paragraphs end.

use std::collections::HashMap;
use std::rc::Rc;

use encoding_rs::Encoding;
use guest_doc::{Block, DocError, Document, File, Ocr, Result, Summary, read_all};
use guest_settings::Settings;

use crate::charset::{Pending, of_code_page, of_font};
use crate::paragraphs::{Paragraphs, Style};
use crate::tokens::{Token, Tokens};

/// Bytes of one file, and groups within each other.
const RTF_BYTES_MAX: u64 = 96 << 20;
const DEPTH_MAX: usize = 4_096;
/// Characters of a value of the file's information.
const INFO_CHARS_MAX: usize = 2_000;

/// Groups that are none of the text.
const SKIPPED: &[&str] = &[
    "colortbl",
    "filetbl",
    "listtable",
    "listoverridetable",
    "revtbl",
    "rsidtbl",
    "pict",
    "object",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "fldinst",
    "themedata",
    "colorschememapping",
    "latentstyles",
    "datastore",
    "datafield",
    "generator",
    "xmlnstbl",
    "nonshppict",
    "shprslt",
    "bkmkstart",
    "bkmkend",
    "template",
    "mmathPr",
    "do",
    "private",
    "atnid",
    "atnauthor",
    "annotation",
    "ftnsep",
    "ftnsepc",
    "ftncn",
    "tc",
    "xe",
];

/// Opens an RTF file.
#[expect(clippy::needless_pass_by_value, reason = "every format is opened alike, and most keep the file")]
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    Settings::parse(settings, &[]).map_err(DocError::Invalid)?;
    let bytes = read_all(file.as_ref(), RTF_BYTES_MAX)?;
    if !bytes.starts_with(b"{\\rtf") {
        return Err(DocError::unsupported("the file is not RTF"));
    }
    Ok(Box::new(Rtf { tokens: Tokens::new(bytes), reader: Reader::default() }))
}

struct Rtf {
    tokens: Tokens<Vec<u8>>,
    reader: Reader,
}

impl Document for Rtf {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        while self.reader.paragraphs.blocks.is_empty() {
            let Some(token) = self.tokens.next() else {
                return Err(DocError::invalid("the file is cut off: its last group is not closed"));
            };
            if self.reader.token(token)? {
                self.reader.paragraphs.finish();
                blocks.append(&mut self.reader.paragraphs.blocks);
                return Ok(false);
            }
        }
        blocks.append(&mut self.reader.paragraphs.blocks);
        Ok(true)
    }

    fn summary(&self) -> Summary {
        self.reader.summary.clone()
    }
}

/// What the text of a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Use {
    #[default]
    Body,
    Skip,
    Fonts,
    Styles,
    Info,
    /// A value of the information, by its place in `INFO`.
    Value(usize),
    Note,
    /// The number or bullet of an item.
    Mark,
}

/// Values of a file's information.
const INFO: [&str; 5] = ["title", "author", "subject", "keywords", "company"];

/// What holds until a group ends.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    purpose: Use,
    style: Style,
    font: i32,
    hidden: bool,
    /// Signs that stand in for a `\u` where it is not known.
    fallback: Option<u8>,
    /// Whether it opened its purpose, which ends with it.
    owns: bool,
}

#[derive(Debug, Default)]
struct Reader {
    group: Group,
    stack: Vec<Group>,
    paragraphs: Paragraphs,
    pending: Pending,
    /// Text of the value, style or note at hand.
    aside: String,
    code_page: Option<&'static Encoding>,
    fonts: HashMap<i32, &'static Encoding>,
    /// Headings by the number of their style, and the level that the style at hand names.
    headings: HashMap<i32, u8>,
    optional: bool,
    /// Signs still to be skipped after a `\u`, and the first half of a pair.
    skip: u8,
    surrogate: Option<u16>,
    summary: Summary,
}

impl Reader {
    /// Takes a sign; true at the end of the file's outermost group.
    fn token(&mut self, token: Token<'_>) -> Result<bool> {
        let optional = std::mem::take(&mut self.optional);
        match token {
            Token::Open => {
                self.flush();
                if self.stack.len() >= DEPTH_MAX {
                    return Err(DocError::too_large(format!("groups are nested deeper than {DEPTH_MAX}")));
                }
                self.stack.push(self.group);
                self.group.owns = false;
                self.skip = 0;
            }
            Token::Close => {
                self.flush();
                self.close();
                return Ok(self.stack.is_empty());
            }
            Token::Optional => self.optional = true,
            Token::Byte(_) if self.skip > 0 => self.skip -= 1,
            Token::Byte(byte) => self.byte(byte),
            Token::Word(word, number) => {
                if word == "u" {
                    self.unicode(number.unwrap_or(0));
                    return Ok(false);
                }
                self.flush();
                self.skip = 0;
                if !self.purpose(word, optional) {
                    self.word(word, number);
                }
            }
        }
        Ok(false)
    }

    fn byte(&mut self, byte: u8) {
        if self.group.hidden || matches!(self.group.purpose, Use::Skip | Use::Fonts | Use::Info | Use::Mark) {
            return;
        }
        let default = self.code_page.unwrap_or(encoding_rs::WINDOWS_1252);
        let encoding = self.fonts.get(&self.group.font).copied().unwrap_or(default);
        let text = text_of(self.group.purpose, &mut self.paragraphs, &mut self.aside);
        self.pending.push(byte, encoding, text);
        if self.group.purpose == Use::Body && self.paragraphs.is_full() {
            self.end_paragraph();
        }
    }

    fn flush(&mut self) {
        self.pending.flush(text_of(self.group.purpose, &mut self.paragraphs, &mut self.aside));
    }

    fn push(&mut self, c: char) {
        if !self.group.hidden && !matches!(self.group.purpose, Use::Skip | Use::Fonts | Use::Info | Use::Mark)
        {
            self.flush();
            text_of(self.group.purpose, &mut self.paragraphs, &mut self.aside).push(c);
        }
    }

    /// A character by its code unit; what stands in for it is skipped.
    fn unicode(&mut self, number: i32) {
        let unit = (number & 0xffff) as u16;
        let pair = self.surrogate.take().and_then(|high| char::decode_utf16([high, unit]).next()?.ok());
        match (pair, char::from_u32(u32::from(unit))) {
            (Some(c), _) | (None, Some(c)) => self.push(c),
            (None, None) => self.surrogate = Some(unit),
        }
        self.skip = self.group.fallback.unwrap_or(1);
    }

    /// Whether a word says what the text of the group is for.
    fn purpose(&mut self, word: &str, optional: bool) -> bool {
        // Only drawn text is looked for in groups that are skipped.
        if self.group.purpose == Use::Skip && word != "shptxt" {
            return true;
        }
        let purpose = match word {
            "fonttbl" => Use::Fonts,
            "stylesheet" => Use::Styles,
            "info" => Use::Info,
            "footnote" => Use::Note,
            "shptxt" => Use::Body,
            "listtext" | "pntext" => Use::Mark,
            "shppict" | "cs" | "ts" if optional => Use::Skip,
            _ if SKIPPED.contains(&word) => Use::Skip,
            // What may be skipped by who does not know it is skipped, but for the styles of characters.
            _ if optional && self.group.purpose != Use::Styles => Use::Skip,
            _ => match INFO.iter().position(|name| *name == word) {
                Some(at) if self.group.purpose == Use::Info => Use::Value(at),
                _ => return false,
            },
        };
        if purpose == Use::Mark && self.group.purpose == Use::Body {
            self.paragraphs.is_item = true;
        }
        if matches!(purpose, Use::Note | Use::Value(_)) {
            self.aside.clear();
        }
        self.group.purpose = purpose;
        self.group.owns = true;
        true
    }

    fn word(&mut self, word: &str, number: Option<i32>) {
        let value = number.unwrap_or(0);
        let is_on = number != Some(0);
        let body = matches!(self.group.purpose, Use::Body);
        match word {
            "ansicpg" => self.code_page = of_code_page(value),
            "f" => self.group.font = value,
            "fcharset" | "cpg" if self.group.purpose == Use::Fonts => {
                let encoding = if word == "cpg" { of_code_page(value) } else { of_font(value) };
                self.fonts.extend(encoding.map(|encoding| (self.group.font, encoding)));
            }
            "uc" => self.group.fallback = Some(value.clamp(0, 16) as u8),
            "v" | "deleted" => self.group.hidden = is_on,
            "plain" => (self.group.hidden, self.group.font) = (false, self.group.font),
            "pard" if body => self.group.style = Style::default(),
            "s" => {
                self.group.style.number = value;
                self.group.style.heading = self.headings.get(&value).copied();
            }
            "outlinelevel" if (0..9).contains(&value) => {
                self.group.style.heading = Some(value as u8 + 1);
                if self.group.purpose == Use::Styles {
                    self.headings.insert(self.group.style.number, value as u8 + 1);
                }
            }
            "intbl" => self.group.style.in_table = true,
            "par" | "sect" | "page" if body => self.end_paragraph(),
            "par" => self.push('\n'),
            "line" => self.push('\n'),
            "tab" => self.push('\t'),
            "cell" if body => self.paragraphs.end_cell(self.group.style),
            "row" if body => self.paragraphs.end_row(),
            "nestcell" => self.push(' '),
            "nestrow" => self.push(' '),
            "emdash" => self.push('—'),
            "endash" => self.push('–'),
            "lquote" => self.push('‘'),
            "rquote" => self.push('’'),
            "ldblquote" => self.push('“'),
            "rdblquote" => self.push('”'),
            "bullet" => self.push('•'),
            "emspace" | "enspace" | "qmspace" => self.push(' '),
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        self.flush();
        self.paragraphs.end(self.group.style);
    }

    fn close(&mut self) {
        let ended = self.group;
        self.group = self.stack.pop().unwrap_or_default();
        self.skip = 0;
        // How a paragraph is set outlives the group that says so within the text.
        match ended.purpose {
            Use::Note if ended.owns => {
                let note = std::mem::take(&mut self.aside);
                self.paragraphs.note(&note);
            }
            Use::Value(at) if ended.owns => {
                let value: String = std::mem::take(&mut self.aside).chars().take(INFO_CHARS_MAX).collect();
                match INFO.get(at) {
                    Some(&"title") => self.summary.title = Some(value),
                    Some(name) => self.summary.add(name, &value),
                    None => {}
                }
            }
            Use::Styles if !ended.owns => {
                let name = std::mem::take(&mut self.aside);
                if let Some(level) = heading(&name) {
                    self.headings.insert(ended.style.number, level);
                }
            }
            _ => {}
        }
    }
}

/// Where text of a group goes.
fn text_of<'r>(purpose: Use, paragraphs: &'r mut Paragraphs, aside: &'r mut String) -> &'r mut String {
    if purpose == Use::Body { &mut paragraphs.text } else { aside }
}

/// The level of a style called `heading 2;` or `标题 2;`.
fn heading(name: &str) -> Option<u8> {
    let name = name.trim().trim_end_matches(';').to_lowercase();
    let level = name.strip_prefix("heading").or_else(|| name.strip_prefix("标题"))?.trim();
    level.parse::<u8>().ok().filter(|level| (1..=9).contains(level))
}

#[cfg(test)]
mod tests;
