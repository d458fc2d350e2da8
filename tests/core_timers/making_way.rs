//! When a node in trouble makes way: what it says, when it gives up, and how long it leaves elections to
//! others.

use spaxos::consensus::batch::{Batch, Event};
use spaxos::consensus::message::{ClusterBody, Message};
use spaxos::consensus::protocol::{Input, Protocol, Role};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Command, NodeId};

use super::common::one_core::{FIRST, LONG_MS, Node, T, ballot, has, send};

each_protocol!(
    a_leader_in_trouble_hands_over_and_steps_down_after_t,
    a_leader_in_trouble_waits_for_one_that_is_up_to_date,
    nobody_moves_if_all_are_in_trouble,
    a_leader_whose_trouble_passes_places_what_waited,
    a_successor_in_trouble_is_not_appointed,
    three_elections_are_left_to_others,
    a_node_in_trouble_does_not_take_over,
);

/// A leader whose log all have, and know to be chosen.
fn leader(protocol: ProtocolName) -> Node {
    let mut node = Node { followed: true, ..Node::leader(protocol) }.matched(1);
    for from in [2, 3] {
        let _ = knows(&mut node, from, 1);
    }
    node
}

fn knows(node: &mut Node, from: NodeId, chosen: u64) -> Batch {
    let sent_ms = node.now_ms;
    node.told(from, ClusterBody::HeartbeatReply { ballot: FIRST, chosen, sent_ms })
}

fn makes_way(node: &mut Node, to: &[NodeId]) -> Batch {
    node.input(Input::MakeWay { to: to.to_vec() })
}

fn take_over(to: NodeId) -> Message {
    Message { from: 1, to, body: ClusterBody::TimeoutNow { ballot: FIRST }.into() }
}

/// A successor that has everything is told immediately, and each heartbeat interval; nothing is placed. After
/// T the leader steps down, and says so to it once more.
fn a_leader_in_trouble_hands_over_and_steps_down_after_t(protocol: ProtocolName) {
    let mut node = leader(protocol);
    let batch = makes_way(&mut node, &[2, 3]);
    assert!(batch.early.contains(&take_over(2)), "{batch}");
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    assert_eq!(node.core.status().last, 1, "nothing is placed");
    let mut times: Vec<_> = (1..T / 10).map(|times| (10 * times, 2)).collect();
    assert_eq!(node.clone().when(T - 1, "TimeoutNow"), times);
    let _ = node.when(T - 1, "");
    assert_eq!(node.core.status().role, Role::Leader);
    let batch = node.ticks(1);
    assert!(batch.early.contains(&take_over(2)), "{batch}");
    assert!(matches!(batch.events[..], [Event::SteppedDown { .. }]), "{batch}");
    assert_eq!(node.core.status().role, Role::Follower);
    assert_eq!((node.core.status().leader, node.core.status().pending), (None, 1));
    times.clear();
    assert_eq!(node.when(T, "TimeoutNow"), times);
}

/// A node that lacks something is told once it has it, and otherwise with the last word.
fn a_leader_in_trouble_waits_for_one_that_is_up_to_date(protocol: ProtocolName) {
    let mut node = leader(protocol);
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    let batch = makes_way(&mut node, &[2, 3]);
    assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");

    let mut caught_up = node.clone();
    let _ = caught_up.told(3, has(protocol, FIRST, 2));
    let _ = caught_up.told(2, has(protocol, FIRST, 2));
    let _ = knows(&mut caught_up, 3, 2);
    let told = caught_up.when(10, "TimeoutNow");
    // In Paxos it must know as well that all is chosen.
    assert_eq!(told, [(10, 3)]);

    node.followed = true;
    assert_eq!(node.when(T - 1, "TimeoutNow"), []);
    let batch = node.ticks(1);
    assert!(batch.to_string().contains("TimeoutNow"), "the last word: {batch}");
    assert_eq!(node.core.status().role, Role::Follower);
}

/// Nobody is better off: it leads as always.
fn nobody_moves_if_all_are_in_trouble(protocol: ProtocolName) {
    let mut node = leader(protocol);
    let batch = makes_way(&mut node, &[]);
    assert!(batch.is_empty(), "{batch}");
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    assert_eq!(node.core.status().last, 2, "it places");
    assert_eq!(node.when(3 * T, "TimeoutNow"), []);
    assert_eq!(node.core.status().role, Role::Leader);
}

/// What waited is placed as soon as the trouble is over and no transfer is under way.
fn a_leader_whose_trouble_passes_places_what_waited(protocol: ProtocolName) {
    let mut node = leader(protocol);
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    let _ = makes_way(&mut node, &[3]);
    let _ = node.proposes(vec![Command::value(2, 1, "w")]);
    assert_eq!(node.core.status().last, 2);
    let _ = makes_way(&mut node, &[]);
    assert_eq!(node.core.status().last, 3);
    let _ = node.when(3 * T, "");
    assert_eq!(node.core.status().role, Role::Leader);
}

/// The node that is not named is in trouble as well.
fn a_successor_in_trouble_is_not_appointed(protocol: ProtocolName) {
    let mut node = leader(protocol);
    let batch = makes_way(&mut node, &[3]);
    assert!(batch.early.contains(&take_over(3)) && !batch.early.contains(&take_over(2)), "{batch}");
    // Nobody can be its own successor, or is a stranger: that is counted as nonsense, and changes nothing.
    let mut node = leader(protocol);
    let batch = makes_way(&mut node, &[1, 9]);
    assert!(batch.is_empty() && node.core.status().ignored == 2, "{batch}");
}

/// A node in trouble asks for votes only after three waits without a leader; a leader that is heard makes it
/// begin again.
fn three_elections_are_left_to_others(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let _ = makes_way(&mut node, &[2]);
    let patience_ms = node.patience_ms();
    assert!((4 * T..8 * T).contains(&patience_ms), "{patience_ms}");
    let _ = node.when(patience_ms - 1, "");
    assert_eq!(node.core.status().role, Role::Follower);
    let _ = node.told(2, send(protocol, ballot(1, 2), 0, &[]));
    let patience_ms = node.patience_ms();
    assert!((4 * T..8 * T).contains(&patience_ms), "{patience_ms}");
    let _ = makes_way(&mut node, &[]);
    assert!(node.patience_ms() < 2 * T);

    // A candidate finishes its campaign, and begins no other.
    let mut candidate = Node::asking(protocol);
    let _ = makes_way(&mut candidate, &[2]);
    let _ = candidate.when(2 * T, "");
    assert_eq!(candidate.core.status().role, Role::Follower);
    assert!(candidate.patience_ms() < LONG_MS);
}

/// Even if the leader wants it to.
fn a_node_in_trouble_does_not_take_over(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let leader = ballot(1, 2);
    let _ = node.told(2, send(protocol, leader, 0, &[]));
    let _ = makes_way(&mut node, &[3]);
    let batch = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    assert!(batch.is_empty(), "{batch}");
    let _ = makes_way(&mut node, &[]);
    let batch = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    assert!(batch.must_write(), "{batch}");
}
