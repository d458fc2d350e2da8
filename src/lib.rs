//! spaxos: a replicated log that you can embed, run, read and check.

pub mod cli;
pub mod client;
pub mod config;
pub mod consensus;
pub mod node;
pub mod pipeline;
pub mod store;
pub mod wire;
