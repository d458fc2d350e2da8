//! The protobuf form of [`Message`]: one flat record for all kinds.
//!
//! ```text
//! message Record {                       message Entry {          // also a forwarded command,
//!   uint32 kind            = 1;            uint64  index        = 1; // without index and ballot
//!   uint64 from            = 2;            uint64  ballot_round = 2;
//!   uint64 to              = 3;            uint64  ballot_node  = 3;
//!   repeated Entry entries  = 4;           fixed64 session_high = 4;
//!   repeated uint64 ranges  = 5;           fixed64 session_low  = 5;
//!   repeated Entry commands = 6;           uint64  number       = 6;
//!   uint64 ballot_round    = 7;            uint64  from         = 7;
//!   uint64 ballot_node     = 8;            uint32  kind         = 8;
//!   uint64 promised_round  = 9;            bytes   payload      = 9;
//!   uint64 promised_node   = 10;         }
//!   uint64 chosen          = 11;
//!   uint64 compacted       = 12;         // `ranges` is packed: first, last, first, last, …
//!   uint64 first           = 13;
//!   uint64 last            = 14;
//!   uint64 sent_ms         = 15;
//!   bool   more            = 16;
//!   bool   granted         = 17;
//!   uint64 position_index  = 18;
//!   uint64 position_round  = 19;
//!   uint64 number          = 20;
//! }
//! ```
//!
//! Numbers are only ever added: a node skips fields that it does not know, and a message of an unknown kind
//! as a whole ([`Decoded::UnknownKind`]), so that versions can be mixed in a rolling upgrade. Written and
//! read by hand over prost's primitives, because prost's derive would want each entry cloned into a second
//! form, and would let 2 bytes of input grow to 112 in memory; a derived twin checks both ways in the tests.
//!
//! What no honest node says whatever its state is refused here (`check`), so that a core can rely on it. What
//! depends on the receiver's state (rounds, ballots, watermarks) is the core's part; who may say it, the
//! connection's.

mod check;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use crate::consensus::message::{Body, Message, Range};
use crate::consensus::types::{Ballot, Command, Entry, Index, NodeId, Position};

use super::frame::FrameError;

pub use check::MAX_INDEX;
pub use error::MessageError;

/// The most entries, commands or ranges in one message: no window is larger. More are refused.
pub const MAX_ITEMS: usize = 65_536;

/// Appends the frame of a message; on an error ([`FrameError::TooLong`]: the core should have made pages)
/// `out` is as before.
pub fn encode_message(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    encode::encode(message, out)
}

/// Reads the payload of a frame. Payloads of commands are slices of `frame`, which is freed with the last
/// of them; entries of one frame come and go together, so hardly more is kept than they need.
pub fn decode_message(frame: Bytes) -> Result<Decoded, MessageError> {
    decode::decode(frame)
}

/// A message, or that there is one which only a newer version understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Decoded, and sane as far as one message can be.
    Message(Message),
    /// To be ignored and counted.
    UnknownKind(u64),
}

/// The numbers of the fields in a record.
mod field {
    pub const KIND: u32 = 1;
    pub const FROM: u32 = 2;
    pub const TO: u32 = 3;
    pub const ENTRIES: u32 = 4;
    pub const RANGES: u32 = 5;
    pub const COMMANDS: u32 = 6;
    pub const BALLOT_ROUND: u32 = 7;
    pub const BALLOT_NODE: u32 = 8;
    pub const PROMISED_ROUND: u32 = 9;
    pub const PROMISED_NODE: u32 = 10;
    pub const CHOSEN: u32 = 11;
    pub const COMPACTED: u32 = 12;
    pub const FIRST: u32 = 13;
    pub const LAST: u32 = 14;
    pub const SENT_MS: u32 = 15;
    pub const MORE: u32 = 16;
    pub const GRANTED: u32 = 17;
    pub const POSITION_INDEX: u32 = 18;
    pub const POSITION_ROUND: u32 = 19;
    pub const NUMBER: u32 = 20;
}

/// The numbers of the fields in an entry or a forwarded command.
mod entry_field {
    pub const INDEX: u32 = 1;
    pub const BALLOT_ROUND: u32 = 2;
    pub const BALLOT_NODE: u32 = 3;
    pub const SESSION_HIGH: u32 = 4;
    pub const SESSION_LOW: u32 = 5;
    pub const NUMBER: u32 = 6;
    pub const FROM: u32 = 7;
    pub const KIND: u32 = 8;
    pub const PAYLOAD: u32 = 9;
}

