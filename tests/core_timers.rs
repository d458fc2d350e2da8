//! When one core does what, to the millisecond: campaigns, asks again, repeats, steps down. Schedules and
//! scripts let time pass in larger steps.

mod common;

use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, Range};
use spaxos::consensus::protocol::{Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command};

use common::one_core::{FIRST, LONG_MS, Node, T, accept, ballot, config, entry, promise};

/// A wait for a leader is between T and 2T, each equally likely, and drawn anew each time.
#[test]
fn the_wait_for_a_leader_is_between_t_and_2_t() {
    let (mut first, mut again, mut heard) = ([0; 5], [0; 5], [0; 5]);
    for seed in 0..100 {
        let config = Config { election_ms: 2, heartbeat_ms: 1, seed, ..config() };
        let mut node = Node::new(config, Restored::default());
        first[node.patience_ms() as usize] += 1;
        let mut asking = node.clone().until_it_asks();
        again[asking.patience_ms() as usize] += 1;
        let _ = asking.ticks(1);
        let _ = node.ticks(1);
        for node in [&mut node, &mut asking] {
            let _ = node.told(2, ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
            heard[node.patience_ms() as usize] += 1;
        }
    }
    for [none, one, two, three, four] in [first, again, heard] {
        assert_eq!([none, one, four], [0, 0, 0]);
        assert!(two > 30 && three > 30, "{two} waits of T, {three} of 2T - 1");
    }
}

/// A new promise starts the wait for its leader; the same promise once more does not.
#[test]
fn a_promise_restarts_the_wait_once() {
    let mut node = Node::follower();
    let prepare = PaxosBody::Prepare { ballot: ballot(1, 2), first: 1 };
    let _ = node.ticks(node.patience_ms().min(50));
    let _ = node.told(2, prepare.clone());
    let patience_ms = node.patience_ms();
    assert!(patience_ms >= T, "{patience_ms}");
    let _ = node.when(30, "");
    let _ = node.told(2, prepare);
    assert_eq!(node.patience_ms(), patience_ms - 30);
}

/// A gap of more than T/2 between ticks is a pause of this node: the silence meanwhile says nothing of
/// others.
#[test]
fn a_pause_is_longer_than_half_of_t() {
    let mut node = Node::follower();
    let _ = node.when(node.patience_ms() - 1, "");
    assert!(!node.clone().ticks(T / 2).is_empty(), "no pause: it asks");
    assert!(node.clone().ticks(T / 2 + 1).is_empty(), "a pause: it waits");
    let mut node = Node::leader();
    let _ = node.when(T - 1, "");
    let role_after = |ms| {
        let mut node = node.clone();
        let _ = node.ticks(ms);
        node.core.status().role
    };
    assert_eq!((role_after(T / 2), role_after(T / 2 + 1)), (Role::Follower, Role::Leader));
}

/// A candidate asks those who have not answered, once a heartbeat interval.
#[test]
fn a_candidate_asks_again_who_has_not_answered() {
    let config = Config { voters: Voters::new(vec![1, 2, 3, 4, 5]), ..config() };
    let mut node = Node::new(config, Restored::default()).until_it_asks();
    let granted = ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO };
    let _ = node.told(2, granted.clone());
    assert_eq!(node.when(20, "PreVote"), [(10, 3), (10, 4), (10, 5), (20, 3), (20, 4), (20, 5)]);
    let _ = node.ticks(5);
    let _ = node.told(4, granted);
    let _ = node.told(3, promise(FIRST, 0, (1, 1), vec![]));
    let _ = node.told(5, promise(FIRST, 0, (1, 1), vec![]));
    assert_eq!(node.when(25, "Prepare"), [(10, 2), (10, 4), (20, 2), (20, 4)]);
    assert_eq!(node.core.status().role, Role::Candidate, "its own promise is not durable yet");
}

/// A leader is heard once a heartbeat interval. What makes no progress it sends again, to those who have not
/// accepted it, after two intervals, then with a back-off up to T.
#[test]
fn a_leader_repeats_what_makes_no_progress() {
    let mut node = Node { followed: true, ..Node::leader() };
    assert_eq!(node.clone().when(25, "Heartbeat"), [(10, 2), (10, 3), (20, 2), (20, 3)]);
    let accepted = |first, last| {
        let ranges = vec![Range { first, last }];
        PaxosBody::Accepted { ballot: FIRST, chosen: 0, ranges }
    };
    let _ = node.told(2, accepted(1, 1));
    let back_off = [(20, 3), (60, 3), (140, 3), (240, 3), (340, 3)];
    assert_eq!(node.clone().when(400, "Accept"), back_off);
    // Progress begins the back-off anew; new entries do not put it off.
    let _ = node.when(100, "");
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let _ = node.told(2, accepted(2, 3));
    let _ = node.told(1, accepted(1, 2));
    let _ = node.when(15, "");
    let _ = node.proposes(vec![Command::value(3, 1, "c")]);
    assert_eq!(node.clone().when(50, "Accept"), [(5, 2), (5, 3), (45, 2), (45, 3)]);
    // Nothing is open, nothing is sent; what comes then has its own two intervals.
    let _ = node.told(1, accepted(3, 4));
    let _ = node.told(3, accepted(4, 4));
    assert_eq!(node.core.status().in_flight, 0);
    assert_eq!(node.when(115, "Accept"), []);
    let _ = node.proposes(vec![Command::value(4, 1, "d")]);
    assert_eq!(node.when(30, "Accept"), [(20, 2), (20, 3)]);
}

