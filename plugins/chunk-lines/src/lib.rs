//! chunk-lines
