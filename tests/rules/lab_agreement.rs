//! Lab 2B: agreement.

use spaxos::consensus::protocols::ProtocolName;

use super::lab::{HEARTBEAT_MS, T, each_lab};

each_protocol!(
    basic_agreement,
    bytes_on_the_wire,
    counts_of_a_batch,
    follower_failure,
    leader_failure,
    a_reconnected_follower_agrees,
    no_agreement_with_three_of_five_away,
    concurrent_starts,
    rejoin,
    back_up_quickly,
);

/// Lab 2: basic agreement: commands at 1, 2, 3; nothing is delivered before it is proposed.
fn basic_agreement(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.leader();
        for number in 1..=3 {
            assert!(lab.cluster.ids().all(|id| lab.cluster.delivered(id).len() < number));
            assert_eq!(lab.one(3), number, "{protocol}");
        }
    });
}

/// Lab 2: bytes on the wire at most servers × payload + 50,000: each peer is sent a command once.
fn bytes_on_the_wire(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one_of(b"99", 3);
        lab.sent = Default::default();
        let payload = vec![b'x'; 5000];
        for _ in 0..10 {
            let _ = lab.one_of(&payload, 3);
        }
        println!("{protocol}: {:?} for 50,000 bytes of commands", lab.sent);
        assert!(lab.sent.bytes <= 3 * 50_000 + 50_000, "{protocol}: {:?}", lab.sent);
    });
}

/// Lab 2: counts: at most 42 messages for a batch of 10. The lab counts requests, so do we. (Proposals that
/// arrive one by one are ten Appends to each; what arrives in one turn is one.)
fn counts_of_a_batch(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let leader = lab.leader();
        lab.sent = Default::default();
        let requests: Vec<u64> = (0..10).map(|_| lab.propose(leader, b"x", 1000)).collect();
        while !requests.iter().all(|request| lab.delivered(*request) == 3) {
            lab.run(1);
        }
        println!("{protocol}: {:?} for a batch of 10", lab.sent);
        assert!(lab.sent.requests <= 42, "{protocol}: {:?}", lab.sent);
    });
}

/// Lab 2: follower failure: progress with a majority, nothing committed without.
fn follower_failure(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let leader = lab.leader();
        lab.disconnect(lab.next(leader, 1));
        let _ = lab.one(2);
        lab.run(T);
        let _ = lab.one(2);
        let leader = lab.leader();
        for step in 1..3 {
            lab.disconnect(lab.next(leader, step));
        }
        let request = lab.propose(leader, b"x", 1000);
        lab.run(2 * T);
        assert_eq!(lab.delivered(request), 0, "{protocol}: without a majority");
    });
}

/// Lab 2: leader failure: progress with a majority, nothing committed without.
fn leader_failure(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let first = lab.leader();
        lab.disconnect(first);
        let _ = lab.one(2);
        lab.run(T);
        let _ = lab.one(2);
        let second = lab.leader();
        lab.disconnect(second);
        let requests: Vec<u64> =
            lab.cluster.ids().collect::<Vec<_>>().iter().map(|id| lab.propose(*id, b"x", 1000)).collect();
        lab.run(2 * T);
        assert!(
            requests.iter().all(|request| lab.delivered(*request) == 0),
            "{protocol}: without a majority"
        );
    });
}

/// Lab 2: a reconnected follower agrees.
fn a_reconnected_follower_agrees(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let leader = lab.leader();
        let away = lab.next(leader, 1);
        lab.disconnect(away);
        for _ in 0..2 {
            let _ = lab.one(2);
        }
        lab.run(T);
        for _ in 0..2 {
            let _ = lab.one(2);
        }
        lab.connect(away);
        let _ = lab.one(3);
        lab.run(T);
        assert_eq!(lab.one(3), 7, "{protocol}");
        assert_eq!(lab.cluster.delivered(away).len(), 7, "{protocol}");
    });
}

