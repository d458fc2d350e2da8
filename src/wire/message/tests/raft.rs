//! The kinds of Raft: drawn, recorded, and nonsense.

use proptest::prelude::*;

use super::samples::{
    BALLOT, OLDER, assert_refused, ballot, ballots, entries, entry, full_entry, watermarks,
};
use crate::consensus::message::{Body, RaftBody};
use crate::consensus::types::{Ballot, Index, MAX_WINDOW_ENTRIES, Position};
use crate::wire::message::MAX_INDEX;

pub fn bodies() -> impl Strategy<Value = RaftBody> {
    prop_oneof![
        (ballots(), positions()).prop_map(|(ballot, last)| RaftBody::RequestPreVote { ballot, last }),
        (ballots(), positions()).prop_map(|(ballot, last)| RaftBody::RequestVote { ballot, last }),
        ballots().prop_map(|ballot| RaftBody::Vote { ballot }),
        (watermarks(), 1..=1000u64).prop_flat_map(|(before, round)| appends(before, round)),
        (ballots(), watermarks(), 0..=1000u64).prop_map(|(ballot, chosen, ahead)| RaftBody::Appended {
            ballot,
            chosen,
            matched: chosen + ahead
        }),
        (ballots(), watermarks(), positions(), 0..=1000u64).prop_map(|(ballot, chosen, hint, above)| {
            RaftBody::Mismatch { ballot, chosen, previous: (hint.index + above).clamp(1, MAX_INDEX), hint }
        }),
    ]
}

fn positions() -> impl Strategy<Value = Position> {
    let some = (1..=MAX_INDEX, 1..=u64::MAX).prop_map(|(index, round)| Position { index, round });
    prop_oneof![Just(Position::default()), some]
}

fn appends(before: Index, round: u64) -> impl Strategy<Value = RaftBody> {
    (entries(before, 1..=1), 0..=9u64).prop_map(move |(mut entries, higher)| {
        let ballot = Ballot { round: round + higher, node: 1 };
        for entry in &mut entries {
            entry.ballot.round = round + higher / 2;
        }
        let previous = if before == 0 { Position::default() } else { Position { index: before, round } };
        RaftBody::Append { ballot, chosen: before, previous, entries }
    })
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(Body, &'static str)> {
    let ballot = BALLOT;
    let place = Position { index: 1000, round: 299 };
    vec![
        (
            RaftBody::RequestPreVote { ballot, last: place }.into(),
            "13000000bfa52db8080e1001180238ac0240029001e8079801ab02",
        ),
        (
            RaftBody::RequestVote { ballot, last: place }.into(),
            "1300000094a744b7080f1001180238ac0240029001e8079801ab02",
        ),
        (RaftBody::Vote { ballot }.into(), "0b000000acf8dab608101001180238ac024002"),
        (
            RaftBody::Append {
                ballot,
                chosen: 900,
                previous: place,
                entries: vec![full_entry(1001, OLDER), full_entry(1002, ballot)],
            }
            .into(),
            "680000003481deaf08111001180238ac0240025884079001e8079801ab02222708e90710ab02180121776655\
             443322110029ffeeddccbbaa99883007380340014a0576616c7565222708ea0710ac02180221776655443322\
             110029ffeeddccbbaa99883007380340014a0576616c7565",
        ),
        (
            RaftBody::Appended { ballot, chosen: 900, matched: 1002 }.into(),
            "11000000f271501d08121001180238ac02400258840770ea07",
        ),
        (
            RaftBody::Mismatch { ballot, chosen: 900, previous: 1005, hint: place }.into(),
            "19000000ce62033408131001180238ac02400258840770ed079001e8079801ab02",
        ),
    ]
}

#[test]
fn nonsense_is_refused() {
    let (one, start) = (ballot(1), Position::default());
    let at = |index, round| Position { index, round };
    assert_refused(RaftBody::RequestPreVote { ballot: Ballot::ZERO, last: start }, "0.0");
    assert_refused(RaftBody::RequestVote { ballot: one, last: at(1, 0) }, "the end of its log");
    assert_refused(RaftBody::RequestVote { ballot: one, last: at(0, 1) }, "the end of its log");
    assert_refused(RaftBody::Vote { ballot: Ballot::ZERO }, "0.0");
    let append = |previous, entries| RaftBody::Append { ballot: one, chosen: 0, previous, entries };
    assert_refused(append(at(MAX_INDEX + 1, 1), vec![]), "what comes before");
    assert_refused(append(start, vec![entry(2)]), "follows");
    assert_refused(append(at(1, 1), vec![entry(2), entry(4)]), "follows");
    assert_refused(append(at(1, 2), vec![entry(2)]), "follows");
    assert_refused(append(at(1, 2), vec![]), "in the log of a leader of ballot 1.1");
    assert_refused(
        append(at(MAX_WINDOW_ENTRIES, 1), vec![entry(1 + MAX_WINDOW_ENTRIES)]),
        "above its watermark 0",
    );
    let appended = |matched| RaftBody::Appended { ballot: one, chosen: 0, matched };
    assert_refused(appended(1 + MAX_WINDOW_ENTRIES), "above its watermark 0");
    let mismatch = |previous, hint| RaftBody::Mismatch { ballot: one, chosen: 0, previous, hint };
    assert_refused(mismatch(0, start), "previous is 0");
    assert_refused(mismatch(2, at(3, 1)), "is above 2");
}
