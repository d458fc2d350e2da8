//! When one core does what, to the millisecond: campaigns, asks again, repeats, steps down. Schedules and
//! scripts let time pass in larger steps.
//!
//! Here is what holds for both protocols; what only one of them does is in `core_timers/`.

#[macro_use]
mod common;

#[path = "core_timers/making_way.rs"]
mod making_way;
#[path = "core_timers/paxos.rs"]
mod paxos;
#[path = "core_timers/raft.rs"]
mod raft;

use std::collections::VecDeque;

use spaxos::consensus::batch::Event;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, RaftBody};
use spaxos::consensus::protocol::{Input, Protocol, Role};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command};

use common::one_core::{
    FIRST, LONG_MS, Node, START, T, ballot, campaign, config, entry, has, kind_of, lists, pre_vote, send,
    support,
};

each_protocol!(
    the_wait_for_a_leader_is_between_t_and_2_t,
    support_restarts_the_wait_once,
    a_late_tick_sees_a_heartbeat_interval,
    a_starved_leader_that_is_answered_leads,
    waits_grow_after_elections_that_chose_nothing,
    waits_grow_after_own_elections_that_chose_nothing,
    pre_votes_that_nobody_answers_do_not_grow_waits,
    a_candidate_asks_again_who_has_not_answered,
    a_leader_is_heard_once_a_heartbeat_interval,
    a_leader_leads_for_t_after_it_was_followed,
    a_candidate_is_refused_for_t_after_a_leader_was_heard,
    a_proposal_is_forwarded_again,
    a_proposal_is_forwarded_once_in_t,
    a_leader_that_is_heard_again_is_sent_what_is_new,
    a_node_that_is_far_behind_forwards_nothing_again,
    a_transfer_is_given_up_after_t,
    a_transfer_waits_for_the_log,
    a_node_told_to_take_over_stands_at_once,
);

