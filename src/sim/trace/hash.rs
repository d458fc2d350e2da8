//! The hash of a run: fed each event as it happens, the same on every machine, whether or not the run is
//! recorded.
//!
//! SipHash-1-3 with key 0 over little-endian 64-bit numbers; the standard library promises no algorithm, and
//! `derive(Hash)` no form. What is fed for which event is fixed here: a change of it changes all hashes.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::What;
use crate::consensus::message::{Body, Message};
use crate::consensus::types::{Ballot, Command, Entry, NodeId, RequestId};

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
        self.0.0.finish()
    }
}

/// The kind of a message, as its text begins.
pub fn name(body: &Body) -> &'static str {
    match body {
        Body::PreVote { .. } => "PreVote",
        Body::PreVoteReply { .. } => "PreVoteReply",
        Body::Prepare { .. } => "Prepare",
        Body::Promise { .. } => "Promise",
        Body::Accept { .. } => "Accept",
        Body::Accepted { .. } => "Accepted",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::HeartbeatReply { .. } => "HeartbeatReply",
        Body::Refuse { .. } => "Refuse",
        Body::CatchUp { .. } => "CatchUp",
        Body::Learn { .. } => "Learn",
        Body::Forward { .. } => "Forward",
        Body::TimeoutNow { .. } => "TimeoutNow",
        Body::Confirm { .. } => "Confirm",
        Body::Confirmed { .. } => "Confirmed",
        Body::Read { .. } => "Read",
        Body::ReadReply { .. } => "ReadReply",
        Body::RequestPreVote { .. } => "RequestPreVote",
        Body::RequestVote { .. } => "RequestVote",
        Body::Vote { .. } => "Vote",
        Body::Append { .. } => "Append",
        Body::Appended { .. } => "Appended",
        Body::Mismatch { .. } => "Mismatch",
    }
}

/// All that a message says, in one number: the same for the same message on every machine.
pub fn digest(message: &Message) -> u64 {
    let mut out = Numbers::default();
    out.numbers(&[message.from, message.to]);
    match &message.body {
        Body::PreVote { ballot } | Body::TimeoutNow { ballot } | Body::Vote { ballot } => out.ballot(*ballot),
        Body::PreVoteReply { ballot, granted, promised } => {
            out.ballot(*ballot);
            out.ballot(*promised);
            out.number(u64::from(*granted));
        }
        Body::Prepare { ballot, first } => {
            out.ballot(*ballot);
            out.number(*first);
        }
        Body::Promise { ballot, chosen, compacted, first, last, more, entries } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *compacted, *first, *last, u64::from(*more)]);
            out.entries(entries);
        }
        Body::Accept { ballot, chosen, entries } => {
            out.ballot(*ballot);
            out.number(*chosen);
            out.entries(entries);
        }
        Body::Accepted { ballot, chosen, ranges } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, ranges.len() as u64]);
            ranges.iter().for_each(|range| out.numbers(&[range.first, range.last]));
        }
        Body::Heartbeat { ballot, chosen, sent_ms } | Body::HeartbeatReply { ballot, chosen, sent_ms } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *sent_ms]);
        }
        Body::Refuse { ballot, promised } => {
            out.ballot(*ballot);
            out.ballot(*promised);
        }
        Body::CatchUp { first } => out.number(*first),
        Body::Learn { chosen, entries } => {
            out.number(*chosen);
            out.entries(entries);
        }
        Body::Forward { commands } => {
            out.number(commands.len() as u64);
            commands.iter().for_each(|command| out.command(command));
        }
        Body::Confirm { ballot, number } | Body::Confirmed { ballot, number } => {
            out.ballot(*ballot);
            out.number(*number);
        }
        Body::Read { id } => out.number(*id),
        Body::ReadReply { id, index } => out.numbers(&[*id, *index]),
        Body::RequestPreVote { ballot, last } | Body::RequestVote { ballot, last } => {
            out.ballot(*ballot);
            out.numbers(&[last.index, last.round]);
        }
        Body::Append { ballot, chosen, previous, entries } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, previous.index, previous.round]);
            out.entries(entries);
        }
        Body::Appended { ballot, chosen, matched } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *matched]);
        }
        Body::Mismatch { ballot, chosen, previous, hint } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *previous, hint.index, hint.round]);
        }
    }
    out.word(name(&message.body));
    out.0.finish()
}

/// Numbers on their way into the hash. Eight bytes at a time, so that it never has to piece words together.
#[derive(Clone, Debug, Default)]
struct Numbers(SipHasher13);

impl Numbers {
    fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    /// The length, then the bytes, filled up with zeros.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.0.write(word));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.0.write(&word);
        }
    }

    fn word(&mut self, word: &str) {
        self.bytes(word.as_bytes());
    }

    fn ballot(&mut self, ballot: Ballot) {
        self.numbers(&[ballot.round, ballot.node]);
    }

    fn request(&mut self, request: RequestId) {
        self.0.write(&request.session.to_le_bytes());
        self.number(request.number);
    }

    fn command(&mut self, command: &Command) {
        self.request(command.request);
        self.numbers(&[command.from, u64::from(command.kind.code())]);
        self.bytes(&command.payload);
    }

    fn entries(&mut self, entries: &[Entry]) {
        self.number(entries.len() as u64);
        for entry in entries {
            self.number(entry.index);
            self.ballot(entry.ballot);
            self.command(&entry.command);
        }
    }
}
