//! What only a Raft core does: answers to heartbeats make a leader send again, and a higher round alone
//! restarts no wait.

use spaxos::consensus::config::Restored;
use spaxos::consensus::message::{ClusterBody, RaftBody};
use spaxos::consensus::protocol::Protocol;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Command, HardState};

use crate::common::one_core::{FIRST, Node, START, append, at, ballot, config, entry};

const RAFT: ProtocolName = ProtocolName::Raft;

/// A higher round without a vote leaves the wait for a leader as it is.
#[test]
fn a_round_without_a_vote_does_not_restart_the_wait() {
    let mut node = Node::follower(RAFT);
    let _ = node.told(2, append(ballot(1, 2), 0, START, &[entry(1, ballot(1, 2))]));
    let _ = node.when(30, "");
    let patience_ms = node.patience_ms();
    let _ = node.told(3, RaftBody::RequestVote { ballot: ballot(2, 3), last: START });
    assert_eq!((node.core.status().promised, node.patience_ms()), (ballot(2, 0), patience_ms));
}

/// A follower that answers a heartbeat and lacks something is sent an Append immediately, also when an
/// earlier one is under way: one without entries then.
#[test]
fn a_leader_repeats_what_makes_no_progress() {
    let mut node = Node { followed: true, ..Node::leader(RAFT) };
    let reply = |node: &mut Node, chosen| {
        let sent_ms = node.now_ms;
        let batch = node.told(3, ClusterBody::HeartbeatReply { ballot: FIRST, chosen, sent_ms });
        batch.early.iter().map(|message| message.body.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        reply(&mut node, 0),
        ["Append 1.1 chosen=0 previous=0@0 [1@1.1:noop]"],
        "the probe may be lost"
    );
    node = node.matched(1);
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    assert_eq!(
        reply(&mut node, 1),
        ["Append 1.1 chosen=1 previous=2@1 []"],
        "does it have what is under way?"
    );
    node = node.matched(2);
    assert_eq!(reply(&mut node, 2), [""; 0], "it lacks nothing");
    assert_eq!(reply(&mut node, 1), ["Append 1.1 chosen=2 previous=2@1 []"], "it lacks the watermark");
}

/// A chosen page that nobody answers is sent again after two heartbeat intervals, when the follower is heard.
#[test]
fn a_page_is_sent_again() {
    let hard_state = HardState { promised: FIRST, chosen: 5 };
    let restored = Restored { hard_state, chosen_ballot: FIRST, ..Restored::default() };
    let mut node = Node::new(RAFT, config(), restored).made_leader();
    let leads = node.core.status().promised;
    let body = RaftBody::Mismatch { ballot: leads, chosen: 3, previous: 5, hint: at(3, 1) };
    assert_eq!(node.told(2, body).pages.len(), 1);
    let pages = |node: &mut Node, ms| {
        let _ = node.ticks(ms);
        let sent_ms = node.now_ms;
        node.told(2, ClusterBody::HeartbeatReply { ballot: leads, chosen: 3, sent_ms }).pages.len()
    };
    assert_eq!(
        [pages(&mut node, 19), pages(&mut node, 1), pages(&mut node, 19), pages(&mut node, 1)],
        [0, 1, 0, 1]
    );
}
