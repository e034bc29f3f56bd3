//! chunk-fixed
