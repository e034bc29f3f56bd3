//! parse-text
