//! retrieve-dense
