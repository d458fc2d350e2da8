//! The kinds that all protocols share: drawn, recorded, and nonsense.

use proptest::prelude::*;

use super::samples::{
    BALLOT, OLDER, PROMISED, assert_refused, ballot, ballots, commands, entries, entry, full_command,
    full_entry, indexes, watermarks,
};
use crate::consensus::message::{Body, ClusterBody};
use crate::consensus::types::{Command, MAX_PAYLOAD_BYTES};

pub fn bodies() -> impl Strategy<Value = ClusterBody> {
    prop_oneof![
        (ballots(), any::<bool>(), ballots())
            .prop_map(|(ballot, granted, promised)| ClusterBody::PreVoteReply { ballot, granted, promised }),
        (ballots(), watermarks(), any::<u64>())
            .prop_map(|(ballot, chosen, sent_ms)| ClusterBody::Heartbeat { ballot, chosen, sent_ms }),
        (ballots(), watermarks(), any::<u64>())
            .prop_map(|(ballot, chosen, sent_ms)| ClusterBody::HeartbeatReply { ballot, chosen, sent_ms }),
        (ballots(), ballots()).prop_map(|(ballot, promised)| ClusterBody::Refuse { ballot, promised }),
        indexes().prop_map(|first| ClusterBody::CatchUp { first }),
        watermarks().prop_flat_map(|before| entries(before, 1..=1)
            .prop_map(move |entries| ClusterBody::Learn { chosen: before + 50, entries })),
        prop::collection::vec(commands(), 0..20).prop_map(|commands| ClusterBody::Forward { commands }),
        ballots().prop_map(|ballot| ClusterBody::TimeoutNow { ballot }),
        (ballots(), any::<u64>()).prop_map(|(ballot, number)| ClusterBody::Confirm { ballot, number }),
        (ballots(), any::<u64>()).prop_map(|(ballot, number)| ClusterBody::Confirmed { ballot, number }),
        any::<u64>().prop_map(|id| ClusterBody::Read { id }),
        (any::<u64>(), watermarks()).prop_map(|(id, index)| ClusterBody::ReadReply { id, index }),
    ]
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(Body, &'static str)> {
    let ballot = BALLOT;
    let promised = PROMISED;
    vec![
        (
            ClusterBody::PreVoteReply { ballot, granted: true, promised }.into(),
            "13000000914ede1d08021001180238ac02400248ad025003880101",
        ),
        (
            ClusterBody::Heartbeat { ballot, chosen: 1000, sent_ms: 123_456 }.into(),
            "120000000ec97a5408071001180238ac02400258e80778c0c407",
        ),
        (
            ClusterBody::HeartbeatReply { ballot, chosen: 999, sent_ms: 123_456 }.into(),
            "12000000ca4199dc08081001180238ac02400258e70778c0c407",
        ),
        (ClusterBody::Refuse { ballot, promised }.into(), "100000007116f33708091001180238ac02400248ad025003"),
        (ClusterBody::CatchUp { first: 900 }.into(), "090000001a066f2a080a10011802688407"),
        (
            ClusterBody::Learn {
                chosen: 1000,
                entries: vec![full_entry(900, OLDER), full_entry(901, ballot)],
            }
            .into(),
            "5b0000003f7d2897080b1001180258e807222708840710ab02180121776655443322110029ffeeddccbbaa99\
             883007380340014a0576616c7565222708850710ac02180221776655443322110029ffeeddccbbaa99883007\
             380340014a0576616c7565",
        ),
        (
            ClusterBody::Forward { commands: vec![full_command(), Command::value(5, 2, "")] }.into(),
            "2f000000c84522c3080c10011802321f21776655443322110029ffeeddccbbaa99883007380340014a057661\
             6c75653206300538024001",
        ),
        (ClusterBody::TimeoutNow { ballot }.into(), "0b0000009ccb8e95080d1001180238ac024002"),
        (ClusterBody::Confirm { ballot, number: 77 }.into(), "0e000000ca35ed8908141001180238ac024002a0014d"),
        (
            ClusterBody::Confirmed { ballot, number: 77 }.into(),
            "0e000000af0d3fb908151001180238ac024002a0014d",
        ),
        (ClusterBody::Read { id: 1 << 40 }.into(), "0e0000007b4385f5081610011802a001808080808020"),
        (
            ClusterBody::ReadReply { id: 1 << 40, index: 1000 }.into(),
            "11000000bfe9a25308171001180270e807a001808080808020",
        ),
    ]
}

#[test]
fn nonsense_is_refused() {
    assert_refused(ClusterBody::CatchUp { first: u64::MAX }, "18446744073709551615");
    let heartbeat = ClusterBody::Heartbeat { ballot: ballot(1), chosen: u64::MAX, sent_ms: 0 };
    assert_refused(heartbeat, "watermark");
    let learn = |chosen, entries| ClusterBody::Learn { chosen, entries };
    assert_refused(learn(9, vec![entry(1), entry(3)]), "index 3 directly follows 1");
    assert_refused(learn(2, vec![entry(1), entry(2), entry(3)]), "index 3 is outside 1..2");
    let anonymous = Command { from: 0, ..Command::value(1, 1, "v") };
    assert_refused(ClusterBody::Forward { commands: vec![anonymous] }, "not a request of any node");
    assert_refused(ClusterBody::Forward { commands: vec![Command::noop(1)] }, "not a request of any node");
    let long = Command::value(1, 1, vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert_refused(ClusterBody::Forward { commands: vec![long] }, "a payload of 1048577 bytes");
}