/// The numbers of the kinds.
mod kind {
    pub const PRE_VOTE: u64 = 1;
    pub const PRE_VOTE_REPLY: u64 = 2;
    pub const PREPARE: u64 = 3;
    pub const PROMISE: u64 = 4;
    pub const ACCEPT: u64 = 5;
    pub const ACCEPTED: u64 = 6;
    pub const HEARTBEAT: u64 = 7;
    pub const HEARTBEAT_REPLY: u64 = 8;
    pub const REFUSE: u64 = 9;
    pub const CATCH_UP: u64 = 10;
    pub const LEARN: u64 = 11;
    pub const FORWARD: u64 = 12;
    pub const TIMEOUT_NOW: u64 = 13;
    pub const REQUEST_PRE_VOTE: u64 = 14;
    pub const REQUEST_VOTE: u64 = 15;
    pub const VOTE: u64 = 16;
    pub const APPEND: u64 = 17;
    pub const APPENDED: u64 = 18;
    pub const MISMATCH: u64 = 19;
    pub const CONFIRM: u64 = 20;
    pub const CONFIRMED: u64 = 21;
    pub const READ: u64 = 22;
    pub const READ_REPLY: u64 = 23;
}

/// The fields of a record that are single values; what a kind does not use is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Values {
    kind: u64,
    from: NodeId,
    to: NodeId,
    ballot: Ballot,
    promised: Ballot,
    chosen: Index,
    compacted: Index,
    first: Index,
    last: Index,
    sent_ms: u64,
    more: bool,
    granted: bool,
    position: Position,
    number: u64,
}

/// The fields of a record that are lists.
#[derive(Debug, Default)]
struct Lists<Entries, Ranges, Commands> {
    entries: Entries,
    ranges: Ranges,
    commands: Commands,
}

type OwnedLists = Lists<Vec<Entry>, Vec<Range>, Vec<Command>>;
type BorrowedLists<'a> = Lists<&'a [Entry], &'a [Range], &'a [Command]>;

/// A message as the fields of its record.
fn to_record(message: &Message) -> (Values, BorrowedLists<'_>) {
    let values = Values { from: message.from, to: message.to, ..Values::default() };
    let none = BorrowedLists::default();
    match &message.body {
        Body::PreVote { ballot } => (Values { kind: kind::PRE_VOTE, ballot: *ballot, ..values }, none),
        Body::PreVoteReply { ballot, granted, promised } => {
            let (ballot, granted, promised) = (*ballot, *granted, *promised);
            (Values { kind: kind::PRE_VOTE_REPLY, ballot, granted, promised, ..values }, none)
        }
        Body::Prepare { ballot, first } => {
            (Values { kind: kind::PREPARE, ballot: *ballot, first: *first, ..values }, none)
        }
        Body::Promise { ballot, chosen, compacted, first, last, more, entries } => {
            let (ballot, chosen, compacted) = (*ballot, *chosen, *compacted);
            let (first, last, more) = (*first, *last, *more);
            let values =
                Values { kind: kind::PROMISE, ballot, chosen, compacted, first, last, more, ..values };
            (values, Lists { entries, ..none })
        }
        Body::Accept { ballot, chosen, entries } => {
            let values = Values { kind: kind::ACCEPT, ballot: *ballot, chosen: *chosen, ..values };
            (values, Lists { entries, ..none })
        }
        Body::Accepted { ballot, chosen, ranges } => {
            let values = Values { kind: kind::ACCEPTED, ballot: *ballot, chosen: *chosen, ..values };
            (values, Lists { ranges, ..none })
        }
        Body::Heartbeat { ballot, chosen, sent_ms } => {
            let (ballot, chosen, sent_ms) = (*ballot, *chosen, *sent_ms);
            (Values { kind: kind::HEARTBEAT, ballot, chosen, sent_ms, ..values }, none)
        }
        Body::HeartbeatReply { ballot, chosen, sent_ms } => {
            let (ballot, chosen, sent_ms) = (*ballot, *chosen, *sent_ms);
            (Values { kind: kind::HEARTBEAT_REPLY, ballot, chosen, sent_ms, ..values }, none)
        }
        Body::Refuse { ballot, promised } => {
            (Values { kind: kind::REFUSE, ballot: *ballot, promised: *promised, ..values }, none)
        }
        Body::CatchUp { first } => (Values { kind: kind::CATCH_UP, first: *first, ..values }, none),
        Body::Learn { chosen, entries } => {
            (Values { kind: kind::LEARN, chosen: *chosen, ..values }, Lists { entries, ..none })
        }
        Body::Forward { commands } => (Values { kind: kind::FORWARD, ..values }, Lists { commands, ..none }),
        Body::TimeoutNow { ballot } => (Values { kind: kind::TIMEOUT_NOW, ballot: *ballot, ..values }, none),
        Body::Confirm { ballot, number } => {
            (Values { kind: kind::CONFIRM, ballot: *ballot, number: *number, ..values }, none)
        }
        Body::Confirmed { ballot, number } => {
            (Values { kind: kind::CONFIRMED, ballot: *ballot, number: *number, ..values }, none)
        }
        Body::Read { id } => (Values { kind: kind::READ, number: *id, ..values }, none),
        Body::ReadReply { id, index } => {
            (Values { kind: kind::READ_REPLY, number: *id, last: *index, ..values }, none)
        }
        Body::RequestPreVote { ballot, last } => {
            (Values { kind: kind::REQUEST_PRE_VOTE, ballot: *ballot, position: *last, ..values }, none)
        }
        Body::RequestVote { ballot, last } => {
            (Values { kind: kind::REQUEST_VOTE, ballot: *ballot, position: *last, ..values }, none)
        }
        Body::Vote { ballot } => (Values { kind: kind::VOTE, ballot: *ballot, ..values }, none),
        Body::Append { ballot, chosen, previous, entries } => {
            let (ballot, chosen, position) = (*ballot, *chosen, *previous);
            let values = Values { kind: kind::APPEND, ballot, chosen, position, ..values };
            (values, Lists { entries, ..none })
        }
        Body::Appended { ballot, chosen, matched } => {
            let (ballot, chosen, last) = (*ballot, *chosen, *matched);
            (Values { kind: kind::APPENDED, ballot, chosen, last, ..values }, none)
        }
        Body::Mismatch { ballot, chosen, previous, hint } => {
            let (ballot, chosen, last, position) = (*ballot, *chosen, *previous, *hint);
            (Values { kind: kind::MISMATCH, ballot, chosen, last, position, ..values }, none)
        }
    }
}

