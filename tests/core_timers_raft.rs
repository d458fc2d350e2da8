//! When one Raft core does what, to the millisecond: asks again, repeats, gives up. As `core_timers.rs`,
//! which is about Paxos; what both cores share is tested there.

mod common;

use spaxos::consensus::batch::Event;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, RaftBody};
use spaxos::consensus::protocol::{Input, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command};

use common::one_core::{FIRST, LONG_MS, T, ballot, config};
use common::one_raft::{Node, START, append, at};

/// A candidate asks those who have not answered, once a heartbeat interval: first whether they would vote,
/// then to vote.
#[test]
fn a_candidate_asks_again_who_has_not_answered() {
    let config = Config { voters: Voters::new(vec![1, 2, 3, 4, 5]), ..config() };
    let mut node = Node::new(config, Restored::default()).until_it_asks();
    let granted = ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO };
    let _ = node.told(2, granted.clone());
    assert_eq!(node.when(20, "RequestPreVote"), [(10, 3), (10, 4), (10, 5), (20, 3), (20, 4), (20, 5)]);
    let _ = node.ticks(5);
    let _ = node.told(4, granted);
    let _ = node.told(3, RaftBody::Vote { ballot: FIRST });
    let _ = node.told(5, RaftBody::Vote { ballot: FIRST });
    assert_eq!(node.when(25, "RequestVote"), [(10, 2), (10, 4), (20, 2), (20, 4)]);
    assert_eq!(node.core.status().role, Role::Candidate, "its own vote is not durable yet");
}

/// A vote restarts the wait for a leader; the same vote given again does not, nor does a higher round without
/// a vote.
#[test]
fn a_vote_restarts_the_wait_once() {
    let mut node = Node::follower();
    let request = RaftBody::RequestVote { ballot: ballot(1, 2), last: START };
    let _ = node.ticks(node.patience_ms().min(50));
    let _ = node.told(2, request.clone());
    let patience_ms = node.patience_ms();
    assert!(patience_ms >= T, "{patience_ms}");
    let _ = node.when(30, "");
    let _ = node.told(2, request);
    assert_eq!(node.patience_ms(), patience_ms - 30);
    let mut node = Node::follower();
    let _ = node.told(2, append(ballot(1, 2), 0, START, &[common::one_core::entry(1, ballot(1, 2))]));
    let _ = node.when(30, "");
    let patience_ms = node.patience_ms();
    let _ = node.told(3, RaftBody::RequestVote { ballot: ballot(2, 3), last: START });
    assert_eq!((node.core.status().promised, node.patience_ms()), (ballot(2, 0), patience_ms));
}

/// A leader is heard once a heartbeat interval. A follower that answers a heartbeat and lacks something is
/// sent an Append at once, also when an earlier one is under way: one without entries then.
#[test]
fn a_leader_repeats_what_makes_no_progress() {
    let mut node = Node { followed: true, ..Node::leader() };
    assert_eq!(node.clone().when(25, "Heartbeat"), [(10, 2), (10, 3), (20, 2), (20, 3)]);
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

/// A leader that no majority followed for T steps down. A reply proves what was when its heartbeat was sent;
/// an answer to entries, matching or not, proves what is now.
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
    let foreign: Vec<Body> = vec![
        ClusterBody::HeartbeatReply { ballot: ballot(0, 1), chosen: 0, sent_ms: since_ms + 40 }.into(),
        RaftBody::Appended { ballot: ballot(0, 1), chosen: 0, matched: 0 }.into(),
        RaftBody::Mismatch { ballot: ballot(0, 1), chosen: 0, previous: 1, hint: START }.into(),
        RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 2 }.into(),
    ];
    for body in foreign {
        let words = body.to_string();
        let _ = node.told(2, body);
        assert_eq!(lasts(node.clone()), T - 10, "{words}");
    }
    let _ = node.clone().told(2, RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 0 });
    for body in [
        RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 0 },
        RaftBody::Mismatch { ballot: FIRST, chosen: 0, previous: 1, hint: START },
    ] {
        let mut node = node.clone();
        let _ = node.told(2, body);
        assert_eq!(lasts(node), T);
    }
}

/// A chosen page that nobody answers is sent again after two heartbeat intervals, when the follower is heard.
#[test]
fn a_page_is_sent_again() {
    let hard_state = spaxos::consensus::types::HardState { promised: FIRST, chosen: 5 };
    let restored = Restored { hard_state, chosen_ballot: FIRST, ..Restored::default() };
    let mut node = Node::new(config(), restored).made_leader();
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

/// A successor that has all is told to take over, again each heartbeat interval; after T the leader goes on,
/// and places what waited.
#[test]
fn a_transfer_is_given_up_after_t() {
    let mut node = Node { followed: true, ..Node::leader() }.matched(1);
    let mut batch = Default::default();
    node.core.step(Input::Transfer { to: 2 }, &mut batch);
    let told = Message { from: 1, to: 2, body: ClusterBody::TimeoutNow { ballot: FIRST }.into() };
    assert!(batch.early.contains(&told), "{batch}");
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    assert_eq!(node.core.status().last, 1, "nothing is placed");
    let times: Vec<_> = (1..T / 10).map(|times| (10 * times, 2)).collect();
    assert_eq!(node.when(T - 1, "TimeoutNow"), times);
    let batch = node.ticks(1);
    assert!(batch.events.contains(&Event::KeptLeading { to: 2, ballot: FIRST }), "{batch}");
    assert_eq!(node.core.status().last, 2, "what waited is placed");
}

/// A successor that lags is told once it has all.
#[test]
fn a_transfer_waits_for_the_log() {
    let mut node = Node::leader();
    let mut batch = Default::default();
    node.core.step(Input::Transfer { to: 2 }, &mut batch);
    assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");
    let batch = node.told(3, RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 1 });
    assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");
    let batch = node.told(2, RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 1 });
    assert!(batch.to_string().contains("early 1→2 TimeoutNow 1.1\n"), "{batch}");
}

/// Who is told to take over stands at once, though it hears a leader; a second telling is late.
#[test]
fn who_is_told_to_take_over_stands_at_once() {
    let mut node = Node::follower();
    let leader = ballot(1, 2);
    let _ = node.told(2, append(leader, 0, START, &[]));
    let batch = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    let preparing = Event::Preparing { ballot: ballot(2, 1), handed_by: Some(2) };
    assert!(batch.events.contains(&preparing), "{batch}");
    let again = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    assert_eq!(again.to_string(), "early 1→2 Refuse 1.2 promised=2.1\n");
}
