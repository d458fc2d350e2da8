//! Lab 2A: elections.

use spaxos::consensus::protocols::ProtocolName;

use super::lab::{T, each_lab};

each_protocol!(initial_election, re_election, many_elections, counts_of_an_election_and_an_idle_second);

/// Lab 2: initial election: one leader, and the term stays.
fn initial_election(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let leader = lab.leader();
        let term = lab.term();
        assert!(term >= 1);
        lab.run(2 * T);
        assert_eq!(lab.term(), term, "{protocol}: nothing failed, so the term stays");
        assert_eq!(lab.leader(), leader);
    });
}

/// Lab 2: re-election: after the leader is cut off a new one; no leader without a quorum; the old one
/// rejoining changes nothing.
fn re_election(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let first = lab.leader();
        lab.disconnect(first);
        let second = lab.leader();
        assert_ne!(first, second);
        lab.connect(first);
        assert_eq!(lab.leader(), second, "{protocol}: the old leader is back");
        lab.disconnect(second);
        let third = lab.next(second, 1);
        lab.disconnect(third);
        lab.run(2 * T);
        lab.no_leader();
        lab.connect(third);
        let leader = lab.leader();
        lab.connect(second);
        assert_eq!(lab.leader(), leader, "{protocol}: the last one is back");
    });
}

/// Lab 2: many elections: 7 nodes, 3 cut at random, always a leader among a majority.
fn many_elections(protocol: ProtocolName) {
    each_lab(protocol, 7, |mut lab| {
        let _ = lab.leader();
        for _ in 0..10 {
            let cut: Vec<u64> = (0..3).map(|_| lab.random.between(1, 8)).collect();
            cut.iter().for_each(|id| lab.disconnect(*id));
            let _ = lab.leader();
            cut.iter().for_each(|id| lab.connect(*id));
        }
        let _ = lab.leader();
    });
}

/// Lab 2: counts: at most 30 messages to elect, 60 an idle second. The lab counts requests; here answers
/// count as well.
fn counts_of_an_election_and_an_idle_second(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.leader();
        let elected = std::mem::take(&mut lab.sent);
        lab.run(1000);
        let idle = std::mem::take(&mut lab.sent);
        println!("{protocol}: to elect {elected:?}, an idle second {idle:?}");
        assert!(elected.requests + elected.answers <= 30, "{protocol}: {elected:?}");
        assert!(idle.requests + idle.answers <= 60, "{protocol}: {idle:?}");
    });
}
