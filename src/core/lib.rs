//! The pure consensus cores, for an embedder with its own threads, disk and network: state and input give
//! state and a batch of effects.
//!
//! A core is made by [`ProtocolName::core`](protocols::ProtocolName::core) from its configuration and what
//! was durable before, fed by [`Protocol::step`](protocol::Protocol::step), and says in a
//! [`Batch`](batch::Batch) what it wants done. It has no clock, disk, socket or thread, and the same inputs
//! always give the same batches.
//!
//! # The contract
//!
//! Whoever drives a core carries out each batch in this order:
//!
//! 1. [`early`](batch::Batch::early) leaves at once: these messages promise nothing.
//! 2. [`hard_state`](batch::Batch::hard_state), [`truncate`](batch::Batch::truncate) and
//!    [`entries`](batch::Batch::entries) become durable, the log first shortened, then written, all in one
//!    atomic write. Batches may share a write, in their order; none may be left out.
//! 3. [`messages`](batch::Batch::messages) leave once that write and all before it are durable, *those to the
//!    node itself included*: they come back to it as [`Input::Message`](protocol::Input::Message).
//! 4. [`pages`](batch::Batch::pages) are read from what is chosen, and sent as
//!    [`Learn`](message::ClusterBody::Learn).
//! 5. Up to [`chosen`](batch::Batch::chosen) the log may be applied, in order, at any pace. A request that
//!    was applied before counts once.
//! 6. [`reads`](batch::Batch::reads), which [`Input::Read`](protocol::Input::Read) asked for, may be answered
//!    from a state that has all up to their index.
//!
//! Beside that: a [`Tick`](protocol::Input::Tick) comes every few milliseconds, from a clock that never goes
//! back; messages come only from the member that they name, and may be lost, late, doubled, in any order; no
//! more proposals are given than [`room`](protocol::Protocol::room) says. After a crash or a failed write a
//! new core is made from what is durable ([`Restored`](config::Restored)), above every round that was ever
//! used. A flush that failed is the end: nobody knows what is durable then.
//!
//! `examples/raw_core.rs` is a driver of 200 lines:
//!
//! ```
//! use spaxos_consensus::batch::Batch;
//! use spaxos_consensus::config::{Config, Restored};
//! use spaxos_consensus::protocol::{Input, Proposal};
//! use spaxos_consensus::protocols::ProtocolName;
//! use spaxos_consensus::quorum::Voters;
//! use spaxos_consensus::types::Command;
//!
//! // A cluster of one: it has only itself to talk to.
//! let voters = Voters::new(vec![1]);
//! let config = Config {
//!     node: 1,
//!     voters,
//!     election_ms: 100,
//!     heartbeat_ms: 20,
//!     window_entries: 1024,
//!     window_bytes: 1 << 20,
//!     seed: 7,
//! };
//! let mut core = ProtocolName::Raft.core(config, Restored::default());
//! let mut inputs = vec![Input::Tick { now_ms: 1 }];
//! let mut log = Vec::new();
//! let mut chosen = 0;
//! let proposal = Proposal { command: Command::value(1, 1, "hello"), deadline_ms: 1000 };
//! let mut proposals = vec![Input::Propose(vec![proposal])];
//! while chosen < 2 {
//!     let input = inputs.pop().or_else(|| proposals.pop()).expect("a step follows from the one before");
//!     let mut batch = Batch::default();
//!     core.step(input, &mut batch);
//!     log.extend(batch.entries); // and the hard state, durably
//!     inputs.extend(batch.messages.into_iter().map(Input::Message));
//!     chosen = batch.chosen.unwrap_or(chosen);
//! }
//! assert_eq!(log[1].command.payload, "hello");
//! ```
//!
//! For readers of the source: this folder imports nothing of the crate outside itself, and it has no clock,
//! thread, file, socket, logger, global randomness or hash-ordered collection (clippy refuses them, see
//! `clippy.toml`). Read `types`, `message`, `batch`, `protocol`, then a protocol.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod batch;
mod campaign;
mod chosen;
pub mod config;
mod forwarding;
mod leadership;
mod load;
#[cfg(feature = "internals")]
pub mod log;
#[cfg(not(feature = "internals"))]
mod log;
mod making_way;
mod member;
pub mod message;
mod patience;
pub mod paxos;
mod places;
#[cfg(feature = "internals")]
pub mod proposals;
#[cfg(not(feature = "internals"))]
mod proposals;
pub mod protocol;
pub mod protocols;
pub mod quorum;
pub mod raft;
#[cfg(feature = "internals")]
pub mod random;
#[cfg(not(feature = "internals"))]
mod random;
mod reads;
mod roster;
mod transfer;
pub mod types;
