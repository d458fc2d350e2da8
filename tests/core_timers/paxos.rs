//! What only a Paxos core does: it repeats Accepts, and learners ask for what they lack.

use spaxos::consensus::message::{Body, ClusterBody, Message};
use spaxos::consensus::protocol::Protocol;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::Command;

use crate::common::one_core::{FIRST, Node, accept, accepted, ballot, entry};

const PAXOS: ProtocolName = ProtocolName::Paxos;

/// What makes no progress is sent again to those who have not accepted it, after two heartbeat intervals,
/// then with a back-off up to T.
#[test]
fn a_leader_repeats_what_makes_no_progress() {
    let mut node = Node { followed: true, ..Node::leader(PAXOS) };
    let _ = node.told(2, accepted(FIRST, 1, 1));
    let back_off = [(20, 3), (60, 3), (140, 3), (240, 3), (340, 3)];
    assert_eq!(node.clone().when(400, "Accept"), back_off);
    // Progress restarts the back-off; new entries do not put it off.
    let _ = node.when(100, "");
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let _ = node.told(2, accepted(FIRST, 2, 3));
    let _ = node.told(1, accepted(FIRST, 1, 2));
    let _ = node.when(15, "");
    let _ = node.proposes(vec![Command::value(3, 1, "c")]);
    assert_eq!(node.clone().when(50, "Accept"), [(5, 2), (5, 3), (45, 2), (45, 3)]);
    // Nothing is open, so nothing is sent; what comes then has its own two intervals.
    let _ = node.told(1, accepted(FIRST, 3, 4));
    let _ = node.told(3, accepted(FIRST, 4, 4));
    assert_eq!(node.core.status().in_flight, 0);
    assert_eq!(node.when(115, "Accept"), []);
    let _ = node.proposes(vec![Command::value(4, 1, "d")]);
    assert_eq!(node.when(30, "Accept"), [(20, 2), (20, 3)]);
}

/// A question for chosen entries goes to the next peer after two heartbeat intervals, then with a back-off up
/// to T, until all that is known to be chosen has come.
#[test]
fn a_learner_asks_one_peer_after_the_other() {
    let mut node = Node::follower(PAXOS);
    let leader = ballot(1, 2);
    let told = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 2, sent_ms: 0 });
    assert!(
        told.early.contains(&Message { from: 1, to: 2, body: ClusterBody::CatchUp { first: 1 }.into() }),
        "{told}"
    );
    let again = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 2, sent_ms: 0 });
    assert!(
        again.early.iter().all(|message| !matches!(message.body, Body::Cluster(ClusterBody::CatchUp { .. }))),
        "{again}"
    );
    assert_eq!(node.when(300, "CatchUp"), [(20, 3), (60, 2), (140, 3), (240, 2)]);
    let _ = node.told(3, ClusterBody::Learn { chosen: 1, entries: vec![entry(1, leader)] });
    assert_eq!(node.when(30, "CatchUp"), [(20, 3)], "3 had no more, 2 was asked");
    let _ = node.told(3, ClusterBody::Learn { chosen: 2, entries: vec![entry(2, leader)] });
    assert_eq!(node.core.status().chosen, 2);
    assert_eq!(node.when(300, "CatchUp"), []);
}

/// What comes from elsewhere needs no further question.
#[test]
fn a_learner_asks_for_what_it_lacks_only() {
    let leader = ballot(1, 2);
    let mut node = Node::follower(PAXOS);
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 1, sent_ms: 0 });
    let _ = node.told(2, accept(leader, 0, vec![entry(1, leader)]));
    assert_eq!(node.core.status().chosen, 1);
    assert_eq!(node.when(300, "CatchUp"), []);
}
