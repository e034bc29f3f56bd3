//! What may be read of the server.
