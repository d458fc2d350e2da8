//! The kinds of Raft: how they become records and are read from them, and what no honest node sends in them.

use std::mem::take;

use crate::consensus::message::RaftBody;
use crate::consensus::types::{Ballot, Entry, Position};

use super::check::{MAX_INDEX, check_ballot, check_index, check_watermark, check_window, nonsense};
use super::error::MessageError;
use super::record::{BorrowedLists, Lists, OwnedLists, Values};

/// The numbers of these kinds. No number is ever used again, in any part.
mod kind {
    pub const REQUEST_PRE_VOTE: u64 = 14;
    pub const REQUEST_VOTE: u64 = 15;
    pub const VOTE: u64 = 16;
    pub const APPEND: u64 = 17;
    pub const APPENDED: u64 = 18;
    pub const MISMATCH: u64 = 19;
}

/// Returns `values` with the single fields of this kind set, and its lists.
pub(super) fn to_record(body: &RaftBody, values: Values) -> (Values, BorrowedLists<'_>) {
    let none = BorrowedLists::default();
    match body {
        RaftBody::RequestPreVote { ballot, last } => {
            (Values { kind: kind::REQUEST_PRE_VOTE, ballot: *ballot, position: *last, ..values }, none)
        }
        RaftBody::RequestVote { ballot, last } => {
            (Values { kind: kind::REQUEST_VOTE, ballot: *ballot, position: *last, ..values }, none)
        }
        RaftBody::Vote { ballot } => (Values { kind: kind::VOTE, ballot: *ballot, ..values }, none),
        RaftBody::Append { ballot, chosen, previous, entries } => {
            let (ballot, chosen, position) = (*ballot, *chosen, *previous);
            let values = Values { kind: kind::APPEND, ballot, chosen, position, ..values };
            (values, Lists { entries, ..none })
        }
        RaftBody::Appended { ballot, chosen, matched } => {
            let (ballot, chosen, last) = (*ballot, *chosen, *matched);
            (Values { kind: kind::APPENDED, ballot, chosen, last, ..values }, none)
        }
        RaftBody::Mismatch { ballot, chosen, previous, hint } => {
            let (ballot, chosen, last, position) = (*ballot, *chosen, *previous, *hint);
            (Values { kind: kind::MISMATCH, ballot, chosen, last, position, ..values }, none)
        }
    }
}

/// The body that the fields of a record form, if its kind is one of these. Fields that the kind does not use
/// are ignored.
pub(super) fn to_body(values: &Values, lists: &mut OwnedLists) -> Option<RaftBody> {
    let Values { ballot, chosen, last, position, .. } = *values;
    Some(match values.kind {
        kind::REQUEST_PRE_VOTE => RaftBody::RequestPreVote { ballot, last: position },
        kind::REQUEST_VOTE => RaftBody::RequestVote { ballot, last: position },
        kind::VOTE => RaftBody::Vote { ballot },
        kind::APPEND => {
            RaftBody::Append { ballot, chosen, previous: position, entries: take(&mut lists.entries) }
        }
        kind::APPENDED => RaftBody::Appended { ballot, chosen, matched: last },
        kind::MISMATCH => RaftBody::Mismatch { ballot, chosen, previous: last, hint: position },
        _ => return None,
    })
}

/// Checks a whole message.
pub(super) fn check(body: &RaftBody) -> Result<(), MessageError> {
    match body {
        RaftBody::RequestPreVote { ballot, last } | RaftBody::RequestVote { ballot, last } => {
            check_ballot("its ballot", *ballot)?;
            check_position("the end of its log", *last)
        }
        RaftBody::Vote { ballot } => check_ballot("its ballot", *ballot),
        RaftBody::Append { ballot, chosen, previous, entries } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_position("what comes before", *previous)?;
            check_follow(*previous, entries, *ballot)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))
        }
        RaftBody::Appended { ballot, chosen, matched } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_watermark(*matched)?;
            check_window(*chosen, Some(*matched))
        }
        RaftBody::Mismatch { ballot, chosen, previous, hint } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_index("previous", *previous)?;
            check_position("its hint", *hint)?;
            if hint.index > *previous {
                return nonsense(format!("its hint {hint} is above {previous}"));
            }
            Ok(())
        }
    }
}

/// Before the first index there is no round.
fn check_position(what: &str, position: Position) -> Result<(), MessageError> {
    match position {
        Position { index: 0, round: 0 } | Position { index: 1..=MAX_INDEX, round: 1.. } => Ok(()),
        _ => nonsense(format!("{what} is {position}, but indexes and rounds begin at 1")),
    }
}

/// Entries that follow `previous` without gaps in a leader's log, whose rounds never fall.
fn check_follow(previous: Position, entries: &[Entry], ballot: Ballot) -> Result<(), MessageError> {
    let mut before = previous;
    for entry in entries {
        let next = Position { index: entry.index, round: entry.ballot.round };
        if next.index != before.index + 1 || next.round < before.round {
            return nonsense(format!("{next} directly follows {before}"));
        }
        before = next;
    }
    if before.round > ballot.round {
        return nonsense(format!("{before} in the log of a leader of ballot {ballot}"));
    }
    Ok(())
}
