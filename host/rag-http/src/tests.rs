//! The whole server in process, over ports that a test commands.

mod access;
mod answers;
mod bounds;
mod documents;
mod fakes;
mod openai;
mod page;
mod socket;
mod system;
mod world;
