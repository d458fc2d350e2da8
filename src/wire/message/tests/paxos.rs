//! The kinds of Paxos: drawn, recorded, and nonsense.

use proptest::prelude::*;

use super::samples::{
    BALLOT, OLDER, assert_refused, ballot, ballots, entries, entry, full_entry, indexes, watermarks,
};
use crate::consensus::message::{Body, PaxosBody, Range};
use crate::consensus::types::{Ballot, Entry, Index, MAX_WINDOW_ENTRIES};

pub fn bodies() -> impl Strategy<Value = PaxosBody> {
    prop_oneof![
        ballots().prop_map(|ballot| PaxosBody::PreVote { ballot }),
        (ballots(), indexes()).prop_map(|(ballot, first)| PaxosBody::Prepare { ballot, first }),
        watermarks().prop_flat_map(promises),
        watermarks().prop_flat_map(|chosen| (ballots(), entries(chosen, 1..=1000)).prop_map(
            move |(ballot, mut entries)| {
                entries.iter_mut().for_each(|entry| entry.ballot = ballot);
                PaxosBody::Accept { ballot, chosen, entries }
            }
        )),
        (ballots(), watermarks(), prop::collection::vec((1..=500u64, 0..=500u64), 0..60)).prop_map(
            |(ballot, chosen, steps)| {
                let mut at = chosen;
                let range = |(gap, len)| {
                    let first = at + gap;
                    at = first + len;
                    Range { first, last: at }
                };
                PaxosBody::Accepted { ballot, chosen, ranges: steps.into_iter().map(range).collect() }
            }
        ),
    ]
}

fn promises(chosen: Index) -> impl Strategy<Value = PaxosBody> {
    (ballots(), entries(chosen, 1..=1000), any::<bool>()).prop_map(move |(ballot, entries, more)| {
        let last = entries.last().map_or(chosen + 1, |entry| entry.index);
        PaxosBody::Promise { ballot, chosen, compacted: chosen / 2, first: chosen + 1, last, more, entries }
    })
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(Body, &'static str)> {
    let ballot = BALLOT;
    vec![
        (PaxosBody::PreVote { ballot }.into(), "0b000000155539f008011001180238ac024002"),
        (PaxosBody::Prepare { ballot, first: 1001 }.into(), "0e0000002e6105a008031001180238ac02400268e907"),
        (
            PaxosBody::Promise {
                ballot,
                chosen: 1000,
                compacted: 500,
                first: 1001,
                last: 1010,
                more: true,
                entries: vec![full_entry(1001, OLDER), full_entry(1010, OLDER)],
            }
            .into(),
            "6c00000085f83ea508041001180238ac02400258e80760f40368e90770f207800101222708e90710ab021801\
             21776655443322110029ffeeddccbbaa99883007380340014a0576616c7565222708f20710ab021801217766\
             55443322110029ffeeddccbbaa99883007380340014a0576616c7565",
        ),
        (
            PaxosBody::Accept {
                ballot,
                chosen: 1000,
                entries: vec![full_entry(1001, ballot), full_entry(1003, ballot)],
            }
            .into(),
            "6000000034afae7c08051001180238ac02400258e807222708e90710ac02180221776655443322110029ffee\
             ddccbbaa99883007380340014a0576616c7565222708eb0710ac02180221776655443322110029ffeeddccbb\
             aa99883007380340014a0576616c7565",
        ),
        (
            PaxosBody::Accepted {
                ballot,
                chosen: 1000,
                ranges: vec![Range { first: 1001, last: 1001 }, Range { first: 1003, last: 1300 }],
            }
            .into(),
            "18000000ef40842e08061001180238ac02400258e8072a08e907e907eb07940a",
        ),
    ]
}

#[test]
fn nonsense_is_refused() {
    let one = ballot(1);
    assert_refused(PaxosBody::PreVote { ballot: Ballot::ZERO }, "0.0");
    assert_refused(PaxosBody::Prepare { ballot: one, first: 0 }, "first is 0");
    let accept = |chosen, entries| PaxosBody::Accept { ballot: one, chosen, entries };
    assert_refused(accept(0, vec![entry(0)]), "index is 0");
    assert_refused(accept(0, vec![entry(2), entry(2)]), "index 2 follows 2");
    assert_refused(accept(0, vec![entry(3), entry(2)]), "index 2 follows 3");
    assert_refused(accept(10, vec![entry(11 + MAX_WINDOW_ENTRIES)]), "above its watermark 10");
    assert_refused(accept(0, vec![Entry { ballot: ballot(2), ..entry(1) }]), "ballot 2.1 under ballot 1.1");
    let accepted = |ranges: &[(u64, u64)]| {
        let ranges = ranges.iter().map(|(first, last)| Range { first: *first, last: *last }).collect();
        PaxosBody::Accepted { ballot: one, chosen: 0, ranges }
    };
    assert_refused(accepted(&[(2, 1)]), "the range 2..1");
    assert_refused(accepted(&[(0, 1)]), "the start of a range is 0");
    assert_refused(accepted(&[(1, 5), (5, 6)]), "the range 5..6 after index 5");
    assert_refused(accepted(&[(1, 1 + MAX_WINDOW_ENTRIES)]), "above its watermark 0");
    let promise = |first, last, entries| PaxosBody::Promise {
        ballot: one,
        chosen: 0,
        compacted: 0,
        first,
        last,
        more: false,
        entries,
    };
    assert_refused(promise(3, 2, vec![]), "the range 3..2");
    assert_refused(promise(3, u64::MAX, vec![]), "the end of a range");
    assert_refused(promise(3, 4, vec![entry(5)]), "index 5 is outside 3..4");
}
