//! Lets a port live in another process over ZeroMQ.
