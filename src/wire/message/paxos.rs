//! The kinds of Paxos: how they become records and are read from them, and what no honest node sends in them.

use std::mem::take;

use crate::consensus::message::{PaxosBody, Range};
use crate::consensus::types::{Ballot, Entry};

use super::check::{check_ballot, check_index, check_inside, check_watermark, check_window, nonsense};
use super::error::MessageError;
use super::record::{BorrowedLists, Lists, OwnedLists, Values};

/// The numbers of these kinds. No number is ever used again, in any part.
mod kind {
    pub const PRE_VOTE: u64 = 1;
    pub const PREPARE: u64 = 3;
    pub const PROMISE: u64 = 4;
    pub const ACCEPT: u64 = 5;
    pub const ACCEPTED: u64 = 6;
}

/// Returns `values` with the single fields of this kind set, and its lists.
pub(super) fn to_record(body: &PaxosBody, values: Values) -> (Values, BorrowedLists<'_>) {
    let none = BorrowedLists::default();
    match body {
        PaxosBody::PreVote { ballot } => (Values { kind: kind::PRE_VOTE, ballot: *ballot, ..values }, none),
        PaxosBody::Prepare { ballot, first } => {
            (Values { kind: kind::PREPARE, ballot: *ballot, first: *first, ..values }, none)
        }
        PaxosBody::Promise { ballot, chosen, compacted, first, last, more, entries } => {
            let (ballot, chosen, compacted) = (*ballot, *chosen, *compacted);
            let (first, last, more) = (*first, *last, *more);
            let values =
                Values { kind: kind::PROMISE, ballot, chosen, compacted, first, last, more, ..values };
            (values, Lists { entries, ..none })
        }
        PaxosBody::Accept { ballot, chosen, entries } => {
            let values = Values { kind: kind::ACCEPT, ballot: *ballot, chosen: *chosen, ..values };
            (values, Lists { entries, ..none })
        }
        PaxosBody::Accepted { ballot, chosen, ranges } => {
            let values = Values { kind: kind::ACCEPTED, ballot: *ballot, chosen: *chosen, ..values };
            (values, Lists { ranges, ..none })
        }
    }
}

/// The body that the fields of a record form, if its kind is one of these. Fields that the kind does not use
/// are ignored.
pub(super) fn to_body(values: &Values, lists: &mut OwnedLists) -> Option<PaxosBody> {
    let Values { ballot, chosen, compacted, first, last, more, .. } = *values;
    Some(match values.kind {
        kind::PRE_VOTE => PaxosBody::PreVote { ballot },
        kind::PREPARE => PaxosBody::Prepare { ballot, first },
        kind::PROMISE => PaxosBody::Promise {
            ballot,
            chosen,
            compacted,
            first,
            last,
            more,
            entries: take(&mut lists.entries),
        },
        kind::ACCEPT => PaxosBody::Accept { ballot, chosen, entries: take(&mut lists.entries) },
        kind::ACCEPTED => PaxosBody::Accepted { ballot, chosen, ranges: take(&mut lists.ranges) },
        _ => return None,
    })
}

/// Checks a whole message.
pub(super) fn check(body: &PaxosBody) -> Result<(), MessageError> {
    match body {
        PaxosBody::PreVote { ballot } => check_ballot("its ballot", *ballot),
        PaxosBody::Prepare { ballot, first } => {
            check_ballot("its ballot", *ballot)?;
            check_index("first", *first)
        }
        PaxosBody::Promise { ballot, chosen, compacted, first, last, entries, .. } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_watermark(*compacted)?;
            check_ranges(&[Range { first: *first, last: *last }])?;
            check_ascending(entries)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))?;
            check_inside(entries, *first, *last)
        }
        PaxosBody::Accept { ballot, chosen, entries } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_ascending(entries)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))?;
            check_same_ballot(entries, *ballot)
        }
        PaxosBody::Accepted { ballot, chosen, ranges } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_ranges(ranges)?;
            check_window(*chosen, ranges.last().map(|range| range.last))
        }
    }
}

fn check_ascending(entries: &[Entry]) -> Result<(), MessageError> {
    match entries.windows(2).find(|pair| pair[0].index >= pair[1].index) {
        Some(pair) => nonsense(format!("index {} follows {}", pair[1].index, pair[0].index)),
        None => Ok(()),
    }
}

fn check_same_ballot(entries: &[Entry], ballot: Ballot) -> Result<(), MessageError> {
    match entries.iter().find(|entry| entry.ballot != ballot) {
        Some(entry) => nonsense(format!("an entry of ballot {} under ballot {ballot}", entry.ballot)),
        None => Ok(()),
    }
}

fn check_ranges(ranges: &[Range]) -> Result<(), MessageError> {
    let mut above = 0;
    for range in ranges {
        check_index("the start of a range", range.first)?;
        check_index("the end of a range", range.last)?;
        if range.first <= above || range.last < range.first {
            return nonsense(format!("the range {}..{} after index {above}", range.first, range.last));
        }
        above = range.last;
    }
    Ok(())
}