/// The body that the fields of a record make; `None` for an unknown kind. Fields that the kind does not use
/// are ignored.
fn to_body(values: Values, lists: OwnedLists) -> Option<Body> {
    let Values {
        ballot,
        promised,
        chosen,
        compacted,
        first,
        last,
        sent_ms,
        more,
        granted,
        position,
        number,
        ..
    } = values;
    let Lists { entries, ranges, commands } = lists;
    Some(match values.kind {
        kind::PRE_VOTE => Body::PreVote { ballot },
        kind::PRE_VOTE_REPLY => Body::PreVoteReply { ballot, granted, promised },
        kind::PREPARE => Body::Prepare { ballot, first },
        kind::PROMISE => Body::Promise { ballot, chosen, compacted, first, last, more, entries },
        kind::ACCEPT => Body::Accept { ballot, chosen, entries },
        kind::ACCEPTED => Body::Accepted { ballot, chosen, ranges },
        kind::HEARTBEAT => Body::Heartbeat { ballot, chosen, sent_ms },
        kind::HEARTBEAT_REPLY => Body::HeartbeatReply { ballot, chosen, sent_ms },
        kind::REFUSE => Body::Refuse { ballot, promised },
        kind::CATCH_UP => Body::CatchUp { first },
        kind::LEARN => Body::Learn { chosen, entries },
        kind::FORWARD => Body::Forward { commands },
        kind::TIMEOUT_NOW => Body::TimeoutNow { ballot },
        kind::CONFIRM => Body::Confirm { ballot, number },
        kind::CONFIRMED => Body::Confirmed { ballot, number },
        kind::READ => Body::Read { id: number },
        kind::READ_REPLY => Body::ReadReply { id: number, index: last },
        kind::REQUEST_PRE_VOTE => Body::RequestPreVote { ballot, last: position },
        kind::REQUEST_VOTE => Body::RequestVote { ballot, last: position },
        kind::VOTE => Body::Vote { ballot },
        kind::APPEND => Body::Append { ballot, chosen, previous: position, entries },
        kind::APPENDED => Body::Appended { ballot, chosen, matched: last },
        kind::MISMATCH => Body::Mismatch { ballot, chosen, previous: last, hint: position },
        _ => return None,
    })
}
