//! The elements of a page in one array, as html5ever finds them: nothing recurses, whatever the depth.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use guest_doc::{DocError, Result};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{Attribute, LocalName, Namespace, QualName, parse_document};

/// Nodes of one page.
const NODES_MAX: usize = 2_000_000;
/// Open elements within each other. Finding what an end closes takes time by the depth.
const DEPTH_MAX: usize = 4_000;

/// What a node is.
#[derive(Debug)]
pub(crate) enum Data {
    /// The document, comments and what else has no text.
    Other,
    Text(String),
    Element {
        name: Rc<QualName>,
        attributes: Vec<Attribute>,
    },
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) data: Data,
    pub(crate) parent: Option<usize>,
    pub(crate) children: Vec<usize>,
}

/// A parsed page; node 0 is the document.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

impl Tree {
    /// Parses a page.
    pub(crate) fn parse(html: &str) -> Result<Self> {
        if deepest(html) > DEPTH_MAX {
            return Err(DocError::too_large(format!(
                "the page nests more than {DEPTH_MAX} elements within each other"
            )));
        }
        let sink = Sink { nodes: RefCell::default(), full: Cell::new(false) };
        sink.add(Data::Other);
        let nodes = parse_document(sink, html5ever::ParseOpts::default()).one(html);
        nodes.map(|nodes| Tree { nodes })
    }

    /// Local name of an element; empty for other nodes.
    pub(crate) fn name(&self, id: usize) -> &str {
        match self.nodes.get(id).map(|node| &node.data) {
            Some(Data::Element { name, .. }) => &name.local,
            _ => "",
        }
    }

    /// An attribute of an element.
    pub(crate) fn attribute(&self, id: usize, wanted: &str) -> Option<&str> {
        match self.nodes.get(id).map(|node| &node.data) {
            Some(Data::Element { attributes, .. }) => attributes
                .iter()
                .find(|attribute| &*attribute.name.local == wanted)
                .map(|attribute| &*attribute.value),
            _ => None,
        }
    }

    pub(crate) fn children(&self, id: usize) -> &[usize] {
        self.nodes.get(id).map(|node| node.children.as_slice()).unwrap_or_default()
    }

