//! What do the elements of a page's content say? Blocks, from one pass without recursion.

use guest_doc::text::collapse;
use guest_doc::{Block, Kind, table};

use crate::cells;
use crate::main_content::{is_hidden, is_navigation, weight};
use crate::tree::Tree;

/// Stands for `<br>` until white space was collapsed.
const BREAK: char = '\u{2028}';

enum Step {
    Enter(usize),
    Leave(usize),
}

/// The blocks below an element. Without `keep_all` what leads elsewhere is left out.
pub(crate) fn read(tree: &Tree, root: usize, keep_all: bool) -> Vec<Block> {
    let total = weight(tree, root);
    let mut reader = Reader { blocks: Vec::new(), text: String::new(), kinds: Vec::new() };
    let mut stack = vec![Step::Enter(root)];
    while let Some(step) = stack.pop() {
        let id = match step {
            Step::Leave(id) => {
                reader.leave(tree.name(id));
                continue;
            }
            Step::Enter(id) => id,
        };
        if let Some(text) = tree.text(id) {
            reader.text.push_str(text);
            continue;
        }
        if is_hidden(tree, id) || !keep_all && id != root && is_navigation(tree, id, total) {
            continue;
        }
        let name = tree.name(id);
        if name == "table"
            && let Some(rows) = cells::rows(tree, id)
        {
            reader.flush();
            let caption = tree.children(id).iter().find(|child| tree.name(**child) == "caption");
            if let Some(caption) = caption {
                let text: String = tree.below(*caption).filter_map(|id| tree.text(id)).collect();
                reader.push(Kind::Caption, &collapse(&text));
            }
            for part in table::tables(&rows) {
                reader.push(Kind::Table, &part);
            }
            continue;
        }
        reader.enter(name);
        stack.push(Step::Leave(id));
        stack.extend(tree.children(id).iter().rev().map(|child| Step::Enter(*child)));
    }
    reader.flush();
    reader.blocks
}

struct Reader {
    blocks: Vec<Block>,
    text: String,
    /// What the open elements make of text.
    kinds: Vec<Kind>,
}

impl Reader {
    fn enter(&mut self, name: &str) {
        if name == "br" {
            self.text.push(if self.in_code() { '\n' } else { BREAK });
        }
        if is_block(name) {
            self.flush();
        }
        if let Some(kind) = kind(name) {
            self.kinds.push(kind);
        }
    }

    fn leave(&mut self, name: &str) {
        if is_block(name) {
            self.flush();
        }
        if kind(name).is_some() {
            self.kinds.pop();
        }
    }

    fn in_code(&self) -> bool {
        self.kinds.last() == Some(&Kind::Code)
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.in_code() {
            return self.push(Kind::Code, text.trim_matches('\n').trim_end());
        }
        let lines: Vec<String> = text.split(BREAK).map(collapse).collect();
        let text = lines.join("\n");
        self.push(self.kinds.last().copied().unwrap_or(Kind::Paragraph), text.trim());
    }

    fn push(&mut self, kind: Kind, text: &str) {
        if !text.trim().is_empty() {
            self.blocks.push(Block::new(kind, text));
        }
    }
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "h1" => Kind::Heading(1),
        "h2" => Kind::Heading(2),
        "h3" => Kind::Heading(3),
        "h4" => Kind::Heading(4),
        "h5" => Kind::Heading(5),
        "h6" => Kind::Heading(6),
        "li" => Kind::ListItem,
        "pre" | "listing" | "xmp" => Kind::Code,
        "blockquote" => Kind::Quote,
        "caption" | "figcaption" => Kind::Caption,
        _ => return None,
    })
}

/// Elements that begin and end a line of text.
fn is_block(name: &str) -> bool {
    kind(name).is_some()
        || matches!(
            name,
            "p" | "div"
                | "section"
                | "article"
                | "main"
                | "header"
                | "footer"
                | "aside"
                | "nav"
                | "ul"
                | "ol"
                | "dl"
                | "dt"
                | "dd"
                | "table"
                | "thead"
                | "tbody"
                | "tfoot"
                | "tr"
                | "td"
                | "th"
                | "form"
                | "fieldset"
                | "figure"
                | "address"
                | "details"
                | "summary"
                | "hr"
                | "center"
                | "body"
                | "html"
                | "title"
        )
}
