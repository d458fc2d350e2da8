//! The pure consensus cores: state and input give state and a batch of effects.
//!
//! This folder imports nothing of the crate outside itself, and none of: clock, thread, file, socket,
//! logger, global randomness, hash-ordered collections (clippy refuses them, see `clippy.toml`).
//! Read `types`, `message`, `batch`, `protocol`, then a protocol.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod batch;
pub mod config;
pub mod log;
mod member;
pub mod message;
pub mod paxos;
mod places;
pub mod proposals;
pub mod protocol;
pub mod quorum;
pub mod raft;
pub mod random;
mod reads;
mod transfer;
pub mod types;
