//! The trace of a run: every event of every node as plain data, for `spaxos trace`, for a person who reads
//! the last steps in words, and for the hash by which two runs are compared.
//!
//! Numbers and names say what happened; a `text` says it to a person. Only numbers and names are hashed
//! ([`TraceHash`]), so that a run that is not recorded builds no texts ([`Recorder::text`]) and has the same
//! hash.
//!
//! Left out: values in full (a text is cut), and what a node holds in memory.

mod hash;
mod json;
mod recorder;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::consensus::types::{Ballot, Index, NodeId, RequestId};

pub use hash::{TraceHash, digest, name};
pub use json::{MAX_TRACE_BYTES, TraceError};
pub use recorder::{MAX_EVENTS, MAX_TEXT_CHARS, Recorder};

/// The number of the JSON form that this program writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// A short name out of a fixed set, such as a message's kind or a role: borrowed while a run goes on, owned
/// when it was read from a file.
pub type Word = Cow<'static, str>;

/// One run, or the last part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// [`FORMAT`].
    pub format: u32,
    /// The version and commit of the program that ran it.
    pub version: String,
    /// What the run was made from.
    pub seed: u64,
    /// How the nodes agreed: `paxos` or `raft`.
    #[serde(default)]
    pub protocol: String,
    /// How many nodes there are: 1 to `nodes`.
    pub nodes: u64,
    /// T in milliseconds.
    pub election_ms: u64,
    /// Which faults the run had, in plain words.
    pub faults: String,
    /// The hash of all events, including the skipped ones, as 16 hexadecimal digits.
    pub hash: String,
    /// How many events happened before the first of `events`: more happened than the recorder kept.
    pub skipped: u64,
    /// The invariant that did not hold, if any.
    pub failure: Option<Failure>,
    /// What happened, in order of time.
    pub events: Vec<TraceEvent>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name.
    pub invariant: String,
    /// Both sides of it.
    pub text: String,
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Virtual time since the start, in microseconds.
    pub at_us: u64,
    /// The step of the run. Events of one step belong together: first what came in, then what that led to.
    pub step: u64,
    /// Where it happened; 0 is the cluster as a whole.
    pub node: NodeId,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The node hands a message to the network.
    Sent {
        /// Names the message in this run, from 1.
        id: u64,
        /// The node that it is for, which may be the sender itself.
        to: NodeId,
        /// Its kind, such as `Accept`.
        name: Word,
        /// Whether it left before the write of its batch: it promises nothing.
        early: bool,
        /// [`digest`] of the message.
        digest: u64,
        /// The body of the message, as it prints.
        text: String,
    },
    /// A message reaches the node's state machine. One that was duplicated does so more than once.
    Received {
        /// As in [`What::Sent`].
        id: u64,
        /// Who sent it.
        from: NodeId,
        /// Its kind.
        name: Word,
    },
    /// One copy of a message is lost, at this time. Reported by the sender if the network lost it, by the
    /// receiver if it was down or had no room.
    Dropped {
        /// As in [`What::Sent`].
        id: u64,
        /// Why, in a few words.
        why: Word,
    },
    /// The network makes one more copy of a message.
    Duplicated {
        /// As in [`What::Sent`].
        id: u64,
    },
    /// The state machine hands a work to storage: what this step led to is durable only with it. The works of
    /// a node are written in this order; those not yet durable are lost when it crashes or is rebuilt.
    Queued {
        /// How many entries will be written.
        entries: u64,
        /// How many messages wait for the write.
        messages: u64,
    },
    /// A write begins.
    Writing {
        /// Names the write in this run, from 1.
        write: u64,
        /// How many works it makes durable together: the oldest that are queued on this node.
        works: u64,
        /// How many entries are in it.
        entries: u64,
        /// What is written.
        text: String,
    },
    /// A write is durable.
    Durable {
        /// As in [`What::Writing`].
        write: u64,
        /// The promise on the disk.
        #[serde(with = "ballot")]
        promised: Ballot,
        /// The watermark on the disk.
        chosen: Index,
        /// How many entries were in it.
        entries: u64,
    },
    /// A write failed. After a failed flush the node ends, after any other it goes on from its disk.
    WriteFailed {
        /// As in [`What::Writing`].
        write: u64,
        /// Whether it was the flush that failed.
        flush: bool,
        /// The error.
        text: String,
    },
    /// The state machine waits until the disk takes writes again.
    Suspended,
    /// The core was rebuilt from what is durable.
    Rebuilt {
        /// The generation from now on.
        generation: u64,
    },
    /// The process ended; what was not durable is lost.
    Crashed {
        /// Why: killed, power cut, a flush that failed …
        why: Word,
    },
    /// The process began, from its disk.
    Started {
        /// How often it has started, from 1.
        start: u64,
    },
    /// The process is paused, and does not see its clock go on.
    Paused,
    /// The process goes on.
    Resumed,
    /// The node has a new role, or a new ballot.
    Role {
        /// `follower`, `candidate` or `leader`.
        role: Word,
        /// Under which ballot.
        #[serde(with = "ballot")]
        ballot: Ballot,
    },
    /// The core reports something that a person who watches wants to know.
    Noted {
        /// What it says.
        text: String,
    },
    /// The node knows that every index up to this one is chosen.
    Chosen {
        /// Its watermark.
        index: Index,
    },
    /// The application got an entry.
    Delivered {
        /// Its index.
        index: Index,
        /// The request in it; [`RequestId::NONE`] if it is a no-op or was delivered before.
        #[serde(with = "request")]
        request: RequestId,
        /// What the application got.
        text: String,
    },
    /// A client proposes at this node.
    Proposed {
        /// The client, from 1.
        client: u64,
        /// The request.
        #[serde(with = "request")]
        request: RequestId,
        /// The command.
        text: String,
    },
    /// A client gets its answer from this node.
    Answered {
        /// The client.
        client: u64,
        /// The request.
        #[serde(with = "request")]
        request: RequestId,
        /// Where the request was delivered, if the answer says so.
        index: Option<Index>,
        /// The answer.
        text: String,
    },
    /// A fault begins: a partition, a slow disk, flipped bits …
    Fault {
        /// Names the fault in this run, from 1.
        fault: u64,
        /// What is wrong from now on.
        text: String,
    },
    /// A fault ends.
    Healed {
        /// As in [`What::Fault`]; 0 ends all of them.
        fault: u64,
        /// What is right again.
        text: String,
    },
    /// An invariant does not hold.
    Violation {
        /// Its name.
        invariant: Word,
        /// Both sides of it.
        text: String,
    },
}

