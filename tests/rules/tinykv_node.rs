//! TinyKV 2AC, the raw node, and 3A, leadership transfer. What clients see of a transfer: `golden/shared/24`
//! to `27`.

use spaxos::consensus::message::{Body, ClusterBody, RaftBody};
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command};

use super::common::one_core::at;
use super::raft_core::{Core, T, receivers};
use super::tinykv_election::{campaign, cluster};

each_protocol!(
    a_restarted_node_first_yields_the_committed_entries_and_no_hard_state,
    transfer_to_an_up_to_date_node,
    transfer_to_a_slow_node,
);

/// TinyKV 2AC: a started node of one yields its entry and commit, then nothing more.
#[test]
fn a_started_node_of_one_yields_its_entry_and_commit_then_nothing_more() {
    let mut core = Core::new(1);
    let elected = core.tick();
    assert_eq!(elected.hard_state.map(|hard_state| hard_state.promised), Some(Ballot { round: 1, node: 1 }));
    let leading = core.flushed(&elected);
    assert_eq!((leading.entries.len(), leading.chosen), (1, None), "its no-op, chosen when it is durable");
    assert_eq!(core.flushed(&leading).chosen, Some(1));
    let proposed = core.propose(7);
    assert_eq!((proposed.entries.len(), proposed.chosen), (1, None));
    let chosen = core.flushed(&proposed);
    assert_eq!((chosen.chosen, chosen.must_write()), (Some(2), false));
    for _ in 0..5 * T {
        assert!(core.tick().is_empty(), "nothing more");
    }
}

/// TinyKV 2AC: restarted, a node first yields the committed entries and no hard state. (Here the applier goes
/// through the log; the core itself says nothing.)
fn a_restarted_node_first_yields_the_committed_entries_and_no_hard_state(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    campaign(&mut cluster, 1);
    for reqid in 1..=3 {
        let _ = cluster.propose(1, vec![Command::value(reqid, 1, "v")], 10_000);
    }
    cluster.settle();
    cluster.run(60);
    let _ = cluster.propose(1, vec![Command::value(4, 1, "v")], 10_000);
    cluster.settle();
    cluster.crash(2);
    let (hard_state, _) = cluster.disk(2);
    cluster.restart(2);
    assert_eq!(cluster.delivered(2).len(), 3, "{protocol}");
    assert_eq!((cluster.status(2).chosen, cluster.status(2).promised), (4, hard_state.promised));
    assert!(cluster.tick(2, 10).is_empty(), "{protocol}: nothing to write, nothing to say");
}

/// TinyKV 3A: transfer to an up-to-date node: it leads within one exchange, whoever it is.
fn transfer_to_an_up_to_date_node(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    campaign(&mut cluster, 1);
    cluster.settle();
    cluster.run(40);
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        let _ = cluster.transfer(from, to);
        cluster.settle();
        cluster.run(40);
        assert_eq!(cluster.status(to).role, Role::Leader, "{protocol}: from {from} to {to}");
        assert_eq!(cluster.status(from).role, Role::Follower);
    }
}

/// TinyKV 3A: transfer to a slow node, which is first caught up.
fn transfer_to_a_slow_node(protocol: ProtocolName) {
    let mut cluster = cluster(protocol, 3);
    campaign(&mut cluster, 1);
    cluster.settle();
    cluster.cut.extend([(1, 3), (3, 1), (2, 3), (3, 2)]);
    for reqid in 1..=3 {
        let _ = cluster.propose(1, vec![Command::value(reqid, 1, "v")], 10_000);
    }
    cluster.settle();
    cluster.cut.clear();
    assert_eq!(cluster.delivered(3).len(), 0);
    let _ = cluster.transfer(1, 3);
    cluster.run(80);
    assert_eq!(cluster.status(3).role, Role::Leader, "{protocol}");
    assert_eq!(cluster.delivered(3).len(), 3, "{protocol}");
}

/// TinyKV 3A: transfer to self, or to an unknown node: nothing.
#[test]
fn transfer_to_self_or_to_an_unknown_node_is_nothing() {
    let mut core = Core::new(3).leader();
    for to in [0, 1, 4] {
        assert!(core.transfer(to).is_empty(), "to {to}");
        assert_eq!(core.status().role, Role::Leader);
    }
    assert_eq!(core.propose(1).entries.len(), 1, "it goes on placing");
}

/// TinyKV 3A: a higher-term vote aborts a transfer.
#[test]
fn a_higher_term_vote_aborts_a_transfer() {
    let mut core = Core::new(3).leader();
    let ballot = core.ballot();
    for from in [1, 2, 3] {
        let _ = core.told(from, RaftBody::Appended { ballot, chosen: 0, matched: 1 });
    }
    assert_eq!(receivers(&core.transfer(3), "TimeoutNow"), [3]);
    let ballot = Ballot { round: 5, node: 2 };
    let batch = core.told(2, RaftBody::RequestVote { ballot, last: at(1, 1) });
    assert_eq!(receivers(&batch, "Vote"), [2]);
    assert_eq!(core.status().role, Role::Follower);
    for _ in 0..T / 2 {
        assert!(receivers(&core.tick(), "TimeoutNow").is_empty());
    }
}

/// TinyKV 3A: while it hands over, a leader places nothing, and if nobody takes over in time it goes on.
#[test]
fn a_transfer_that_comes_to_nothing_ends() {
    let mut core = Core::new(3).leader();
    let ballot = core.ballot();
    let _ = core.transfer(3);
    assert!(core.propose(1).entries.is_empty());
    let mut placed = 0;
    for _ in 0..T {
        let batch = core.tick();
        placed += batch.entries.len();
        for message in batch.early {
            if let (2, Body::Cluster(ClusterBody::Heartbeat { sent_ms, .. })) = (message.to, message.body) {
                let _ = core.told(2, ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms });
            }
        }
    }
    assert_eq!((placed, core.status().role), (1, Role::Leader));
}
