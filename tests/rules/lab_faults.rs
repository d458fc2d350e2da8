//! Lab 2C: crashes, restarts and bad networks. The lab's real-time tests of minutes are virtual time here.

use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::NodeId;

use super::lab::{Lab, T, each_lab};

each_protocol!(
    persistence_1,
    persistence_2,
    persistence_3,
    figure_8,
    unreliable_agreement,
    figure_8_with_reordering,
    churn,
    churn_unreliable,
);

/// Lab 2: persistence 1: crashes and restarts, of all, of the leader, of a follower.
fn persistence_1(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        assert_eq!(lab.one(3), 1);
        (1..=3).for_each(|id| lab.crash(id));
        (1..=3).for_each(|id| lab.start(id));
        assert_eq!(lab.one(3), 2, "{protocol}: after a restart of all");
        let leader = lab.leader();
        lab.crash(leader);
        lab.start(leader);
        assert_eq!(lab.one(3), 3, "{protocol}: after a restart of the leader");
        let leader = lab.leader();
        lab.crash(leader);
        assert_eq!(lab.one(2), 4, "{protocol}: without the leader");
        lab.start(leader);
        let leader = lab.leader();
        let follower = lab.next(leader, 1);
        lab.crash(follower);
        assert_eq!(lab.one(2), 5, "{protocol}: without a follower");
        lab.start(follower);
        assert_eq!(lab.one(3), 6, "{protocol}");
    });
}

/// Lab 2: persistence 2: two and three servers in turn are cut off and restarted.
fn persistence_2(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        for _ in 0..5 {
            let _ = lab.one(5);
            let leader = lab.leader();
            let [a, b, c, d] = [1, 2, 3, 4].map(|step| lab.next(leader, step));
            [a, b].into_iter().for_each(|id| lab.disconnect(id));
            let _ = lab.one(3);
            [leader, c, d].into_iter().for_each(|id| lab.disconnect(id));
            for id in [a, b] {
                lab.crash(id);
                lab.start(id);
            }
            lab.run(T);
            lab.crash(c);
            lab.start(c);
            let _ = lab.one(3);
            [leader, d].into_iter().for_each(|id| lab.connect(id));
        }
        assert_eq!(lab.one(5), 16, "{protocol}");
    });
}

/// Lab 2: persistence 3: the leader and a follower crash while the other follower is cut off.
fn persistence_3(protocol: ProtocolName) {
    each_lab(protocol, 3, |mut lab| {
        let _ = lab.one(3);
        let leader = lab.leader();
        let [follower, away] = [1, 2].map(|step| lab.next(leader, step));
        lab.disconnect(away);
        let _ = lab.one(2);
        lab.crash(leader);
        lab.crash(follower);
        lab.connect(away);
        lab.start(leader);
        assert_eq!(lab.one(2), 3, "{protocol}");
        lab.start(follower);
        assert_eq!(lab.one(3), 4, "{protocol}");
    });
}

/// Lab 2: figure 8: leaders that crash soon after they appended something.
fn figure_8(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        let _ = lab.one(1);
        for _ in 0..1500 {
            let leaders = propose_at_all_leaders(&mut lab);
            nap(&mut lab);
            if let Some(leader) = leaders.last() {
                lab.crash(*leader);
            }
            if lab.up().len() < 3 {
                let id = lab.random.between(1, 6);
                if !lab.cluster.is_up(id) {
                    lab.start(id);
                }
            }
        }
        all_back(&mut lab);
        let _ = lab.one(5);
        agreed(&lab);
    });
}

/// Lab 2: unreliable agreement.
fn unreliable_agreement(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        lab.unreliable = true;
        let mut requests = Vec::new();
        for _ in 0..50 {
            let _ = lab.one(1);
            let leader = lab.connected().into_iter().find(|id| lab.leads(*id)).unwrap_or(1);
            requests.extend([(); 4].map(|()| lab.propose(leader, b"x", 10_000)));
        }
        lab.unreliable = false;
        let _ = lab.one(5);
        let lost: Vec<_> = requests.iter().filter(|request| lab.delivered(**request) == 0).collect();
        assert!(lost.is_empty(), "{protocol}: {lost:?} of 200 are lost");
    });
}

