//! Which part of a page is its content, and what on it is navigation?

use crate::tree::Tree;

/// Share of the page's text that marked main content holds at least to be believed.
const MAIN_SHARE: f32 = 0.4;
/// Share above which what looks like navigation is content after all.
const NAVIGATION_SHARE: f32 = 0.5;
/// Words in `class` and `id` of what leads elsewhere.
const NAVIGATION: &[&str] = &[
    "nav",
    "navbar",
    "navbox",
    "navheader",
    "navfooter",
    "navigation",
    "menu",
    "sidebar",
    "breadcrumb",
    "breadcrumbs",
    "footer",
    "site-footer",
    "cookie",
    "cookies",
    "advert",
    "ads",
    "share",
    "social",
    "pagination",
    "skip-link",
    "toc-nav",
    "mw-editsection",
    "headerlink",
];

/// Elements whose text is never the page's.
pub(crate) fn is_hidden(tree: &Tree, id: usize) -> bool {
    let by_name = matches!(
        tree.name(id),
        "script"
            | "style"
            | "template"
            | "noscript"
            | "head"
            | "svg"
            | "iframe"
            | "object"
            | "canvas"
            | "button"
            | "select"
            | "input"
            | "textarea"
            | "audio"
            | "video"
            | "map"
            | "dialog"
    );
    let style = tree.attribute(id, "style").unwrap_or_default();
    by_name || tree.attribute(id, "hidden").is_some() || style.replace(' ', "").contains("display:none")
}

/// Text below a node, in characters, without what is hidden.
pub(crate) fn weight(tree: &Tree, root: usize) -> usize {
    let mut stack = vec![root];
    let mut chars = 0;
    while let Some(id) = stack.pop() {
        if let Some(text) = tree.text(id) {
            chars += text.split_whitespace().map(|word| word.chars().count()).sum::<usize>();
        } else if !is_hidden(tree, id) {
            stack.extend(tree.children(id));
        }
    }
    chars
}

/// The element that holds the content: one that is marked so and holds enough, else the body.
pub(crate) fn root(tree: &Tree) -> usize {
    let body = tree.below(0).find(|id| tree.name(*id) == "body").unwrap_or(0);
    let total = weight(tree, body) as f32;
    let articles = tree.below(body).filter(|id| tree.name(*id) == "article").count();
    let is_marked = |id: &usize| {
        let role = tree.attribute(*id, "role") == Some("main");
        tree.name(*id) == "main" || role || articles == 1 && tree.name(*id) == "article"
    };
    let marked = tree.below(body).filter(is_marked).find(|id| weight(tree, *id) as f32 >= total * MAIN_SHARE);
    marked.unwrap_or(body)
}

/// Whether an element leads elsewhere rather than being read. `total` is the weight of the content.
pub(crate) fn is_navigation(tree: &Tree, id: usize, total: usize) -> bool {
    let has_heading = || tree.below(id).any(|below| matches!(tree.name(below), "h1" | "h2"));
    let by_name = match tree.name(id) {
        "nav" | "footer" | "aside" => true,
        "header" => !has_heading(),
        "" | "body" | "html" | "main" | "article" => return false,
        _ => false,
    };
    let marked = |attribute: &str| {
        let value = tree.attribute(id, attribute).unwrap_or_default().to_ascii_lowercase();
        value.split_whitespace().any(|word| NAVIGATION.contains(&word))
    };
    let role = matches!(tree.attribute(id, "role"), Some("navigation" | "banner" | "contentinfo" | "search"));
    (by_name || role || marked("class") || marked("id"))
        && weight(tree, id) as f32 <= total as f32 * NAVIGATION_SHARE
}
