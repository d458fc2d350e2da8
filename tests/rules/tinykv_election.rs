//! TinyKV 2AA: elections.

use std::collections::BTreeSet;

use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::Restored;
use spaxos::consensus::message::{Body, ClusterBody, RaftBody};
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::Ballot;

use super::common::cluster::{Cluster, Shape};
use super::common::one_core::at;
use super::raft_core::{Core, HEARTBEAT_MS, T, append, entries, heartbeat, receivers, said_to};

each_protocol!(
    every_node_can_win_in_turn,
    an_isolated_candidate_returns_to_the_leaders_term,
    a_split_vote_is_resolved,
);

/// TinyKV 2AA: a higher term in any message makes any role a follower of that term. Pre-vote changes nobody's
/// state by design (thesis section 9.6); a TimeoutNow makes its follower stand immediately.
#[test]
fn a_higher_term_in_any_message_makes_any_role_a_follower_of_it() {
    let ballot = Ballot { round: 9, node: 2 };
    let last = at(0, 0);
    let bodies: [Body; 6] = [
        RaftBody::RequestVote { ballot, last }.into(),
        append(9, 0, last, &[]),
        heartbeat(9, 0),
        ClusterBody::Confirm { ballot, number: 1 }.into(),
        ClusterBody::Refuse { ballot: Ballot { round: 2, node: 1 }, promised: ballot }.into(),
        ClusterBody::Learn { chosen: 1, entries: entries(1, &[9]) }.into(),
    ];
    for body in bodies {
        for (role, mut core) in Core::in_each_role(&[]) {
            // A leader learns nothing: whatever was chosen behind its back, a Refuse tells it of the round.
            let stays = role == Role::Leader && matches!(body, Body::Cluster(ClusterBody::Learn { .. }));
            let batch = core.told(2, body.clone());
            let status = core.status();
            if stays {
                assert_eq!((status.role, batch), (Role::Leader, Batch::default()));
                continue;
            }
            assert_eq!((status.role, status.promised.round), (Role::Follower, 9), "a {role} told {body}");
            assert!(batch.hard_state.is_some(), "a {role} told {body} writes the round down");
        }
    }
    for (role, mut core) in Core::in_each_role(&[]) {
        let promised = core.ballot();
        let _ = core.told(2, RaftBody::RequestPreVote { ballot, last });
        assert_eq!((core.status().role, core.ballot()), (role, promised));
        let _ = core.told(2, ClusterBody::TimeoutNow { ballot });
        assert_eq!((core.status().role, core.ballot()), (Role::Candidate, Ballot { round: 10, node: 1 }));
    }
}

/// TinyKV 2AA: a node starts as follower.
#[test]
fn a_node_starts_as_follower() {
    for round in [0, 3] {
        let core = Core::with_log(3, round, &[]);
        assert_eq!((core.status().role, core.status().leader), (Role::Follower, None));
    }
}

/// TinyKV 2AA: a leader's heartbeat timeout sends one heartbeat to each other node.
#[test]
fn a_heartbeat_timeout_sends_one_heartbeat_to_each_other_node() {
    let mut core = Core::new(5).leader();
    for _ in 1..HEARTBEAT_MS {
        assert!(receivers(&core.tick(), "Heartbeat").is_empty());
    }
    assert_eq!(receivers(&core.tick(), "Heartbeat"), [2, 3, 4, 5]);
}

/// TinyKV 2AA: an election timeout starts exactly one election: term + 1, vote for self, requests to all.
/// With pre-vote (thesis section 9.6), which asks them all first.
#[test]
fn an_election_timeout_starts_exactly_one_election() {
    let (mut core, batch) = Core::with_log(3, 1, &[]).until_it_asks();
    assert_eq!(receivers(&batch, "RequestPreVote"), [2, 3]);
    assert_eq!((core.ballot().round, batch.hard_state), (1, None));
    let ballot = Ballot { round: 2, node: 1 };
    let granted = ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
    let batch = core.told(2, granted.clone());
    assert_eq!((core.status().role, core.ballot()), (Role::Candidate, ballot));
    assert_eq!(batch.hard_state.map(|hard_state| hard_state.promised), Some(ballot));
    assert_eq!(receivers(&batch, "RequestVote"), [2, 3]);
    assert_eq!(said_to(&batch, 1), ["Vote 2.1"]);
    assert!(core.told(3, granted).is_empty(), "one election, not two");
}