/// A wait for a leader is between T and 2T, each equally likely, and drawn again each time.
fn the_wait_for_a_leader_is_between_t_and_2_t(protocol: ProtocolName) {
    let (mut first, mut again, mut heard) = ([0; 5], [0; 5], [0; 5]);
    for seed in 0..100 {
        let config = Config { election_ms: 2, heartbeat_ms: 1, seed, ..config() };
        let mut node = Node::new(protocol, config, Restored::default());
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

/// A new promise or vote starts the wait for its leader; the same one given again does not.
fn support_restarts_the_wait_once(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let campaign = campaign(protocol, ballot(1, 2));
    let _ = node.ticks(node.patience_ms().min(50));
    let _ = node.told(2, campaign.clone());
    let patience_ms = node.patience_ms();
    assert!(patience_ms >= T, "{patience_ms}");
    let _ = node.when(30, "");
    let _ = node.told(2, campaign);
    assert_eq!(node.patience_ms(), patience_ms - 30);
}

/// A tick that comes late sees a heartbeat interval of silence, however late it is: what others said while
/// this node did not run waits unread.
fn a_late_tick_sees_a_heartbeat_interval(protocol: ProtocolName) {
    let heartbeat_ms = config().heartbeat_ms;
    for late_ms in [heartbeat_ms, heartbeat_ms + 1, T / 2, 100 * T] {
        let mut node = Node::follower(protocol);
        let patience_ms = node.patience_ms();
        let _ = node.ticks(late_ms);
        assert_eq!(node.patience_ms(), patience_ms - heartbeat_ms, "after {late_ms} ms");
        let mut node = Node::leader(protocol);
        assert_eq!(leads_for_ms(node.clone()), T);
        let _ = node.ticks(late_ms);
        assert_eq!(leads_for_ms(node), T - heartbeat_ms, "after {late_ms} ms");
    }
    // However starved a leader is, it steps down after as many unanswered heartbeats as T has.
    let mut node = Node::leader(protocol);
    let led = (1..).find(|_| !node.ticks(T).is_empty() && node.core.status().role != Role::Leader);
    assert_eq!(led, Some(T / heartbeat_ms));
}

/// A starved leader that is answered, each time long after it asked, goes on leading: an answer proves what
/// was when its heartbeat was sent, and its ticks have seen little since.
fn a_starved_leader_that_is_answered_leads(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let mut under_way = VecDeque::new();
    for _ in 0..50 {
        let batch = node.ticks(T - 1);
        assert_eq!(node.core.status().role, Role::Leader);
        let sent = batch.early.iter().find_map(|message| match message.body {
            Body::Cluster(ClusterBody::Heartbeat { ballot, sent_ms, .. }) => Some((ballot, sent_ms)),
            _ => None,
        });
        under_way.push_back(sent.expect("each tick sends a heartbeat"));
        if under_way.len() > 3 {
            let (ballot, sent_ms) = under_way.pop_front().expect("there are four");
            let _ = node.told(2, ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms });
        }
    }
}

/// The waits of a node that hears of leaders, one after the other, none of which gets anything chosen: from T
/// to 2T for the first, from 2T to 4T at most from then on, and from T again once anything is chosen.
fn waits_grow_after_elections_that_chose_nothing(protocol: ProtocolName) {
    let entries = |round| vec![entry(1, ballot(round, 2))];
    for seed in 0..50 {
        let mut node = Node::new(protocol, Config { seed, ..config() }, Restored::default());
        let mut waits_ms = Vec::new();
        for round in 1..=4 {
            // Twice: a leader that is heard again has not won again.
            for _ in 0..2 {
                let _ = node.told(2, send(protocol, ballot(round, 2), 0, &entries(round)));
                waits_ms.push(node.patience_ms());
            }
        }
        let (first, later) = waits_ms.split_at(2);
        assert!(first.iter().all(|wait_ms| (T..2 * T).contains(wait_ms)), "{first:?}");
        assert!(later.iter().all(|wait_ms| (2 * T..4 * T).contains(wait_ms)), "{later:?}");
        for round in 4..=5 {
            let _ = node.told(2, send(protocol, ballot(round, 2), 1, &entries(4)));
            assert!((T..2 * T).contains(&node.patience_ms()), "{}", node.patience_ms());
        }
        assert_eq!(node.core.status().chosen, 1);
    }
}

/// A node's own elections count like those of others.
fn waits_grow_after_own_elections_that_chose_nothing(protocol: ProtocolName) {
    let stepped_down = |node: Node| {
        let mut node = node;
        let _ = node.when(T, "");
        assert_eq!(node.core.status().role, Role::Follower);
        node
    };
    let once = stepped_down(Node::leader(protocol));
    assert!((T..2 * T).contains(&once.patience_ms()), "{}", once.patience_ms());
    let twice = stepped_down(once.clone().made_leader());
    assert!((2 * T..4 * T).contains(&twice.patience_ms()), "{}", twice.patience_ms());
    let mut successful = once.made_leader();
    let last = successful.core.status().last;
    successful = stepped_down(successful.matched(last));
    assert!((T..2 * T).contains(&successful.patience_ms()), "{}", successful.patience_ms());
}

/// A node that is cut off asks in vain, and so do its waits not grow: it is quick once it is heard.
fn pre_votes_that_nobody_answers_do_not_grow_waits(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let _ = node.when(T, "");
    let mut asked = 0;
    for _ in 0..50 {
        let patience_ms = node.patience_ms();
        assert!((T..2 * T).contains(&patience_ms), "{patience_ms} ms after it asked {asked} times");
        let _ = node.when(patience_ms, "");
        asked += 1;
    }
}

/// How long a leader leads if it hears nothing more.
fn leads_for_ms(mut node: Node) -> u64 {
    (1..=LONG_MS)
        .find(|_| !node.ticks(1).is_empty() && node.core.status().role != Role::Leader)
        .expect("it ends")
}

/// A candidate asks those who have not answered, once a heartbeat interval: first whether they would follow,
/// then for their support.
fn a_candidate_asks_again_who_has_not_answered(protocol: ProtocolName) {
    let config = Config { voters: Voters::new(vec![1, 2, 3, 4, 5]), ..config() };
    let mut node = Node::new(protocol, config, Restored::default()).until_it_asks();
    let granted = ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO };
    let _ = node.told(2, granted.clone());
    let asks = kind_of(&pre_vote(protocol, FIRST));
    assert_eq!(node.when(20, &asks), [(10, 3), (10, 4), (10, 5), (20, 3), (20, 4), (20, 5)]);
    let _ = node.ticks(5);
    let _ = node.told(4, granted);
    let _ = node.told(3, support(protocol, FIRST));
    let _ = node.told(5, support(protocol, FIRST));
    let campaigns = kind_of(&campaign(protocol, FIRST));
    assert_eq!(node.when(25, &campaigns), [(10, 2), (10, 4), (20, 2), (20, 4)]);
    assert_eq!(node.core.status().role, Role::Candidate, "its own promise or vote is not durable yet");
}

