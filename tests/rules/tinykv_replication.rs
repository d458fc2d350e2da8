//! TinyKV 2AB: replication. All logs of the paper's figure 7, and figure 8, are golden scripts
//! (`golden/raft/`).

use spaxos::consensus::message::{Body, ClusterBody, RaftBody};
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command, Index, NodeId, Round};

use super::common::cluster::Cluster;
use super::common::one_core::at;
use super::raft_core::{Core, append, entries, heartbeat, receivers, said_to};
use super::tinykv_election::{campaign, cluster};

each_protocol!(a_proposal_commits_only_with_a_quorum);

/// TinyKV 2AB: an append carries previous index and term and the commit index.
#[test]
fn an_append_carries_previous_index_and_term_and_the_commit_index() {
    let mut core = Core::with_log(3, 2, &[1, 2]).leader();
    let ballot = core.ballot();
    let _ = core.told(1, RaftBody::Appended { ballot, chosen: 0, matched: 3 });
    let _ = core.told(2, RaftBody::Appended { ballot, chosen: 0, matched: 3 });
    let batch = core.propose(7);
    assert_eq!(said_to(&batch, 2), ["Append 3.1 chosen=3 previous=3@3 [4@3.1:7=\"v\"]"]);
}

/// TinyKV 2AB: a majority commits, for 1, 3 and 5 nodes.
#[test]
fn a_majority_commits() {
    let cases: [(u64, &[NodeId], bool); 8] = [
        (1, &[], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[2], false),
        (5, &[2, 2], false),
        (5, &[2, 5], true),
        (5, &[2, 3, 4, 5], true),
    ];
    for (nodes, others, commits) in cases {
        let mut core = Core::new(nodes).leader();
        let ballot = core.ballot();
        for from in [1].iter().chain(others) {
            let _ = core.told(*from, RaftBody::Appended { ballot, chosen: 0, matched: 1 });
        }
        assert_eq!(core.status().chosen, Index::from(commits), "{nodes} nodes, with 1 and {others:?}");
    }
}

/// TinyKV 2AB: committing an entry commits those of earlier terms before it.
#[test]
fn committing_an_entry_commits_those_of_earlier_terms_before_it() {
    for log in [&[][..], &[2], &[1, 2], &[1]] {
        let mut core = Core::with_log(3, 2, log).leader();
        let (ballot, last) = (core.ballot(), log.len() as Index + 1);
        let _ = core.told(1, RaftBody::Appended { ballot, chosen: 0, matched: last });
        let batch = core.told(2, RaftBody::Appended { ballot, chosen: 0, matched: last });
        assert_eq!((ballot.round, batch.chosen), (3, Some(last)), "{log:?}");
    }
}

/// TinyKV 2AB: followers apply in order up to the leader's commit.
#[test]
fn followers_apply_in_order_up_to_the_leaders_commit() {
    for chosen in 0..=4 {
        let mut core = Core::new(3);
        let batch = core.told(2, append(1, chosen, at(0, 0), &[1, 1, 1, 1]));
        assert_eq!(batch.chosen.unwrap_or(0), chosen);
    }
    let mut cluster = cluster(ProtocolName::Raft, 3);
    campaign(&mut cluster, 1);
    for reqid in 1..=4 {
        let _ = cluster.propose(1, vec![Command::value(reqid, 1, "v")], 10_000);
    }
    cluster.settle();
    cluster.run(40);
    for id in cluster.ids() {
        let delivered: Vec<u64> =
            cluster.delivered(id).iter().map(|entry| entry.command.request.number).collect();
        assert_eq!(delivered, [1, 2, 3, 4], "node {id}");
    }
}

/// TinyKV 2AB: a previous entry that does not match is rejected.
#[test]
fn a_previous_entry_that_does_not_match_is_rejected() {
    let cases = [
        (at(0, 0), true),
        (at(1, 1), true),
        (at(2, 2), true),
        (at(1, 2), false),
        (at(2, 1), false),
        (at(3, 3), false),
    ];
    for (previous, matches) in cases {
        let mut core = Core::with_log(3, 3, &[1, 2]);
        let batch = core.told(2, append(3, 0, previous, &[]));
        let kind = if matches { "Appended" } else { "Mismatch" };
        assert_eq!(receivers(&batch, kind), [2], "{previous}");
        assert_eq!(core.status().last, 2);
    }
}