/// TinyKV 2AA: a majority wins; a cluster of one wins immediately (when its vote for itself is durable).
#[test]
fn a_majority_wins() {
    let cases: [(u64, &[u64], bool); 9] = [
        (1, &[], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[3], true),
        (3, &[2, 3], true),
        (5, &[2], false),
        (5, &[2, 3], true),
        (5, &[4, 5], true),
        (5, &[2, 2, 2], false),
    ];
    for (nodes, voters, wins) in cases {
        let mut core = Core::new(nodes).candidate();
        let ballot = core.ballot();
        for from in [1].iter().chain(voters) {
            let _ = core.told(*from, RaftBody::Vote { ballot });
        }
        assert_eq!(core.status().role == Role::Leader, wins, "{nodes} nodes, votes of 1 and {voters:?}");
    }
    let mut core = Core::new(1);
    let batch = core.tick();
    let _ = core.flushed(&batch);
    assert_eq!(core.status().role, Role::Leader);
}

/// TinyKV 2AA: one vote a term, again to the same candidate is granted.
#[test]
fn one_vote_a_term() {
    for (voted, asks, granted) in
        [(0, 2, true), (0, 3, true), (2, 2, true), (3, 3, true), (2, 3, false), (3, 2, false)]
    {
        let mut core = Core::voted(3, Ballot { round: 4, node: voted }, &[]);
        let ballot = Ballot { round: 4, node: asks };
        let batch = core.told(asks, RaftBody::RequestVote { ballot, last: at(0, 0) });
        assert_eq!(receivers(&batch, "Vote") == [asks], granted, "voted for {voted}, asked by {asks}");
        assert_eq!(core.ballot().node, if granted { asks } else { voted });
    }
}

/// TinyKV 2AA: an append of its own or a higher term makes a candidate a follower.
#[test]
fn an_append_makes_a_candidate_a_follower() {
    for higher in [0, 1] {
        let mut core = Core::new(3).candidate();
        let round = core.ballot().round + higher;
        let _ = core.told(2, append(round, 0, at(0, 0), &[]));
        let status = core.status();
        assert_eq!((status.role, status.promised.round, status.leader), (Role::Follower, round, Some(2)));
    }
}

/// TinyKV 2AA: election timeouts are random over (t, 2t), every value of it occurs (here: T to 2T - 1), and
/// fewer than 30 % coincide.
#[test]
fn election_timeouts_are_random() {
    for campaigning in [false, true] {
        let wait_ms = |seed| {
            let core = Core::seeded(5, seed, Restored::default());
            let mut core = if campaigning { core.candidate() } else { core };
            let asks = |batch: Batch| !receivers(&batch, "RequestPreVote").is_empty();
            (1..=2 * T).find(|_| asks(core.tick())).expect("it campaigns")
        };
        let mut seen = BTreeSet::new();
        let mut coincide = 0;
        for round in 0..1000 {
            let mut waits: Vec<u64> = (0..5).map(|node| wait_ms(1000 * node + round)).collect();
            seen.extend(waits.iter().copied());
            waits.sort_unstable();
            coincide += u64::from(waits[0] == waits[1]);
        }
        assert_eq!(seen, (T..2 * T).collect(), "campaigning: {campaigning}");
        assert!(coincide < 300, "{coincide} of 1000 first timeouts coincide, campaigning: {campaigning}");
    }
}

/// TinyKV 2AA: a higher-term vote is granted from any role.
#[test]
fn a_higher_term_vote_is_granted_from_any_role() {
    for (role, mut core) in Core::in_each_role(&[]) {
        let ballot = Ballot { round: 9, node: 3 };
        let batch = core.told(3, RaftBody::RequestVote { ballot, last: at(5, 8) });
        assert_eq!(receivers(&batch, "Vote"), [3], "a {role}");
        assert_eq!((core.status().role, core.ballot()), (Role::Follower, ballot));
    }
}

/// TinyKV 2AA: every node can win in turn.
fn every_node_can_win_in_turn(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    for id in cluster.ids() {
        campaign(&mut cluster, id);
        cluster.settle();
        for other in cluster.ids() {
            let role = if other == id { Role::Leader } else { Role::Follower };
            assert_eq!(cluster.status(other).role, role, "{protocol}: {other} while {id} leads");
        }
    }
}

/// TinyKV 2AA: a candidate returns to the leader's term, on heartbeat and on append. With pre-vote it never
/// left it.
#[test]
fn a_candidate_returns_to_the_leaders_term() {
    for (role, ballot) in [(Role::Follower, 1), (Role::Candidate, 1)] {
        for body in [heartbeat(1, 0), append(1, 0, at(0, 0), &[1])] {
            let core = Core::with_log(3, 1, &[]);
            let mut core = if role == Role::Candidate { core.until_it_asks().0 } else { core };
            let _ = core.told(2, body);
            let status = core.status();
            assert_eq!((status.role, status.promised.round), (Role::Follower, ballot));
        }
    }
}

