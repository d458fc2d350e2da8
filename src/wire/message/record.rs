//! The one flat record that all kinds of messages share, as protobuf has it and in memory.
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
//!   uint64 number          = 20;          message Point {
//!   repeated Point points   = 21;           uint64  index     = 1;
//! }                                         fixed64 hash_high = 2;
//!                                           fixed64 hash_low  = 3;
//!                                         }
//! ```

use crate::consensus::message::Range;
use crate::consensus::types::{Ballot, Command, Entry, Index, NodeId, Position};

use super::point::Point;

/// The numbers of the fields in a record.
pub(super) mod field {
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
    pub const POINTS: u32 = 21;
}

/// The numbers of the fields in a point.
pub(super) mod point_field {
    pub const INDEX: u32 = 1;
    pub const HASH_HIGH: u32 = 2;
    pub const HASH_LOW: u32 = 3;
}

/// The numbers of the fields in an entry or a forwarded command.
pub(super) mod entry_field {
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

/// The fields of a record that are single values. A field that a kind does not use is zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values {
    pub kind: u64,
    pub from: NodeId,
    pub to: NodeId,
    pub ballot: Ballot,
    pub promised: Ballot,
    pub chosen: Index,
    pub compacted: Index,
    pub first: Index,
    pub last: Index,
    pub sent_ms: u64,
    pub more: bool,
    pub granted: bool,
    pub position: Position,
    pub number: u64,
}

/// The fields of a record that are lists.
#[derive(Debug, Default)]
pub(super) struct Lists<Entries, Ranges, Commands, Points> {
    pub entries: Entries,
    pub ranges: Ranges,
    pub commands: Commands,
    pub points: Points,
}

pub(super) type OwnedLists = Lists<Vec<Entry>, Vec<Range>, Vec<Command>, Vec<Point>>;
pub(super) type BorrowedLists<'a> = Lists<&'a [Entry], &'a [Range], &'a [Command], &'a [Point]>;
