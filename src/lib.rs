//! spaxos: a replicated log that you can embed, run, read and check.
//!
//! ```text
//!  clients ──► client port ──► proposals ──┐
//!    ▲         (own thread)                ▼
//!    │                          ┌── STATE MACHINE ──┐  raises the watermark
//!    │                          │    a pure core    ├──────────────► applier ──► replies,
//!    │                          └───────┬─┬─────────┘               (own thread;  chosen lines
//!    │                            work  │ │  early messages          pulls)
//!    │                                  ▼ │  (promise nothing)
//!    │                          STORAGE   │  one atomic durable write for all that waits
//!    │                                  │ │  messages, only after the write behind them
//!    │                                  ▼ ▼
//!    └── inbox ◄──────────────── NETWORK (mio) ◄──────► peers
//!          (peers' messages, and those a node addressed to itself)
//! ```
//!
//! # The rules of the house
//!
//! * A message that promises something leaves only after the state behind it is durable, also to oneself:
//!   [`pipeline::storage`].
//! * An error of a flush ends the node; a write that failed for want of room rebuilds it from what is
//!   durable: `node::storage`.
//! * A chosen index never changes, a promise never regresses, a ballot is used once: [`consensus::paxos`].
//! * A request is delivered at most once, in index order, on every node alike: [`pipeline::requests`].
//! * Nothing that a peer, a client, a file or the disk does makes the process panic; every queue and buffer
//!   is bounded, and what happens when it is full stands beside its capacity.
//!
//! # The layers
//!
//! Imports point down this list and never up (`tests/architecture.rs` keeps it so).
//!
//! | module | subject |
//! | --- | --- |
//! | [`cli`] | the commands of `spaxos` and `simplesvr` |
//! | [`node`] | threads, sockets, the clock: the only place that has them |
//! | [`sim`] | a cluster in one thread and virtual time: faults from a seed, rules after every step |
//! | [`client`] | the client port as functions of bytes: RESP2 and telnet lines |
//! | [`pipeline`] | the turns of state machine, storage and applier: functions of plain data |
//! | [`store`] | records over an engine: sled, memory |
//! | [`wire`] | peer messages as checksummed frames |
//! | [`config`] | TOML becomes a valid configuration |
//! | [`consensus`] | the pure cores: state and input give state and batch |
//!
//! Read `consensus::types`, `message`, `batch`, `protocol`, then a golden script of `tests/golden`, then
//! `consensus::paxos`, `pipeline`, `node`; then `sim`, and run it with a seed.

pub mod application;
pub mod cli;
pub mod client;
pub mod config;
pub mod consensus;
#[doc(hidden)]
pub mod fuzzing;
pub mod node;
pub mod pipeline;
pub mod sim;
pub mod store;
pub mod wire;

pub use application::{Application, Item};
pub use bytes::Bytes;
pub use config::{Config, ConfigError};
pub use consensus::config::ProtocolName;
pub use consensus::protocol::{PeerStatus, Role, Status};
pub use consensus::types::{Ballot, Command, Index, Kind, NodeId, RequestId};
pub use node::{
    ApplySender, Builder, Delivered, End, Ender, ExitCode, Failure, Items, LogItem, MemoryDisk, Node, Opened,
    ProposeError, Proposed, Received, StartError, TransferError, WaitError, apply_channel,
};
pub use store::ReadError;