/// Lab 2: no agreement with 3 of 5 away, and none of those entries survive wrongly: once they are back, all
/// servers have the same, with or without that entry (the observer compares each delivery).
fn no_agreement_with_three_of_five_away(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        let _ = lab.one(5);
        let leader = lab.leader();
        let away: Vec<u64> = (1..4).map(|step| lab.next(leader, step)).collect();
        away.iter().for_each(|id| lab.disconnect(*id));
        let request = lab.propose(leader, b"x", 100);
        lab.run(2 * T);
        assert_eq!(lab.delivered(request), 0, "{protocol}");
        away.iter().for_each(|id| lab.connect(*id));
        let _ = lab.leader();
        let number = lab.one(5);
        assert!((2..=3).contains(&number), "{protocol}: {number}");
        assert!([0, 5].contains(&lab.delivered(request)), "{protocol}: all or none");
    });
}

/// Lab 2: 5 concurrent starts all commit.
fn concurrent_starts(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let leader = lab.leader();
        let term = lab.term();
        let requests: Vec<u64> = (0..5).map(|_| lab.propose(leader, b"x", 1000)).collect();
        lab.run(2 * HEARTBEAT_MS);
        let mut numbers: Vec<usize> = requests.iter().map(|request| lab.number(*request)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5], "{protocol}");
        assert!(requests.iter().all(|request| lab.delivered(*request) == 3), "{protocol}");
        assert_eq!(lab.term(), term, "{protocol}");
    });
}

/// Lab 2: rejoin: an old leader's uncommitted entries are dropped. In Paxos those beyond what others chose
/// may be chosen later: the leader that adopts them cannot know that nobody was told so. In both, all servers
/// have the same in the end.
fn rejoin(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let first = lab.leader();
        lab.disconnect(first);
        let lost: Vec<u64> = (0..3).map(|_| lab.propose(first, b"lost", 100)).collect();
        let _ = lab.one(2);
        let second = lab.leader();
        lab.disconnect(second);
        lab.connect(first);
        let _ = lab.one(2);
        lab.connect(second);
        let _ = lab.one(3);
        if protocol == ProtocolName::Raft {
            assert!(lost.iter().all(|request| lab.delivered(*request) == 0), "{protocol}");
            assert_eq!(lab.one(3), 5, "{protocol}");
        }
    });
}

/// Lab 2: back up quickly over long divergent logs.
fn back_up_quickly(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        let _ = lab.one(5);
        // A leader and one follower with 50 entries that do not get chosen.
        let first = lab.leader();
        (2..5).for_each(|step| lab.disconnect(lab.next(first, step)));
        for _ in 0..50 {
            let _ = lab.propose(first, b"lost", 100);
        }
        lab.run(T / 2);
        (0..2).for_each(|step| lab.disconnect(lab.next(first, step)));
        (2..5).for_each(|step| lab.connect(lab.next(first, step)));
        // The other three choose 50, then one of them is cut off and their leader has 50 more with nobody's
        // help.
        for _ in 0..50 {
            let _ = lab.one(3);
        }
        let second = lab.leader();
        let other = (2..5).map(|step| lab.next(first, step)).find(|id| *id != second).expect("there are two");
        lab.disconnect(other);
        for _ in 0..50 {
            let _ = lab.propose(second, b"lost", 100);
        }
        lab.run(T / 2);
        // Those from the beginning come back with the one that was cut off, and choose 50 more.
        lab.cluster.ids().for_each(|id| lab.disconnect(id));
        [first, lab.next(first, 1), other].into_iter().for_each(|id| lab.connect(id));
        for _ in 0..50 {
            let _ = lab.one(3);
        }
        // All are back. The first entry that all have is delivered within one round of the network for each
        // term.
        lab.cluster.ids().for_each(|id| lab.connect(id));
        let _ = lab.leader();
        let begin_ms = lab.now_ms();
        let _ = lab.one(5);
        let took_ms = lab.now_ms() - begin_ms;
        assert!(took_ms <= 2 * HEARTBEAT_MS, "{protocol}: {took_ms} ms");
    });
}
