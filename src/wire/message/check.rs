//! What an honest node never sends, whatever its state: the checks that several kinds share. A core may rely
//! on all of them.

use crate::consensus::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, RequestId};

use super::error::MessageError;

/// No log ever gets this long, so a core may add to any index of a message without overflow.
pub const MAX_INDEX: Index = 1 << 62;

/// Checks an entry as it is read, before the list of entries costs memory.
pub(super) fn check_entry(entry: &Entry) -> Result<(), MessageError> {
    check_index("an entry's index", entry.index)?;
    check_ballot("an entry's ballot", entry.ballot)
}

/// Checks a forwarded command as it is read.
pub(super) fn check_command(command: &Command) -> Result<(), MessageError> {
    if command.request == RequestId::NONE || command.from == 0 {
        return nonsense(format!("forwards {command} from node {}: not a request of any node", command.from));
    }
    Ok(())
}

pub(super) fn check_ballot(what: &str, ballot: Ballot) -> Result<(), MessageError> {
    match ballot.round {
        0 => nonsense(format!("{what} is {ballot}, but rounds begin at 1")),
        _ => Ok(()),
    }
}

pub(super) fn check_index(what: &str, index: Index) -> Result<(), MessageError> {
    match index {
        1..=MAX_INDEX => Ok(()),
        _ => nonsense(format!("{what} is {index}, but indexes are 1 to {MAX_INDEX}")),
    }
}

/// A watermark may also be 0.
pub(super) fn check_watermark(chosen: Index) -> Result<(), MessageError> {
    check_index("a watermark", chosen.max(1))
}

pub(super) fn check_window(chosen: Index, last: Option<Index>) -> Result<(), MessageError> {
    match last {
        Some(last) if last > chosen.saturating_add(MAX_WINDOW_ENTRIES) => nonsense(format!(
            "names index {last}, more than {MAX_WINDOW_ENTRIES} above its watermark {chosen}"
        )),
        _ => Ok(()),
    }
}

pub(super) fn check_inside(entries: &[Entry], first: Index, last: Index) -> Result<(), MessageError> {
    match entries.iter().find(|entry| entry.index < first || entry.index > last) {
        Some(entry) => nonsense(format!("index {} is outside {first}..{last}", entry.index)),
        None => Ok(()),
    }
}

pub(super) fn nonsense(what: String) -> Result<(), MessageError> {
    Err(MessageError::Nonsense(what))
}
