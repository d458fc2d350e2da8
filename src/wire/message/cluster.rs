//! The kinds that all protocols share: how they become records and are read from them, and what no honest
//! node sends in them.

use std::mem::take;

use crate::consensus::message::ClusterBody;
use crate::consensus::types::Entry;

use super::check::{check_ballot, check_index, check_inside, check_watermark, nonsense};
use super::error::MessageError;
use super::record::{BorrowedLists, Lists, OwnedLists, Values};

/// The numbers of these kinds. No number is ever used again, in any part.
mod kind {
    pub const PRE_VOTE_REPLY: u64 = 2;
    pub const HEARTBEAT: u64 = 7;
    pub const HEARTBEAT_REPLY: u64 = 8;
    pub const REFUSE: u64 = 9;
    pub const CATCH_UP: u64 = 10;
    pub const LEARN: u64 = 11;
    pub const FORWARD: u64 = 12;
    pub const TIMEOUT_NOW: u64 = 13;
    pub const CONFIRM: u64 = 20;
    pub const CONFIRMED: u64 = 21;
    pub const READ: u64 = 22;
    pub const READ_REPLY: u64 = 23;
}

/// Returns `values` with the single fields of this kind set, and its lists.
pub(super) fn to_record(body: &ClusterBody, values: Values) -> (Values, BorrowedLists<'_>) {
    let none = BorrowedLists::default();
    match body {
        ClusterBody::PreVoteReply { ballot, granted, promised } => {
            let (ballot, granted, promised) = (*ballot, *granted, *promised);
            (Values { kind: kind::PRE_VOTE_REPLY, ballot, granted, promised, ..values }, none)
        }
        ClusterBody::Heartbeat { ballot, chosen, sent_ms } => {
            let (ballot, chosen, sent_ms) = (*ballot, *chosen, *sent_ms);
            (Values { kind: kind::HEARTBEAT, ballot, chosen, sent_ms, ..values }, none)
        }
        ClusterBody::HeartbeatReply { ballot, chosen, sent_ms } => {
            let (ballot, chosen, sent_ms) = (*ballot, *chosen, *sent_ms);
            (Values { kind: kind::HEARTBEAT_REPLY, ballot, chosen, sent_ms, ..values }, none)
        }
        ClusterBody::Refuse { ballot, promised } => {
            (Values { kind: kind::REFUSE, ballot: *ballot, promised: *promised, ..values }, none)
        }
        ClusterBody::CatchUp { first } => (Values { kind: kind::CATCH_UP, first: *first, ..values }, none),
        ClusterBody::Learn { chosen, entries } => {
            (Values { kind: kind::LEARN, chosen: *chosen, ..values }, Lists { entries, ..none })
        }
        ClusterBody::Forward { commands } => {
            (Values { kind: kind::FORWARD, ..values }, Lists { commands, ..none })
        }
        ClusterBody::TimeoutNow { ballot } => {
            (Values { kind: kind::TIMEOUT_NOW, ballot: *ballot, ..values }, none)
        }
        ClusterBody::Confirm { ballot, number } => {
            (Values { kind: kind::CONFIRM, ballot: *ballot, number: *number, ..values }, none)
        }
        ClusterBody::Confirmed { ballot, number } => {
            (Values { kind: kind::CONFIRMED, ballot: *ballot, number: *number, ..values }, none)
        }
        ClusterBody::Read { id } => (Values { kind: kind::READ, number: *id, ..values }, none),
        ClusterBody::ReadReply { id, index } => {
            (Values { kind: kind::READ_REPLY, number: *id, last: *index, ..values }, none)
        }
    }
}

/// The body that the fields of a record form, if its kind is one of these. Fields that the kind does not use
/// are ignored.
pub(super) fn to_body(values: &Values, lists: &mut OwnedLists) -> Option<ClusterBody> {
    let Values { ballot, promised, chosen, first, last, sent_ms, granted, number, .. } = *values;
    Some(match values.kind {
        kind::PRE_VOTE_REPLY => ClusterBody::PreVoteReply { ballot, granted, promised },
        kind::HEARTBEAT => ClusterBody::Heartbeat { ballot, chosen, sent_ms },
        kind::HEARTBEAT_REPLY => ClusterBody::HeartbeatReply { ballot, chosen, sent_ms },
        kind::REFUSE => ClusterBody::Refuse { ballot, promised },
        kind::CATCH_UP => ClusterBody::CatchUp { first },
        kind::LEARN => ClusterBody::Learn { chosen, entries: take(&mut lists.entries) },
        kind::FORWARD => ClusterBody::Forward { commands: take(&mut lists.commands) },
        kind::TIMEOUT_NOW => ClusterBody::TimeoutNow { ballot },
        kind::CONFIRM => ClusterBody::Confirm { ballot, number },
        kind::CONFIRMED => ClusterBody::Confirmed { ballot, number },
        kind::READ => ClusterBody::Read { id: number },
        kind::READ_REPLY => ClusterBody::ReadReply { id: number, index: last },
        _ => return None,
    })
}

/// Checks a whole message.
pub(super) fn check(body: &ClusterBody) -> Result<(), MessageError> {
    match body {
        ClusterBody::PreVoteReply { ballot, .. }
        | ClusterBody::Refuse { ballot, .. }
        | ClusterBody::Confirm { ballot, .. }
        | ClusterBody::Confirmed { ballot, .. }
        | ClusterBody::TimeoutNow { ballot } => check_ballot("its ballot", *ballot),
        ClusterBody::Heartbeat { ballot, chosen, .. }
        | ClusterBody::HeartbeatReply { ballot, chosen, .. } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)
        }
        ClusterBody::CatchUp { first } => check_index("first", *first),
        ClusterBody::Learn { chosen, entries } => {
            check_watermark(*chosen)?;
            check_without_gaps(entries)?;
            check_inside(entries, 1, *chosen)
        }
        ClusterBody::Forward { .. } | ClusterBody::Read { .. } => Ok(()),
        ClusterBody::ReadReply { index, .. } => check_watermark(*index),
    }
}

fn check_without_gaps(entries: &[Entry]) -> Result<(), MessageError> {
    match entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1) {
        Some(pair) => nonsense(format!("index {} directly follows {}", pair[1].index, pair[0].index)),
        None => Ok(()),
    }
}
