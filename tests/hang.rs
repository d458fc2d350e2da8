//! A leader whose disk hangs, or whose log file takes no lines, makes way: the clients of the other nodes are
//! served again within 4 T, and it no longer says that it leads after 2 T. In virtual time; real disks are in
//! `cluster/hung.rs`.

#[macro_use]
mod common;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::sim::{Hang, hang};

use common::seeds::each_seed;

each_protocol!(
    a_leader_whose_disk_hangs_makes_way,
    a_leader_whose_log_file_takes_no_lines_makes_way,
    a_leader_makes_way_with_one_follower_down,
);

fn a_leader_whose_disk_hangs_makes_way(protocol: ProtocolName) {
    for nodes in [3, 5] {
        makes_way(protocol, nodes, false, Hang::Disk);
    }
}

fn a_leader_whose_log_file_takes_no_lines_makes_way(protocol: ProtocolName) {
    for nodes in [2, 3, 5] {
        makes_way(protocol, nodes, false, Hang::LogFile);
    }
}

/// A node with a hung disk cannot vote, so of three nodes none may be down.
fn a_leader_makes_way_with_one_follower_down(protocol: ProtocolName) {
    makes_way(protocol, 5, true, Hang::Disk);
    makes_way(protocol, 3, true, Hang::LogFile);
}

fn makes_way(protocol: ProtocolName, nodes: u64, down: bool, what: Hang) {
    each_seed(0..4, |seed| {
        let made_way = hang(seed, protocol, nodes, down, what);
        assert!(
            made_way.is_in_time(),
            "{what}, {nodes} nodes of {protocol}, one down: {down}, seed {seed}: {made_way:?}"
        );
    });
}