fn a_leader_is_heard_once_a_heartbeat_interval(protocol: ProtocolName) {
    let mut node = Node { followed: true, ..Node::leader(protocol) };
    assert_eq!(node.when(25, "Heartbeat"), [(10, 2), (10, 3), (20, 2), (20, 3)]);
}

/// A leader that no majority followed for T steps down. A reply proves what was when its heartbeat was sent;
/// an answer to entries proves what is now, whether or not it is what the leader hopes for.
fn a_leader_leads_for_t_after_it_was_followed(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let since_ms = node.now_ms;
    assert_eq!(leads_for_ms(node.clone()), T);
    let _ = node.when(40, "");
    let reply = |ballot, sent_ms| Body::from(ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms });
    let _ = node.told(3, reply(FIRST, since_ms + 30));
    let _ = node.told(3, reply(FIRST, since_ms + 10));
    assert_eq!(leads_for_ms(node.clone()), T - 10);
    let mismatch = |ballot| Body::from(RaftBody::Mismatch { ballot, chosen: 0, previous: 1, hint: START });
    let (mut foreign, mut answers) = (
        vec![reply(ballot(0, 1), since_ms + 40), has(protocol, ballot(0, 1), 0)],
        vec![has(protocol, FIRST, 0)],
    );
    if protocol == ProtocolName::Raft {
        foreign.extend([mismatch(ballot(0, 1)), has(protocol, FIRST, 2)]);
        answers.push(mismatch(FIRST));
    }
    for body in foreign {
        let words = body.to_string();
        let _ = node.told(2, body);
        assert_eq!(leads_for_ms(node.clone()), T - 10, "{words}");
    }
    for body in answers {
        let words = body.to_string();
        let mut node = node.clone();
        let _ = node.told(2, body);
        assert_eq!(leads_for_ms(node), T, "{words}");
    }
}

/// A node that heard a leader follows nobody else for T.
fn a_candidate_is_refused_for_t_after_a_leader_was_heard(protocol: ProtocolName) {
    let asked = |node: &Node, ballot| {
        let batch = node.clone().told(3, pre_vote(protocol, ballot));
        let Some(Message { body: Body::Cluster(ClusterBody::PreVoteReply { granted, .. }), .. }) =
            batch.early.first()
        else {
            panic!("no answer: {batch}");
        };
        *granted
    };
    let mut node = Node::follower(protocol);
    assert!(asked(&node, ballot(2, 3)), "no leader was heard");
    let _ = node.ticks(50);
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
    let _ = node.when(T - 1, "");
    assert!(!asked(&node, ballot(2, 3)));
    let _ = node.ticks(1);
    assert_eq!(node.core.status().role, Role::Follower);
    assert!(asked(&node, ballot(2, 3)));
    let node = Node::leader(protocol);
    assert!(!asked(&node, ballot(2, 3)), "it leads itself");
}