/// A leader that no majority followed for T steps down. A reply proves what was when its heartbeat was sent.
#[test]
fn a_leader_leads_for_t_after_it_was_followed() {
    let lasts = |mut node: Node| {
        (1..=LONG_MS)
            .find(|_| !node.ticks(1).is_empty() && node.core.status().role != Role::Leader)
            .expect("it ends")
    };
    let mut node = Node::leader();
    let since_ms = node.now_ms;
    assert_eq!(lasts(node.clone()), T);
    let _ = node.ticks(40);
    let reply = |sent_ms| ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms };
    let _ = node.told(3, reply(since_ms + 30));
    let _ = node.told(3, reply(since_ms + 10));
    assert_eq!(lasts(node.clone()), T - 10);
    let _ =
        node.told(2, ClusterBody::HeartbeatReply { ballot: ballot(0, 1), chosen: 0, sent_ms: since_ms + 40 });
    assert_eq!(lasts(node.clone()), T - 10, "a reply to another ballot");
    let _ = node.told(2, PaxosBody::Accepted { ballot: ballot(0, 1), chosen: 0, ranges: vec![] });
    assert_eq!(lasts(node.clone()), T - 10, "an acceptance of another ballot");
    let _ = node.told(2, PaxosBody::Accepted { ballot: FIRST, chosen: 0, ranges: vec![] });
    assert_eq!(lasts(node), T);
}

/// Who heard a leader follows nobody else for T.
#[test]
fn a_candidate_is_refused_for_t_after_a_leader_was_heard() {
    let asked = |node: &Node, ballot| {
        let batch = node.clone().told(3, PaxosBody::PreVote { ballot });
        let Some(Message { body: Body::Cluster(ClusterBody::PreVoteReply { granted, .. }), .. }) =
            batch.early.first()
        else {
            panic!("no answer: {batch}");
        };
        *granted
    };
    let mut node = Node::follower();
    assert!(asked(&node, ballot(2, 3)), "no leader was heard");
    let _ = node.ticks(50);
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
    let _ = node.when(T - 1, "");
    assert!(!asked(&node, ballot(2, 3)));
    let _ = node.ticks(1);
    assert_eq!(node.core.status().role, Role::Follower);
    assert!(asked(&node, ballot(2, 3)));
    let node = Node::leader();
    assert!(!asked(&node, ballot(2, 3)), "it leads itself");
}

/// A question for chosen entries goes to the next peer after two heartbeat intervals, then with a back-off up
/// to T, until all that is known to be chosen has come.
#[test]
fn a_learner_asks_one_peer_after_the_other() {
    let mut node = Node::follower();
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
    let mut node = Node::follower();
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 1, sent_ms: 0 });
    let _ = node.told(2, accept(leader, 0, vec![entry(1, leader)]));
    assert_eq!(node.core.status().chosen, 1);
    assert_eq!(node.when(300, "CatchUp"), []);
}

/// Own proposals go to the leader at once, again after two heartbeat intervals, then with a back-off up to T.
#[test]
fn a_proposal_is_forwarded_again() {
    let mut node = Node::follower();
    let _ = node.ticks(7);
    let heartbeat = |node| ClusterBody::Heartbeat { ballot: ballot(1, node), chosen: 0, sent_ms: 0 };
    let _ = node.told(2, heartbeat(2));
    let _ = node.ticks(33);
    let batch = node.proposes(vec![Command::value(1, 1, "a")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [1=\"a\"]\n");
    assert_eq!(node.clone().when(300, "Forward"), [(20, 2), (40, 2), (80, 2)]);
    let _ = node.when(5, "");
    let batch = node.proposes(vec![Command::value(2, 1, "b")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [2=\"b\"]\n");
    assert_eq!(node.clone().when(20, "Forward"), [(15, 2)]);
    let batch = node.told(3, heartbeat(3));
    assert!(batch.to_string().contains("early 1→3 Forward [1=\"a\", 2=\"b\"]\n"), "{batch}");
    assert_eq!(node.when(99, "Forward"), [(20, 3), (60, 3)], "the back-off begins anew");
}
