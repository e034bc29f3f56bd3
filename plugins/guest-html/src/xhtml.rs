//! XHTML as a parser of HTML takes it: there `<title/>` would begin an element that nothing ends.

/// Elements that HTML knows to be empty.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// `<a id="x"/>` as `<a id="x"></a>`, comments and sections of character data as they are.
pub fn from_xhtml(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        html.push_str(before);
        let closing = match tag {
            tag if tag.starts_with("<!--") => "-->",
            tag if tag.starts_with("<![CDATA[") => "]]>",
            _ => ">",
        };
        let Some(end) = tag.find(closing).map(|at| at + closing.len()) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let name = tag.get(1..).unwrap_or_default();
        let name =
            name.split(|c: char| c.is_whitespace() || matches!(c, '/' | '>')).next().unwrap_or_default();
        match tag.strip_suffix("/>") {
            Some(open)
                if closing == ">"
                    && !name.is_empty()
                    && !VOID.contains(&name.to_ascii_lowercase().as_str()) =>
            {
                html.push_str(&format!("{open}></{name}>"));
            }
            _ => html.push_str(tag),
        }
        rest = after;
    }
    html.push_str(rest);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_elements_are_ended() {
        let text = "<title/><p>一<br/><a id='x' /></p><!-- <b/> --><i/>二<c";
        assert_eq!(from_xhtml(text), "<title></title><p>一<br/><a id='x' ></a></p><!-- <b/> --><i></i>二<c");
    }
}