/// Own proposals go to the leader immediately. Again go those that are older than the wait, which is two
/// heartbeat intervals and then doubles, up to T.
fn a_proposal_is_forwarded_again(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let _ = node.ticks(7);
    let heartbeat =
        |round, node| ClusterBody::Heartbeat { ballot: ballot(round, node), chosen: 0, sent_ms: 0 };
    let _ = node.told(2, heartbeat(1, 2));
    let _ = node.ticks(33);
    let batch = node.proposes(vec![Command::value(1, 1, "a")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [1=\"a\"]\n");
    assert_eq!(node.clone().when(139, "Forward"), [(20, 2), (60, 2)]);
    let _ = node.when(5, "");
    let batch = node.proposes(vec![Command::value(2, 1, "b")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [2=\"b\"]\n");
    let _ = node.when(14, "");
    assert_eq!(node.ticks(1).to_string(), "early 1→2 Forward [1=\"a\"]\n", "b is younger than the wait");
    assert_eq!(node.clone().when(24, "Forward"), []);
    let _ = node.when(24, "");
    assert_eq!(node.ticks(1).to_string(), "early 1→2 Forward [2=\"b\"]\n");
    // Another leader: in Paxos a higher ballot may be of the same round.
    let round = if protocol == ProtocolName::Paxos { 1 } else { 2 };
    let batch = node.told(3, heartbeat(round, 3));
    assert!(batch.to_string().contains("early 1→3 Forward [1=\"a\", 2=\"b\"]\n"), "{batch}");
    assert_eq!(node.when(99, "Forward"), [(20, 3), (60, 3)], "the back-off begins again");
}

/// The longest wait is T, and it is over when nothing is under way any more.
fn a_proposal_is_forwarded_once_in_t(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let leader = ballot(1, 2);
    let heartbeat = |chosen| ClusterBody::Heartbeat { ballot: leader, chosen, sent_ms: 0 };
    let follow_for = |node: &mut Node, ms| {
        let mut when = Vec::new();
        for passed_ms in 1..=ms {
            let _ = node.told(2, heartbeat(0));
            when.extend(node.when(1, "Forward").iter().map(|_| passed_ms));
        }
        when
    };
    let _ = node.told(2, heartbeat(0));
    let _ = node.proposes(vec![Command::value(1, 1, "v")]);
    assert_eq!(follow_for(&mut node, 400), [20, 60, 140, 240, 340]);
    let _ = node.proposes(vec![Command::value(2, 1, "v")]);
    assert_eq!(follow_for(&mut node, 100), [40, 100], "the wait is T for what comes now");
    let chosen: Vec<_> = [1, 2].iter().map(|index| entry(*index, leader)).collect();
    let _ = node.told(2, send(protocol, leader, 2, &chosen));
    assert_eq!(node.core.status().pending, 0);
    let _ = node.proposes(vec![Command::value(3, 1, "v")]);
    assert_eq!(follow_for(&mut node, 30), [20]);
}

/// A node that loses sight of its leader, and hears it again, sends it what came in the meantime. The rest it
/// has.
fn a_leader_that_is_heard_again_is_sent_what_is_new(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let heartbeat = ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 };
    let _ = node.told(2, heartbeat.clone());
    let _ = node.proposes(vec![Command::value(1, 1, "a")]);
    let _ = node.when(node.patience_ms(), "");
    assert_eq!(node.core.status().leader, None);
    assert!(node.proposes(vec![Command::value(2, 1, "b")]).is_empty());
    let batch = node.told(2, heartbeat);
    assert!(batch.to_string().contains("early 1→2 Forward [2=\"b\"]\n"), "{batch}");
    assert_eq!(node.core.status().leader, Some(2));
}

/// A node that lacks much of what is chosen sends nothing again: its requests may be there.
fn a_node_that_is_far_behind_forwards_nothing_again(protocol: ProtocolName) {
    for (chosen, again) in [(32_768, true), (32_769, false)] {
        let mut node = Node::follower(protocol);
        let _ = node.told(2, ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen, sent_ms: 0 });
        let batch = node.proposes(vec![Command::value(1, 1, "v")]);
        assert_eq!(lists(&batch, 2), [1], "new ones are sent");
        assert_eq!(!node.when(T - 1, "Forward").is_empty(), again, "{chosen} behind");
    }
}

/// A successor that has everything is told to take over, again each heartbeat interval; after T the leader
/// goes on, and places what waited.
fn a_transfer_is_given_up_after_t(protocol: ProtocolName) {
    let mut node = Node { followed: true, ..Node::leader(protocol) }.matched(1);
    let sent_ms = node.now_ms;
    let _ = node.told(2, ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 1, sent_ms });
    let batch = node.input(Input::Transfer { to: 2 });
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

/// A successor that lags is told once it has everything; in Paxos it must know as well that it is chosen.
fn a_transfer_waits_for_the_log(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let batch = node.input(Input::Transfer { to: 2 });
    assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");
    let batch = node.told(3, has(protocol, FIRST, 1));
    assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");
    let mut last_word = has(protocol, FIRST, 1);
    if protocol == ProtocolName::Paxos {
        let batch = node.told(2, last_word);
        assert!(!batch.to_string().contains("TimeoutNow"), "{batch}");
        last_word = ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 1, sent_ms: node.now_ms }.into();
    }
    let batch = node.told(2, last_word);
    assert!(batch.to_string().contains("early 1→2 TimeoutNow 1.1\n"), "{batch}");
}

/// A node that is told to take over stands for election immediately, although it hears a leader; when it is
/// told again, it is too late.
fn a_node_told_to_take_over_stands_at_once(protocol: ProtocolName) {
    let mut node = Node::follower(protocol);
    let leader = ballot(1, 2);
    let _ = node.told(2, common::one_core::send(protocol, leader, 0, &[]));
    let batch = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    let preparing = Event::Preparing { ballot: ballot(2, 1), handed_by: Some(2) };
    assert!(batch.events.contains(&preparing), "{batch}");
    let again = node.told(2, ClusterBody::TimeoutNow { ballot: leader });
    assert_eq!(again.to_string(), "early 1→2 Refuse 1.2 promised=2.1\n");
}
