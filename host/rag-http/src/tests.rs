//! The whole server in process, over ports that a test commands.
