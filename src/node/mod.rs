<<<<<<< HEAD
//! A running node: the only place that starts threads.
//!
//! | thread | does | waits in |
//! | --- | --- | --- |
//! | `clients` | the client port: requests in, answers out | its poll |
//! | `state-machine` | turns of the core | the inbox's bell |
//! | `storage` | one durable write for all that waits | the works queue |
//! | `network` | peers: frames in and out; own messages back to the inbox | its poll |
//! | `applier` | delivery, answers, chosen lines | its bell |
//! | `log`, `terminal` | diagnostic lines | their queues |
//!
//! State machine → storage and storage → network block when full; network → state machine never does, so
//! the ring cannot lock up. What each queue holds, and what fullness does, stands beside its constant here
//! and in [`Inbox`].

pub mod clients;
mod applier;
mod clock;
pub mod ending;
mod health;
pub mod log;
pub mod peers;
mod service;
mod state_machine;
mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

use crate::config::Config;
use crate::consensus::paxos::{self, Paxos};
use crate::consensus::protocol::Protocol;
use crate::consensus::quorum::Voters;
use crate::consensus::types::{Index, NodeId};
use crate::pipeline::applier::Applier;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::{self, Requests};
use crate::pipeline::state_machine::{StateMachine, Work};
use crate::store::{Founding, Store, StoreOptions};

use self::clock::Clock;
use self::ending::{Ender, ExitCode};
use self::health::Health;

/// Works that wait for storage. Full: the state machine waits (its inbox then fills, and refuses).
const WORKS_CAPACITY_BYTES: usize = 32 << 20;
/// What waits for the network. Full: storage and the state machine wait; the network thread never does, so
/// it is emptied.
const OUTGOING_CAPACITY_BYTES: usize = 64 << 20;
/// Each item of these two queues weighs at least so much, which bounds their number.
const ITEM_MIN_BYTES: usize = 32 << 10;
/// Answers on their way to the client port, in turns of the applier. Full: the applier waits.
const ANSWERS_CAPACITY: usize = 1024;
/// What is kept in memory of the latest entries for the applier and lagging peers.
const RECENT_BYTES: usize = 32 << 20;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The exit code it means.
    pub code: ExitCode,
    /// What is wrong and what to do.
    pub text: String,
}

impl StartError {
    fn new(code: ExitCode, text: impl Into<String>) -> StartError {
        StartError { code, text: text.into() }
    }
}
=======
//! node

pub mod log;
>>>>>>> config
