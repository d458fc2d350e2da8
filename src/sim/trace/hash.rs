//! The hash of a run: fed each event as it happens, the same on every machine, whether or not the run is
//! recorded.
//!
//! SipHash-1-3 with key 0 over little-endian 64-bit numbers; the standard library promises no algorithm, and
//! `derive(Hash)` no form. What is fed for each event is fixed here: a change to it changes all hashes.

mod cluster;
mod numbers;
mod paxos;
mod raft;
mod service;

use self::numbers::Numbers;
use super::What;
use crate::consensus::message::Body;
use crate::consensus::types::NodeId;
use crate::wire::message::PeerMessage;

/// The hash of the events so far.
#[derive(Clone, Debug, Default)]
pub struct TraceHash(Numbers);

impl TraceHash {
    /// Takes one event; its `text` is not looked at.
    pub fn add(&mut self, at_us: u64, step: u64, node: NodeId, what: &What) {
        let out = &mut self.0;
        for number in [at_us, step, node] {
            out.number(number);
        }
        match what {
            What::Sent { id, to, name, early, digest, .. } => {
                out.numbers(&[1, *id, *to, u64::from(*early), *digest]);
                out.word(name);
            }
            What::Received { id, from, name } => {
                out.numbers(&[2, *id, *from]);
                out.word(name);
            }
            What::Dropped { id, why } => {
                out.numbers(&[3, *id]);
                out.word(why);
            }
            What::Duplicated { id } => out.numbers(&[4, *id]),
            What::Writing { write, works, entries, .. } => out.numbers(&[5, *write, *works, *entries]),
            What::Durable { write, promised, chosen, entries, .. } => {
                out.numbers(&[6, *write, *chosen, *entries]);
                out.ballot(*promised);
            }
            What::WriteFailed { write, flush, .. } => out.numbers(&[7, *write, u64::from(*flush)]),
            What::Suspended => out.number(8),
            What::Rebuilt { generation } => out.numbers(&[9, *generation]),
            What::Crashed { why } => {
                out.number(10);
                out.word(why);
            }
            What::Started { start } => out.numbers(&[11, *start]),
            What::Paused => out.number(12),
            What::Resumed => out.number(13),
            What::Role { role, ballot } => {
                out.number(14);
                out.word(role);
                out.ballot(*ballot);
            }
            What::Noted { .. } => out.number(15),
            What::Chosen { index } => out.numbers(&[16, *index]),
            What::Delivered { index, request, .. } => {
                out.numbers(&[17, *index]);
                out.request(*request);
            }
            What::Proposed { client, request, .. } => {
                out.numbers(&[18, *client]);
                out.request(*request);
            }
            What::Answered { client, request, index, .. } => {
                out.numbers(&[19, *client, u64::from(index.is_some()), index.unwrap_or(0)]);
                out.request(*request);
            }
            What::Fault { fault, .. } => out.numbers(&[20, *fault]),
            What::Healed { fault, .. } => out.numbers(&[21, *fault]),
            What::Violation { invariant, .. } => {
                out.number(22);
                out.word(invariant);
            }
            What::Queued { entries, messages } => out.numbers(&[23, *entries, *messages]),
        }
    }

    /// The hash of all that was added.
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// The kind of a message, with which its text begins.
pub fn name(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Core(message) => core_name(&message.body),
        PeerMessage::Service(service) => service::name(&service.body),
    }
}

fn core_name(body: &Body) -> &'static str {
    match body {
        Body::Cluster(body) => cluster::name(body),
        Body::Paxos(body) => paxos::name(body),
        Body::Raft(body) => raft::name(body),
    }
}

/// All that a message says, in one number: the same for the same message on every machine.
pub fn digest(message: &PeerMessage) -> u64 {
    let mut out = Numbers::default();
    out.numbers(&[message.from(), message.to()]);
    match message {
        PeerMessage::Core(message) => match &message.body {
            Body::Cluster(body) => cluster::feed(body, &mut out),
            Body::Paxos(body) => paxos::feed(body, &mut out),
            Body::Raft(body) => raft::feed(body, &mut out),
        },
        PeerMessage::Service(service) => service::feed(&service.body, &mut out),
    }
    out.word(name(message));
    out.finish()
}
