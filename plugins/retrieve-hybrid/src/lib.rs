//! retrieve-hybrid