/// `12.345 ms  node 2: sends #17 to node 3: Accept 1.1 chosen=4 []`
impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:03} ms  ", self.at_us / 1000, self.at_us % 1000)?;
        match self.node {
            0 => write!(f, "cluster: {}", self.what),
            node => write!(f, "node {node}: {}", self.what),
        }
    }
}

/// What the node does, in plain words, on one line.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Sent { id, to, name, early, text, .. } => {
                let when = if *early { " before its write" } else { "" };
                write!(
                    f,
                    "sends #{id} to node {to}{when}: {}",
                    if text.is_empty() { name.as_ref() } else { text }
                )
            }
            What::Received { id, from, name } => write!(f, "receives #{id} from node {from}: {name}"),
            What::Dropped { id, why } => write!(f, "#{id} is lost: {why}"),
            What::Duplicated { id } => write!(f, "#{id} is duplicated on the way"),
            What::Queued { entries, messages } => {
                let (entries, messages) =
                    (Amount(*entries, "entry", "entries"), Amount(*messages, "message", "messages"));
                write!(f, "queues {entries} to be written, and {messages} behind it")
            }
            What::Writing { works, entries, text, .. } => {
                let (works, entries) =
                    (Amount(*works, "work", "works"), Amount(*entries, "entry", "entries"));
                write!(f, "begins to write {works} with {entries}{}", Colon(text))
            }
            What::Durable { promised, chosen, entries, .. } => {
                let entries = Amount(*entries, "entry", "entries");
                write!(f, "has written {entries}: promised={promised} chosen={chosen}")
            }
            What::WriteFailed { flush: true, text, .. } => write!(f, "a flush failed{}", Colon(text)),
            What::WriteFailed { flush: false, text, .. } => write!(f, "a write failed{}", Colon(text)),
            What::Suspended => f.write_str("waits until its disk takes writes again"),
            What::Rebuilt { generation } => write!(f, "goes on from its disk as generation {generation}"),
            What::Crashed { why } => write!(f, "ends: {why}"),
            What::Started { start } => write!(f, "starts from its disk, start {start}"),
            What::Paused => f.write_str("its process is paused"),
            What::Resumed => f.write_str("its process goes on"),
            What::Role { role, ballot } => write!(f, "is {role} now, ballot {ballot}"),
            What::Noted { text } => f.write_str(text),
            What::Chosen { index } => write!(f, "knows that every index up to {index} is chosen"),
            What::Delivered { index, request, text } if text.is_empty() => {
                write!(f, "delivers {index}: request {request}")
            }
            What::Delivered { index, text, .. } => write!(f, "delivers {index}: {text}"),
            What::Proposed { client, request, text } => {
                write!(f, "client {client} proposes request {request}{}", Colon(text))
            }
            What::Answered { client, request, index, text } => {
                write!(f, "client {client} is answered about request {request}")?;
                index.map_or(Ok(()), |index| write!(f, " (index {index})"))?;
                write!(f, "{}", Colon(text))
            }
            What::Fault { fault, text } => write!(f, "fault {fault} begins{}", Colon(text)),
            What::Healed { fault: 0, text } => f.write_str(text),
            What::Healed { fault, text } => write!(f, "fault {fault} ends{}", Colon(text)),
            What::Violation { invariant, text } => write!(f, "{invariant} DOES NOT HOLD{}", Colon(text)),
        }
    }
}

/// `1 entry`, `2 entries`.
struct Amount(u64, &'static str, &'static str);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { self.1 } else { self.2 })
    }
}

/// `: text`, or nothing.
struct Colon<'a>(&'a str);

impl fmt::Display for Colon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// A ballot as `3.1`.
mod ballot {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Ballot;

    pub fn serialize<S: Serializer>(ballot: &Ballot, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ballot)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ballot, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = |(round, node): (&str, &str)| {
            Some(Ballot { round: round.parse().ok()?, node: node.parse().ok()? })
        };
        let ballot = text.split_once('.').and_then(parse);
        ballot.ok_or_else(|| D::Error::custom(format!("{text:?} is not a ballot, such as \"3.1\"")))
    }
}

/// A request id as `7`, or `ab:7` with a session other than 0 (in hexadecimal digits).
mod request {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::RequestId;

    pub fn serialize<S: Serializer>(request: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(request)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RequestId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (session, number) = text.split_once(':').unwrap_or(("0", &text));
        let session = u128::from_str_radix(session, 16).ok();
        let request = session.zip(number.parse().ok());
        let request = request.map(|(session, number)| RequestId { session, number });
        request.ok_or_else(|| D::Error::custom(format!("{text:?} is not a request id, such as \"7\"")))
    }
}