/// TinyKV 2AB: truncation only at a real conflict.
#[test]
fn truncation_only_at_a_real_conflict() {
    let cases: [(_, &[Round], Option<Index>, Index); 6] = [
        (at(2, 2), &[3], None, 3),
        (at(1, 1), &[3, 4], Some(2), 3),
        (at(0, 0), &[1], None, 2),
        (at(0, 0), &[], None, 2),
        (at(1, 1), &[2], None, 2),
        (at(0, 0), &[3], Some(1), 1),
    ];
    for (previous, rounds, truncates, last) in cases {
        let mut core = Core::with_log(3, 4, &[1, 2]);
        let batch = core.told(2, append(4, 0, previous, rounds));
        assert_eq!((batch.truncate, core.status().last), (truncates, last), "{rounds:?} after {previous}");
    }
}

/// TinyKV 2AB: a vote request carries last index and term.
#[test]
fn a_vote_request_carries_last_index_and_term() {
    for (log, last) in [(&[1][..], "1@1"), (&[1, 2], "2@2"), (&[], "0@0")] {
        let (mut core, asked) = Core::with_log(3, 2, log).until_it_asks();
        assert_eq!(said_to(&asked, 2), [format!("RequestPreVote 3.1 last={last}")]);
        let ballot = Ballot { round: 3, node: 1 };
        let batch = core.told(2, ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO });
        assert_eq!(said_to(&batch, 3), [format!("RequestVote 3.1 last={last}")]);
    }
}

/// TinyKV 2AB: a less up-to-date log gets no vote (nor a pre-vote).
#[test]
fn a_less_up_to_date_log_gets_no_vote() {
    let cases: [(&[Round], _, bool); 10] = [
        (&[1], at(1, 1), true),
        (&[1], at(2, 1), true),
        (&[1, 1], at(1, 1), false),
        (&[1], at(1, 2), true),
        (&[1], at(2, 2), true),
        (&[1, 1], at(1, 2), true),
        (&[2], at(1, 1), false),
        (&[2], at(2, 1), false),
        (&[1, 2], at(1, 1), false),
        (&[], at(0, 0), true),
    ];
    for (log, last, granted) in cases {
        let ballot = Ballot { round: 3, node: 2 };
        let mut core = Core::with_log(3, 2, log);
        let batch = core.told(2, RaftBody::RequestPreVote { ballot, last });
        let word = if granted { "granted" } else { "refused" };
        assert_eq!(said_to(&batch, 2), [format!("PreVoteReply 3.2 {word} promised=2.0")]);
        let batch = core.told(2, RaftBody::RequestVote { ballot, last });
        assert_eq!(receivers(&batch, "Vote") == [2], granted, "log {log:?}, candidate's {last}");
    }
}

/// TinyKV 2AB: replicas are counted for the current term only (figure 8; golden/raft/13 and 14).
#[test]
fn replicas_are_counted_for_the_current_term_only() {
    for (matched, chosen) in [(1, 0), (2, 0), (3, 3)] {
        let mut core = Core::with_log(3, 2, &[1, 2]).leader();
        let ballot = core.ballot();
        for from in [1, 2, 3] {
            let _ = core.told(from, RaftBody::Appended { ballot, chosen: 0, matched });
        }
        assert_eq!(core.status().chosen, chosen, "all have the log up to {matched}");
    }
}

/// TinyKV 2AB: a new leader's no-op commits old entries.
#[test]
fn a_new_leaders_noop_commits_old_entries() {
    let mut cluster = cluster(ProtocolName::Raft, 5);
    campaign(&mut cluster, 1);
    cluster.settle();
    for id in [3, 4, 5] {
        cluster.cut.extend([(1, id), (id, 1)]);
    }
    for reqid in [1, 2] {
        let _ = cluster.propose(1, vec![Command::value(reqid, 1, "v")], 10_000);
    }
    cluster.settle();
    assert_eq!(cluster.status(1).chosen, 1, "two of five have it");
    cluster.cut.clear();
    campaign(&mut cluster, 2);
    cluster.settle();
    assert_eq!((cluster.status(2).role, cluster.status(2).chosen), (Role::Leader, 4));
}

