//! A page from its bytes to blocks, with its title and language.

use std::collections::VecDeque;
use std::rc::Rc;

use guest_doc::text::collapse;
use guest_doc::{Block, DocError, Document, File, Ocr, Result, Summary, read_all};
use guest_settings::Settings;

use crate::charset::decode;
use crate::tree::Tree;
use crate::xhtml::from_xhtml;
use crate::{blocks, main_content};

/// Bytes of one page.
pub const HTML_BYTES_MAX: u64 = 48 << 20;

/// What a page says.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub blocks: Vec<Block>,
    pub summary: Summary,
}

/// Opens a page.
#[expect(clippy::needless_pass_by_value, reason = "every format is opened alike, and most keep the file")]
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    let whole_page = Settings::parse(settings, &["whole_page"])
        .and_then(|settings| settings.flag("whole_page", false))
        .map_err(DocError::Invalid)?;
    let bytes = read_all(file.as_ref(), HTML_BYTES_MAX)?;
    let is_text = !bytes.contains(&0) || encoding_rs::Encoding::for_bom(&bytes).is_some();
    if !is_text {
        return Err(DocError::unsupported("the file is not HTML: it holds binary data"));
    }
    let (html, encoding) = decode(&bytes, None);
    let is_xml = file.media_type() == "application/xhtml+xml" || html.trim_start().starts_with("<?xml");
    let mut page = page(&if is_xml { from_xhtml(&html) } else { html }, whole_page)?;
    page.summary.add("encoding", &encoding.to_ascii_lowercase());
    Ok(Box::new(Read { blocks: page.blocks.into(), summary: page.summary }))
}

/// The content of a page; with `whole_page` also what leads elsewhere.
pub fn page(html: &str, whole_page: bool) -> Result<Page> {
    let tree = Tree::parse(html)?;
    let root = if whole_page { 0 } else { main_content::root(&tree) };
    let blocks = blocks::read(&tree, root, whole_page);
    Ok(Page { blocks, summary: summary(&tree) })
}

struct Read {
    blocks: VecDeque<Block>,
    summary: Summary,
}

impl Document for Read {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        blocks.extend(self.blocks.pop_front());
        Ok(!self.blocks.is_empty())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

fn summary(tree: &Tree) -> Summary {
    let mut summary = Summary::default();
    for id in tree.below(0) {
        match tree.name(id) {
            "html" => summary.language = tree.attribute(id, "lang").map(str::to_owned),
            "title" if summary.title.is_none() => {
                let text: String = tree.below(id).filter_map(|id| tree.text(id)).collect();
                summary.title = Some(collapse(&text)).filter(|title| !title.is_empty());
            }
            "meta" => {
                let name =
                    tree.attribute(id, "name").or_else(|| tree.attribute(id, "property")).unwrap_or_default();
                let content = tree.attribute(id, "content").unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    name @ ("author" | "description" | "keywords" | "date") => summary.add(name, content),
                    "article:published_time" => summary.add("date", content),
                    _ => {}
                }
            }
            // Titles of drawings and the like stand below.
            "body" => break,
            _ => {}
        }
    }
    summary
}