    pub(crate) fn text(&self, id: usize) -> Option<&str> {
        match self.nodes.get(id).map(|node| &node.data) {
            Some(Data::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A node and all below it, in the order of the page.
    pub(crate) fn below(&self, root: usize) -> impl Iterator<Item = usize> {
        let mut stack = vec![root];
        std::iter::from_fn(move || {
            let id = stack.pop()?;
            stack.extend(self.children(id).iter().rev());
            Some(id)
        })
    }
}

/// How many elements are open at most, were nothing closed but by its own end.
fn deepest(html: &str) -> usize {
    const NESTING: [&str; 18] = [
        "div",
        "span",
        "b",
        "i",
        "u",
        "em",
        "font",
        "strong",
        "section",
        "article",
        "ul",
        "ol",
        "table",
        "blockquote",
        "center",
        "small",
        "big",
        "a",
    ];
    let (mut depth, mut deepest) = (0_usize, 0);
    for piece in html.split('<').skip(1) {
        let (is_end, rest) = piece.strip_prefix('/').map_or((false, piece), |rest| (true, rest));
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default();
        if NESTING.iter().any(|nesting| nesting.eq_ignore_ascii_case(name)) {
            depth = if is_end { depth.saturating_sub(1) } else { depth + 1 };
            deepest = deepest.max(depth);
        }
    }
    deepest
}

/// Where html5ever puts what it finds.
struct Sink {
    nodes: RefCell<Vec<Node>>,
    full: Cell<bool>,
}

/// A node with its name, which the parser asks for all the time.
#[derive(Debug, Clone)]
struct Handle {
    id: usize,
    name: Rc<QualName>,
}

impl Sink {
    fn add(&self, data: Data) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() >= NODES_MAX {
            self.full.set(true);
            return nodes.len() - 1;
        }
        nodes.push(Node { data, parent: None, children: Vec::new() });
        nodes.len() - 1
    }

    fn nameless(&self, data: Data) -> Handle {
        Handle {
            id: self.add(data),
            name: Rc::new(QualName::new(None, Namespace::from(""), LocalName::from(""))),
        }
    }

    /// Puts a node or text below `parent`, before its child `at`.
    fn insert(&self, parent: usize, at: Option<usize>, child: NodeOrText<Handle>) {
        if self.full.get() {
            return;
        }
        let place = |nodes: &Vec<Node>| {
            let children = nodes.get(parent).map(|node| node.children.as_slice()).unwrap_or_default();
            at.and_then(|at| children.iter().position(|child| *child == at)).unwrap_or(children.len())
        };
        let child = match child {
            NodeOrText::AppendNode(handle) => {
                self.detach(handle.id);
                handle.id
            }
            NodeOrText::AppendText(text) => {
                let mut nodes = self.nodes.borrow_mut();
                let place = place(&nodes);
                let before = place.checked_sub(1).and_then(|at| nodes.get(parent)?.children.get(at).copied());
                if let Some(Data::Text(last)) =
                    before.and_then(|id| nodes.get_mut(id)).map(|node| &mut node.data)
                {
                    last.push_str(&text);
                    return;
                }
                drop(nodes);
                self.add(Data::Text(text.to_string()))
            }
        };
        let mut nodes = self.nodes.borrow_mut();
        let place = place(&nodes);
        if child == parent || child == 0 {
            return;
        }
        if let Some(node) = nodes.get_mut(child) {
            node.parent = Some(parent);
        }
        if let Some(node) = nodes.get_mut(parent) {
            node.children.insert(place, child);
        }
    }

    fn detach(&self, id: usize) {
        let mut nodes = self.nodes.borrow_mut();
        let parent = nodes.get_mut(id).and_then(|node| node.parent.take());
        if let Some(parent) = parent.and_then(|parent| nodes.get_mut(parent)) {
            // What is moved is mostly the last child.
            if let Some(at) = parent.children.iter().rposition(|child| *child == id) {
                parent.children.remove(at);
            }
        }
    }
}

impl TreeSink for Sink {
    type Handle = Handle;
    type Output = Result<Vec<Node>>;
    type ElemName<'a> = &'a QualName;

    fn finish(self) -> Result<Vec<Node>> {
        if self.full.get() {
            return Err(DocError::too_large(format!("the page has more than {NODES_MAX} elements")));
        }
        Ok(self.nodes.into_inner())
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle { id: 0, name: Rc::new(QualName::new(None, Namespace::from(""), LocalName::from(""))) }
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> &'a QualName {
        &target.name
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Handle {
        let name = Rc::new(name);
        Handle { id: self.add(Data::Element { name: Rc::clone(&name), attributes }), name }
    }

    fn create_comment(&self, _: StrTendril) -> Handle {
        self.nameless(Data::Other)
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Handle {
        self.nameless(Data::Other)
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.insert(parent.id, None, child);
    }

    fn append_based_on_parent_node(&self, element: &Handle, previous: &Handle, child: NodeOrText<Handle>) {
        let parent = self.nodes.borrow().get(element.id).and_then(|node| node.parent);
        match parent {
            Some(parent) => self.insert(parent, Some(element.id), child),
            None => self.insert(previous.id, None, child),
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Handle) -> Handle {
        target.clone()
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        x.id == y.id
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        let parent = self.nodes.borrow().get(sibling.id).and_then(|node| node.parent);
        if let Some(parent) = parent {
            self.insert(parent, Some(sibling.id), child);
        }
    }

    fn add_attrs_if_missing(&self, target: &Handle, more: Vec<Attribute>) {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(Data::Element { attributes, .. }) = nodes.get_mut(target.id).map(|node| &mut node.data) {
            let missing: Vec<Attribute> = more
                .into_iter()
                .filter(|new| !attributes.iter().any(|attribute| attribute.name == new.name))
                .collect();
            attributes.extend(missing);
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        let mut nodes = self.nodes.borrow_mut();
        let children =
            nodes.get_mut(node.id).map(|node| std::mem::take(&mut node.children)).unwrap_or_default();
        for child in &children {
            if let Some(child) = nodes.get_mut(*child) {
                child.parent = Some(new_parent.id);
            }
        }
        if let Some(parent) = nodes.get_mut(new_parent.id) {
            parent.children.extend(children);
        }
    }
}