/// TinyKV 2AB: uncommitted newer entries are overwritten.
#[test]
fn uncommitted_newer_entries_are_overwritten() {
    // Nodes 1 and 2 have an entry of round 1; node 3 led round 2, by the votes of 4 and 5, and told nobody.
    let mut cluster = cluster(ProtocolName::Raft, 5);
    for (id, round, log) in [(1, 1, &[1][..]), (2, 1, &[1]), (3, 2, &[2]), (4, 2, &[]), (5, 2, &[])] {
        cluster.crash(id);
        cluster.write_log(id, round, entries(1, log));
        cluster.restart(id);
    }
    campaign(&mut cluster, 1);
    cluster.settle();
    cluster.run(40);
    assert_eq!((cluster.status(1).role, cluster.status(1).promised.round), (Role::Leader, 3));
    for id in cluster.ids() {
        assert_eq!(rounds(&cluster, id), [1, 3], "node {id}");
    }
}

/// TinyKV 2AB: a lagging heartbeat answer triggers an append; one that does not lag does not.
#[test]
fn a_lagging_heartbeat_answer_triggers_an_append() {
    let mut core = Core::with_log(3, 1, &[1]).leader();
    let ballot = core.ballot();
    let reply = |chosen| ClusterBody::HeartbeatReply { ballot, chosen, sent_ms: 0 };
    assert_eq!(receivers(&core.told(2, reply(0)), "Append"), [2]);
    assert_eq!(receivers(&core.told(2, reply(0)), "Append"), [2], "what was sent may be lost");
    for from in [1, 2] {
        let _ = core.told(from, RaftBody::Appended { ballot, chosen: 0, matched: 2 });
    }
    assert!(receivers(&core.told(2, reply(2)), "Append").is_empty());
}

/// TinyKV 2AB: of two candidates the one with the shorter log disrupts but loses. With pre-vote it does not
/// even disrupt while a leader is heard.
#[test]
fn the_candidate_with_the_shorter_log_loses() {
    let mut cluster = cluster(ProtocolName::Raft, 3);
    cluster.cut.extend([(1, 3), (3, 1)]);
    campaign(&mut cluster, 1);
    cluster.settle();
    let _ = cluster.propose(1, vec![Command::value(1, 1, "v")], 10_000);
    cluster.settle();
    cluster.run(300);
    assert_eq!((cluster.status(1).role, cluster.status(3).role), (Role::Leader, Role::Candidate));
    assert_eq!(cluster.status(3).last, 0);
    // The leader ends: now node 2 may win, and node 3 may not, whichever asks first.
    cluster.crash(1);
    cluster.run(600);
    assert_eq!((cluster.status(2).role, cluster.status(3).role), (Role::Leader, Role::Follower));
    cluster.restart(1);
    cluster.run(100);
    for id in cluster.ids() {
        assert_eq!(cluster.delivered(id).len(), 1, "node {id}");
    }
}

/// TinyKV 2AB: old messages are ignored.
#[test]
fn old_messages_are_ignored() {
    let mut core = Core::with_log(3, 3, &[1, 2, 3]);
    let before = core.status();
    let batch = core.told(2, append(2, 3, at(2, 2), &[2]));
    assert_eq!(said_to(&batch, 2), ["Refuse 2.2 promised=3.0"]);
    let batch = core.told(2, heartbeat(2, 3));
    assert_eq!(said_to(&batch, 2), ["Refuse 2.2 promised=3.0"]);
    let ballot = Ballot { round: 2, node: 2 };
    let batch = core.told(2, RaftBody::RequestVote { ballot, last: at(9, 2) });
    assert_eq!(said_to(&batch, 2), ["Refuse 2.2 promised=3.0"]);
    assert_eq!(core.status(), before);
    // Answers to what it said in an earlier round.
    let mut core = Core::with_log(3, 3, &[]).leader();
    let before = core.status();
    let ballot = Ballot { round: 3, node: 1 };
    let late: [Body; 4] = [
        RaftBody::Vote { ballot }.into(),
        RaftBody::Appended { ballot, chosen: 0, matched: 1 }.into(),
        RaftBody::Mismatch { ballot, chosen: 0, previous: 1, hint: at(0, 0) }.into(),
        ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms: 0 }.into(),
    ];
    for body in late {
        assert!(core.told(2, body).is_empty());
        assert_eq!(core.status(), before);
    }
}

