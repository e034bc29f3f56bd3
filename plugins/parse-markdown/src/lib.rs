//! parse-markdown
