//! spaxos: a replicated log that you can embed, run, read and check. Multi-Paxos or Raft on one pipeline.
//!
//! A [`Node`] is a server of a cluster inside your program: it has its threads, its disk and its sockets,
//! applies what is chosen to your [`Application`] and tells you what became of your proposals.
//!
//! ```
//! use std::time::Duration;
//!
//! use spaxos::{Application, Bytes, Config, Item, MemoryDisk, Node};
//!
//! /// Remembers the longest command.
//! #[derive(Default)]
//! struct Longest(Bytes);
//!
//! impl Application for Longest {
//!     fn apply(&mut self, item: &Item) -> Bytes {
//!         if item.command.payload.len() > self.0.len() {
//!             self.0 = item.command.payload.clone();
//!         }
//!         self.0.clone()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A cluster of one, in memory; a real one has three members or five, and a data directory for each.
//! let config = Config::new("example", 1, [(1, "127.0.0.1:0".parse()?)], "data/node1")?;
//! let disk = MemoryDisk::default();
//! let node = Node::builder(config).application(Longest::default()).in_memory(&disk).start()?;
//! let proposed = node.propose_all(["a", "long", "day"])?;
//! let outcome = proposed[2].wait(Duration::from_secs(10))?;
//! assert_eq!(outcome.response.as_deref(), Some(&b"long"[..]));
//! node.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! | --- | --- |
//! | embed a node, step by step; what is promised; what etcd/raft, raft-rs, openraft, omnipaxos call it | [`embedding`] |
//! | implement the service | [`Application`], [`Item`], [`apply_channel`] |
//! | start a node | [`Node::builder`], [`Config`] |
//! | propose, wait, read, hand over, stop | [`Node`], [`Proposed`] |
//! | bring your own threads, disk and network | [`consensus`] |
//!
//! The rest of this page is for readers of the source. The feature `internals`, a part of the default
//! feature, makes more modules public, for the programs and tests of this repository: they are not part of
//! the API and change without notice.
//!
//! # The picture
//!
#![doc = include_str!("../docs/PICTURE.md")]
//!
//! # The rules of the house
//!
//! * A message that promises something leaves only after the state behind it is durable, even if it goes to
//!   the node itself: `pipeline::storage`.
//! * A flush that fails ends the node; after a write that failed for want of room, the node is rebuilt from
//!   what is durable: `node::storage`.
//! * A chosen index never changes, a promise never regresses, a ballot is used once: [`consensus::paxos`].
//! * A request is delivered at most once, in index order, and alike on every node: `pipeline::ledger`.
//! * Nothing that a peer, a client, a file or the disk does makes the process panic; every queue and buffer
//!   is bounded, and what happens when it is full is documented next to its capacity.
//!
//! # The layers
//!
//! Imports point down this list and never up (`tests/architecture.rs` keeps it so).
//!
//! | module | subject |
//! | --- | --- |
//! | `cli` | the commands of `spaxos` and `simplesvr` |
//! | [`node`] | threads, sockets, the clock: the only place that has them |
//! | `directory` | the data directory: lock, files, sled |
//! | `logfile` | the rotating file of chosen and diagnostic lines |
//! | `sim` | a cluster in one thread and virtual time: faults from a seed, rules after every step |
//! | `client` | what clients see of a node; the client port as functions of bytes: RESP2 and telnet lines |
//! | `pipeline` | the turns of state machine, storage and applier: functions of plain data |
//! | [`application`] | what a replicated service implements |
//! | `store` | a journal of records and a few small values over an engine, without files |
//! | `wire` | peer messages as checksummed frames |
//! | [`config`] | TOML becomes a valid configuration |
//! | [`consensus`] | the pure cores: state and input give state and batch |
//!
//! Read `consensus::types`, `message`, `batch`, `protocol`, then a golden script of `tests/golden`, then
//! `consensus::paxos`, `consensus::raft`, `pipeline`, `node`; then `sim`, and run it with a seed.

// Without `internals`, much of what is public in a private module has no user, which means nothing.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]

// The interface.
pub mod application;
#[cfg(feature = "node")]
pub mod config;
#[cfg(feature = "node")]
pub mod node;

// What the programs and tests of this repository see besides.
#[cfg(feature = "workshop")]
pub mod cli;
#[cfg(all(feature = "node", feature = "internals"))]
pub mod client;
#[cfg(all(feature = "node", feature = "internals"))]
pub mod directory;
#[cfg(feature = "workshop")]
pub mod fuzzing;
#[cfg(all(feature = "node", feature = "internals"))]
pub mod logfile;
#[cfg(feature = "internals")]
pub mod pipeline;
#[cfg(feature = "simulator")]
pub mod sim;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod wire;

// The same modules, private for an embedder.
#[cfg(all(feature = "node", not(feature = "internals")))]
mod client;
#[cfg(all(feature = "node", not(feature = "internals")))]
mod directory;
#[cfg(all(feature = "node", not(feature = "internals")))]
mod logfile;
#[cfg(all(feature = "node", not(feature = "internals")))]
mod pipeline;
#[cfg(all(feature = "node", not(feature = "internals")))]
mod store;
#[cfg(all(feature = "node", not(feature = "internals")))]
mod wire;

#[cfg(feature = "node")]
#[doc = include_str!("../docs/EMBEDDING.md")]
pub mod embedding {}

pub use application::{Application, Item};
pub use bytes::Bytes;
#[cfg(feature = "node")]
pub use config::{Config, ConfigError};
pub use consensus::protocol::{PeerStatus, Role, Status};
pub use consensus::protocols::ProtocolName;
pub use consensus::types::{Ballot, Command, Index, Kind, NodeId, RequestId};
#[cfg(feature = "node")]
pub use node::{
    ApplySender, Builder, Delivered, End, Ender, ExitCode, Failure, Items, LogItem, MemoryDisk, Node, Opened,
    ProposeError, Proposed, ReadError, Received, StartError, TransferError, WaitError, apply_channel,
};
pub use spaxos_consensus as consensus;