/// TinyKV 2AB: a proposal commits only with a quorum.
fn a_proposal_commits_only_with_a_quorum(protocol: ProtocolName) {
    for (nodes, down, commits) in
        [(3, 0, true), (3, 1, true), (3, 2, false), (5, 2, true), (5, 3, false), (5, 4, false)]
    {
        let mut cluster = cluster(protocol, nodes);
        campaign(&mut cluster, 1);
        cluster.settle();
        (0..down).for_each(|node| cluster.crash(nodes - node));
        let _ = cluster.propose(1, vec![Command::value(1, 1, "v")], 10_000);
        cluster.settle();
        let delivered = cluster.delivered(1).len() == 1;
        assert_eq!(delivered, commits, "{protocol}: {down} of {nodes} are down");
    }
}

/// TinyKV 2AB: commit = min(leader's, last new entry).
#[test]
fn commit_is_the_lower_of_the_leaders_and_the_last_new_entry() {
    let cases: [(&[Round], Index, Index); 5] =
        [(&[], 1, 1), (&[], 3, 1), (&[2], 2, 2), (&[2], 4, 2), (&[2, 2], 2, 2)];
    for (rounds, leaders, chosen) in cases {
        // What the follower has beyond the new entries did not match.
        let mut core = Core::with_log(3, 2, &[1, 1, 1]);
        let _ = core.told(2, append(2, leaders, at(1, 1), rounds));
        assert_eq!(core.status().chosen, chosen, "{rounds:?}, leader's {leaders}");
    }
}

/// TinyKV 2AB: a heartbeat alone never commits what did not match.
#[test]
fn a_heartbeat_alone_never_commits_what_did_not_match() {
    let mut core = Core::with_log(3, 1, &[1, 1]);
    assert_eq!(core.told(2, heartbeat(2, 2)).chosen, None);
    assert_eq!(core.told(2, append(2, 2, at(1, 1), &[])).chosen, Some(1));
    assert_eq!(core.told(2, heartbeat(2, 2)).chosen, None);
    assert_eq!(core.told(2, append(2, 0, at(1, 1), &[1])).chosen, Some(2));
}

/// TinyKV 2AB: next advances after replication.
#[test]
fn next_advances_after_replication() {
    let mut core = Core::with_log(3, 1, &[1, 1]).leader();
    let ballot = core.ballot();
    // The first Append probes: another one waits for its answer.
    assert!(receivers(&core.propose(1), "Append").is_empty());
    let batch = core.told(2, RaftBody::Appended { ballot, chosen: 0, matched: 3 });
    assert_eq!(said_to(&batch, 2), ["Append 2.1 chosen=0 previous=3@2 [4@2.1:1=\"v\"]"]);
    // From then on each begins where the last one ended.
    for reqid in 2..5 {
        let batch = core.propose(reqid);
        let (previous, index) = (reqid + 2, reqid + 3);
        assert_eq!(
            said_to(&batch, 2),
            [format!("Append 2.1 chosen=0 previous={previous}@2 [{index}@2.1:{reqid}=\"v\"]")]
        );
    }
    // One that did not match goes back.
    let batch = core.told(2, RaftBody::Mismatch { ballot, chosen: 0, previous: 6, hint: at(4, 2) });
    assert!(said_to(&batch, 2)[0].starts_with("Append 2.1 chosen=0 previous=4@2 [5@2.1"));
}

fn rounds(cluster: &Cluster, id: NodeId) -> Vec<Round> {
    cluster.disk(id).1.iter().map(|entry| entry.ballot.round).collect()
}