/// TinyKV 2AA: a candidate isolated returns to the leader's term. One that a leader asked to take over has
/// left it, and then all go on in the candidate's term.
fn an_isolated_candidate_returns_to_the_leaders_term(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    campaign(&mut cluster, 1);
    cluster.settle();
    cluster.run(40);
    let _ = cluster.transfer(1, 3);
    let place = cluster
        .flight
        .iter()
        .position(|message| matches!(message.body, Body::Cluster(ClusterBody::TimeoutNow { .. })));
    let place = place.expect("node 3 is up to date");
    let _ = cluster.deliver(place);
    cluster.flight.clear();
    cluster.cut.extend([(1, 3), (3, 1), (2, 3), (3, 2)]);
    cluster.run(50);
    assert_eq!(cluster.status(3).role, Role::Candidate, "{protocol}");
    cluster.cut.clear();
    cluster.run(600);
    let leaders = cluster.ids().filter(|id| cluster.status(*id).role == Role::Leader).count();
    let rounds: BTreeSet<_> = cluster.ids().map(|id| cluster.status(id).promised.round).collect();
    assert_eq!((leaders, rounds.len()), (1, 1), "{protocol}: one leader, one round: {rounds:?}");
}

/// TinyKV 2AA: a higher-term answer deposes a leader.
#[test]
fn a_higher_term_answer_deposes_a_leader() {
    let mut core = Core::new(3).leader();
    let ballot = core.ballot();
    let _ =
        core.told(3, ClusterBody::Refuse { ballot, promised: Ballot { round: ballot.round + 1, node: 2 } });
    assert_eq!((core.status().role, core.ballot()), (Role::Follower, Ballot { round: 2, node: 0 }));
}

/// TinyKV 2AA: only a leader acts on a beat, campaigning while leader does nothing. Here time passes; a
/// leader whose followers answer never campaigns, and nobody else sends heartbeats.
#[test]
fn only_a_leader_beats_and_it_never_campaigns() {
    for (role, mut core) in Core::in_each_role(&[]) {
        let ballot = core.ballot();
        for step in 0..5 * T {
            let batch = core.tick();
            if role != Role::Leader {
                assert!(receivers(&batch, "Heartbeat").is_empty(), "a {role}, step {step}");
                continue;
            }
            assert!(receivers(&batch, "RequestPreVote").is_empty(), "step {step}");
            for message in &batch.early {
                if let Body::Cluster(ClusterBody::Heartbeat { sent_ms, .. }) = message.body {
                    let _ = core.told(message.to, ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms });
                }
            }
            assert_eq!(core.status().role, Role::Leader, "step {step}");
        }
    }
}

/// TinyKV 2AA: a split vote is resolved in the next round.
fn a_split_vote_is_resolved(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    ask(&mut cluster, 2);
    ask(&mut cluster, 3);
    // Node 1 would follow either, and ends: each votes for itself, and has nobody else's vote.
    for _ in 0..4 {
        let place = cluster.flight.iter().position(|message| message.to == 1 || message.from == 1);
        let _ = cluster.deliver(place.expect("a question or its answer"));
    }
    cluster.crash(1);
    for id in [2, 3] {
        assert_eq!(cluster.status(id).role, Role::Candidate);
        cluster.flush(id, usize::MAX);
    }
    cluster.settle();
    if protocol == ProtocolName::Raft {
        assert!([2, 3].iter().all(|id| cluster.status(*id).role != Role::Leader), "the vote is split");
    }
    cluster.run(600);
    let leaders = [2, 3].iter().filter(|id| cluster.status(**id).role == Role::Leader).count();
    assert_eq!(leaders, 1, "{protocol}");
}

/// T is 100 ms, a heartbeat interval 20 ms.
pub fn cluster(protocol: ProtocolName, nodes: u64) -> Cluster {
    Cluster::new(Shape {
        protocol,
        nodes,
        election_ms: 100,
        heartbeat_ms: 20,
        window_entries: 64,
        window_bytes: 1 << 20,
        seed: 1,
    })
}

/// The others hear nobody for T; then a node asks them.
pub fn campaign(cluster: &mut Cluster, id: u64) {
    for other in cluster.ids().filter(|other| *other != id && cluster.is_up(*other)).collect::<Vec<_>>() {
        if cluster.status(other).role == Role::Follower {
            for _ in 0..10 {
                let _ = cluster.tick(other, 10);
            }
        }
    }
    ask(cluster, id);
}

/// Time passes for a node until it asks the others.
fn ask(cluster: &mut Cluster, id: u64) {
    for _ in 0..100 {
        let batch = cluster.tick(id, 10);
        if !batch.is_empty() && cluster.status(id).role == Role::Candidate {
            return;
        }
    }
    panic!("node {id} does not campaign");
}
