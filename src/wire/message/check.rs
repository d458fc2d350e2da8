//! What an honest node never says, whatever its state. A core may rely on all of it.

use crate::consensus::message::{Body, Message, Range};
use crate::consensus::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, Position, RequestId};

use super::error::MessageError;

/// No log ever gets there, so that a core may add to any index of a message without overflow.
pub const MAX_INDEX: Index = 1 << 62;

/// What is checked of each entry as it is read, before the list of them costs memory.
pub(super) fn check_entry(entry: &Entry) -> Result<(), MessageError> {
    check_index("an entry's index", entry.index)?;
    check_ballot("an entry's ballot", entry.ballot)
}

/// What is checked of each forwarded command as it is read.
pub(super) fn check_command(command: &Command) -> Result<(), MessageError> {
    if command.request == RequestId::NONE || command.from == 0 {
        return nonsense(format!("forwards {command} from node {}: no request of any node", command.from));
    }
    Ok(())
}

/// What is checked of a whole message.
pub(super) fn check_message(message: &Message) -> Result<(), MessageError> {
    match &message.body {
        Body::PreVote { ballot }
        | Body::PreVoteReply { ballot, .. }
        | Body::Refuse { ballot, .. }
        | Body::Vote { ballot }
        | Body::Confirm { ballot, .. }
        | Body::Confirmed { ballot, .. }
        | Body::TimeoutNow { ballot } => check_ballot("its ballot", *ballot),
        Body::Prepare { ballot, first } => {
            check_ballot("its ballot", *ballot)?;
            check_index("first", *first)
        }
        Body::Promise { ballot, chosen, compacted, first, last, entries, .. } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_watermark(*compacted)?;
            check_ranges(&[Range { first: *first, last: *last }])?;
            check_ascending(entries)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))?;
            check_inside(entries, *first, *last)
        }
        Body::Accept { ballot, chosen, entries } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_ascending(entries)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))?;
            check_same_ballot(entries, *ballot)
        }
        Body::Accepted { ballot, chosen, ranges } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_ranges(ranges)?;
            check_window(*chosen, ranges.last().map(|range| range.last))
        }
        Body::Heartbeat { ballot, chosen, .. } | Body::HeartbeatReply { ballot, chosen, .. } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)
        }
        Body::CatchUp { first } => check_index("first", *first),
        Body::Learn { chosen, entries } => {
            check_watermark(*chosen)?;
            check_without_gaps(entries)?;
            check_inside(entries, 1, *chosen)
        }
        Body::Forward { .. } | Body::Read { .. } => Ok(()),
        Body::ReadReply { index, .. } => check_watermark(*index),
        Body::RequestPreVote { ballot, last } | Body::RequestVote { ballot, last } => {
            check_ballot("its ballot", *ballot)?;
            check_position("the end of its log", *last)
        }
        Body::Append { ballot, chosen, previous, entries } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_position("what comes before", *previous)?;
            check_follow(*previous, entries, *ballot)?;
            check_window(*chosen, entries.last().map(|entry| entry.index))
        }
        Body::Appended { ballot, chosen, matched } => {
            check_ballot("its ballot", *ballot)?;
            check_watermark(*chosen)?;
            check_watermark(*matched)?;
            check_window(*chosen, Some(*matched))
        }
        Body::Mismatch { ballot, chosen, previous, hint } => {
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

fn check_ballot(what: &str, ballot: Ballot) -> Result<(), MessageError> {
    match ballot.round {
        0 => nonsense(format!("{what} is {ballot}, rounds begin at 1")),
        _ => Ok(()),
    }
}

fn check_index(what: &str, index: Index) -> Result<(), MessageError> {
    match index {
        1..=MAX_INDEX => Ok(()),
        _ => nonsense(format!("{what} is {index}, indexes are 1 to {MAX_INDEX}")),
    }
}

/// Before the first index there is no round.
fn check_position(what: &str, position: Position) -> Result<(), MessageError> {
    match position {
        Position { index: 0, round: 0 } | Position { index: 1..=MAX_INDEX, round: 1.. } => Ok(()),
        _ => nonsense(format!("{what} is {position}, indexes and rounds begin at 1")),
    }
}

/// Entries that follow `previous` without gaps in a leader's log, whose rounds never fall.
fn check_follow(previous: Position, entries: &[Entry], ballot: Ballot) -> Result<(), MessageError> {
    let mut before = previous;
    for entry in entries {
        let next = Position { index: entry.index, round: entry.ballot.round };
        if next.index != before.index + 1 || next.round < before.round {
            return nonsense(format!("{next} follows {before} at once"));
        }
        before = next;
    }
    if before.round > ballot.round {
        return nonsense(format!("{before} in the log of a leader of ballot {ballot}"));
    }
    Ok(())
}

/// A watermark may also be 0.
fn check_watermark(chosen: Index) -> Result<(), MessageError> {
    check_index("a watermark", chosen.max(1))
}

fn check_window(chosen: Index, last: Option<Index>) -> Result<(), MessageError> {
    match last {
        Some(last) if last > chosen.saturating_add(MAX_WINDOW_ENTRIES) => nonsense(format!(
            "names index {last}, more than {MAX_WINDOW_ENTRIES} above its watermark {chosen}"
        )),
        _ => Ok(()),
    }
}

fn check_ascending(entries: &[Entry]) -> Result<(), MessageError> {
    match entries.windows(2).find(|pair| pair[0].index >= pair[1].index) {
        Some(pair) => nonsense(format!("index {} follows {}", pair[1].index, pair[0].index)),
        None => Ok(()),
    }
}

fn check_without_gaps(entries: &[Entry]) -> Result<(), MessageError> {
    match entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1) {
        Some(pair) => nonsense(format!("index {} follows {} at once", pair[1].index, pair[0].index)),
        None => Ok(()),
    }
}

fn check_inside(entries: &[Entry], first: Index, last: Index) -> Result<(), MessageError> {
    match entries.iter().find(|entry| entry.index < first || entry.index > last) {
        Some(entry) => nonsense(format!("index {} is outside of {first}..{last}", entry.index)),
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

fn nonsense(what: String) -> Result<(), MessageError> {
    Err(MessageError::Nonsense(what))
}