/// Lab 2: figure 8 with reordering, on an unreliable network.
fn figure_8_with_reordering(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        lab.unreliable = true;
        let _ = lab.one(1);
        for iteration in 0..1000 {
            lab.long_reordering |= iteration == 200;
            let leaders = propose_at_all_leaders(&mut lab);
            nap(&mut lab);
            if let Some(leader) = leaders.last()
                && lab.one_in(2)
            {
                lab.disconnect(*leader);
            }
            if lab.connected().len() < 3 {
                let id = lab.random.between(1, 6);
                lab.connect(id);
            }
        }
        all_back(&mut lab);
        let _ = lab.one(5);
        agreed(&lab);
    });
}

/// Lab 2: churn, reliable: every value seen committed stays.
fn churn(protocol: ProtocolName) {
    each_lab(protocol, 5, churn_on);
}

/// Lab 2: churn, unreliable: every value seen committed stays.
fn churn_unreliable(protocol: ProtocolName) {
    each_lab(protocol, 5, |mut lab| {
        lab.unreliable = true;
        churn_on(lab);
    });
}

/// Three clients propose wherever a server leads, while servers are cut off, crash and come back.
fn churn_on(mut lab: Lab) {
    let mut open: Vec<u64> = Vec::new();
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..80 {
        let victim = victim(&mut lab);
        if lab.one_in(5) {
            lab.disconnect(victim);
        }
        let id = lab.random.between(1, 6);
        if lab.one_in(2) {
            if !lab.cluster.is_up(id) {
                lab.start(id);
            }
            lab.connect(id);
        }
        if lab.one_in(5) && lab.cluster.is_up(victim) {
            lab.crash(victim);
        }
        for _ in 0..3 {
            for leader in lab.up().into_iter().filter(|id| lab.leads(*id)).collect::<Vec<_>>() {
                open.extend([(); 3].map(|()| lab.propose(leader, b"x", 500)));
            }
            lab.run(T * 7 / 30);
            seen.extend(open.extract_if(.., |request| lab.delivered(*request) > 0));
        }
    }
    lab.run(T);
    lab.unreliable = false;
    all_back(&mut lab);
    let _ = lab.one(5);
    assert!(seen.len() > 10, "only {} values were seen committed", seen.len());
    let lost: Vec<_> = seen.iter().filter(|request| lab.delivered(**request) < 5).collect();
    assert!(lost.is_empty(), "{lost:?} of {} are lost", seen.len());
    agreed(&lab);
}

/// The leader, every other time; otherwise any server.
fn victim(lab: &mut Lab) -> NodeId {
    let leader = lab.connected().into_iter().find(|id| lab.leads(*id));
    let anyone = lab.random.between(1, 6);
    leader.filter(|_| lab.one_in(2)).unwrap_or(anyone)
}

/// Each server that leads takes a command. Returns those that did.
fn propose_at_all_leaders(lab: &mut Lab) -> Vec<NodeId> {
    let leaders: Vec<NodeId> = lab.up().into_iter().filter(|id| lab.leads(*id)).collect();
    for leader in &leaders {
        let _ = lab.propose(*leader, b"x", 1000);
    }
    leaders
}

/// Most of the time up to the lab's 13 ms, now and then up to half an election timeout.
fn nap(lab: &mut Lab) {
    let ms = if lab.one_in(10) { lab.random.between(0, T / 2) } else { lab.random.between(0, 14) };
    lab.run(ms);
}

fn all_back(lab: &mut Lab) {
    for id in lab.cluster.ids() {
        if !lab.cluster.is_up(id) {
            lab.start(id);
        }
        lab.connect(id);
    }
}

/// All servers delivered the same commands, after enough elections.
fn agreed(lab: &Lab) {
    let reached = lab.cluster.reached();
    assert!(reached.elections > 5, "{reached:?}");
    let logs: Vec<_> = lab.cluster.ids().map(|id| lab.cluster.delivered(id)).collect();
    let shortest = logs.iter().map(Vec::len).min().unwrap_or(0);
    assert!(shortest > 5, "{shortest} commands");
    for log in &logs {
        let commands = |log: &[spaxos::consensus::types::Entry]| {
            log[..shortest].iter().map(|entry| entry.command.clone()).collect::<Vec<_>>()
        };
        assert_eq!(commands(log), commands(&logs[0]));
    }
}
