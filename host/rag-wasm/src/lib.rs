//! Turns a .wasm component into an implementation of a port and keeps it inside its bounds.
