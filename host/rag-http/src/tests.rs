//! The whole server in process, over ports that a test commands.

mod access;
mod answers;
mod bounds;
mod conversations;
mod documents;
mod fakes;
mod manage;
mod models;
mod openai;
mod page;
mod people;
mod socket;
mod system;
mod world;
