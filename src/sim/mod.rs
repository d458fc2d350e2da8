//! The simulator: the production code of a whole cluster under every fault, from a seed, in one thread.
//!
//! What runs is what `node/` runs on threads: the turns of state machine, storage and applier, their queues,
//! the records of the store, the wire form of messages, the handshake. What is simulated: sockets
//! (with the [`faults`](Faults) of the network), the disk (`store::memory`, which fails and forgets on
//! command), clocks and clients. The same [`Plan`] gives the same run, event for event, on every machine
//! ([`run()`] returns its hash).
//!
//! After every step the rules of [`Invariant`] are checked, at a cost in proportion to what changed; the
//! production code's own assertions are on as well. Some rules are checked by counting independently of the
//! cores ([`checker`]).
//!
//! | file | subject |
//! | --- | --- |
//! | `plan`, `faults` | what a run is made from, and what goes wrong in it |
//! | `world` | all state and no behaviour: time, the queue of steps and their kinds, nodes, network, clients |
//! | `application` | what all nodes run on top of the log |
//! | `network`, `streams` | what happens between nodes: messages on their own, or on connections as TCP makes them |
//! | `clients`, `reads` | what happens to the clients and readers that ask nodes |
//! | `threads`, `processes` | what a node's threads do, how its processes start and end |
//! | `chaos`, `strikes`, `partition` | when faults come, what each does, how networks split |
//! | `invariant`, `checker`, `watch`, `durable` | what must hold, the independent count, what is checked after a step and after a write |
//! | `cluster`, `liveness` | takes one step after another; what must happen once faults end |
//! | `run`, `shrink`, `counts` | a run, a smaller one, how often each thing happened |
//! | `scenario`, `hang` | a network split in part, a leader that cannot serve |
//! | `trace` | what a run leaves behind |
//!
//! Left out: sockets, the client port's bytes, files (they have tests of their own), more than one thread.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod application;
mod chaos;
pub mod checker;
mod clients;
mod cluster;
mod counts;
mod durable;
mod faults;
mod handshakes;
mod hang;
mod invariant;
mod liveness;
mod network;
mod partition;
mod plan;
mod processes;
mod reads;
mod run;
mod scenario;
mod shrink;
mod strangers;
mod streams;
mod strikes;
mod threads;
pub mod trace;
mod watch;
mod world;

pub use cluster::Cluster;
pub use counts::{Count, Counts};
pub use faults::Faults;
pub use hang::{Hang, MadeWay, hang};
pub use invariant::{Invariant, Violation};
pub use plan::{Class, FaultId, Plan};
pub use run::{Outcome, run};
pub use scenario::{Served, Split, split};
pub use shrink::shrink;
