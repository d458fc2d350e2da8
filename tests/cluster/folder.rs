//! Data directories: wiped, foreign, locked, founded with other members; and what `dump` shows of one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options, SPAXOS, run};
use super::load::{Load, propose_all};
use crate::common::outside::{own_address, wait_until};

each_protocol!(
    a_wiped_node_is_refused,
    a_foreign_or_locked_directory_is_refused,
    another_set_of_members_is_refused,
    a_port_that_is_taken_is_refused,
    changed_addresses_are_used_and_logged,
    dump_shows_what_the_log_shows,
    a_dump_that_ends_early_leaves_nothing,
);

/// A node whose data directory was removed is refused by the nodes that know it, and ends with exit code 2
/// and plain words; the others go on.
fn a_wiped_node_is_refused(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    cluster.settle(1);
    let wiped = cluster.follower();
    let node = cluster.node(wiped);
    node.stop();
    fs::remove_dir_all(&node.data).unwrap();
    let (code, words) = node.start_and_fail();
    assert_eq!(code, Some(2), "{words}");
    assert!(
        words.contains("disk was wiped or replaced") && words.contains("run on without this node"),
        "{words}"
    );
    let survivor = cluster.nodes.keys().copied().find(|id| *id != wiped).unwrap();
    cluster.nodes[&survivor].propose_until_chosen(2, "goes on");
}

/// A data directory of another node or cluster, or one that a process uses, is exit code 2 with plain words;
/// nobody is harmed.
fn a_foreign_or_locked_directory_is_refused(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    cluster.settle(1);
    let other = SocketAddr::new(cluster.nodes[&1].client.ip(), 9009);
    let config = fs::read_to_string(&cluster.nodes[&1].config).unwrap();

    let refused = |cluster: &Cluster, text: String, expected: &str| {
        let path = cluster.dir.path().join("other.toml");
        fs::write(&path, text).unwrap();
        let arguments = [path.to_str().unwrap(), &other.to_string()];
        let output = run(super::harness::SIMPLESVR, &arguments, cluster.dir.path());
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && words.contains(expected), "{output:?}");
    };
    refused(&cluster, config.clone(), "in use by another process");
    cluster.node(1).stop();
    refused(&cluster, config.replace("node = 1\nprotocol", "node = 2\nprotocol"), "belongs to node 1");
    refused(&cluster, config.replace("\"test\"", "\"prod\""), "belongs to cluster test");
    cluster.node(1).start();
    cluster.settle(2);
    cluster.check_logs();
}

/// Members other than those that the directory was founded with are exit code 1, with both sets.
fn another_set_of_members_is_refused(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let ip = cluster.nodes[&1].client.ip();
    let node = cluster.node(1);
    node.stop();
    let config = fs::read_to_string(&node.config).unwrap();
    fs::write(&node.config, config.replace("node = 3\naddress", "node = 4\naddress")).unwrap();
    let (code, words) = node.start_and_fail();
    assert_eq!(code, Some(1), "{words}");
    for set in [
        format!("{{1 {ip}:10001, 2 {ip}:10002, 3 {ip}:10003}}"),
        format!("{{1 {ip}:10001, 2 {ip}:10002, 4 {ip}:10003}}"),
    ] {
        assert!(words.contains(&set), "{words} does not name {set}");
    }
    fs::write(&node.config, config).unwrap();
    node.start();
}

/// A port that is taken is exit code 1, and says which; the data directory can be used afterwards.
fn a_port_that_is_taken_is_refused(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let ip = cluster.nodes[&1].client.ip();
    for (port, whose) in [(9001, "clients"), (10_001, "peers")] {
        let taken = std::net::TcpListener::bind((ip, port)).unwrap();
        let (code, words) = cluster.node(1).start_and_fail();
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&format!("cannot listen for {whose} on {ip}:{port}")), "{words}");
        drop(taken);
    }
    cluster.start_all();
}

/// Changed addresses of the same members are used, and logged.
fn changed_addresses_are_used_and_logged(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    cluster.settle(1);
    cluster.nodes.values_mut().for_each(|node| node.stop());
    let old = cluster.nodes[&1].client.ip();
    let new = own_address(&[10_001, 10_002, 10_003]);
    for node in cluster.nodes.values() {
        let config = fs::read_to_string(&node.config).unwrap();
        fs::write(&node.config, config.replace(&old.to_string(), &new.to_string())).unwrap();
    }
    cluster.start_all();
    for node in cluster.nodes.values() {
        let line = format!("node 2 is at {new}:10002 now; the cluster was founded with {old}:10002");
        wait_until(&line, || fs::read_to_string(&node.log).unwrap().contains(&line));
    }
    cluster.settle(2);
    cluster.check_logs();
}

/// A dump that is interrupted, while it waits for a reader, removes its copy; one whose reader has seen
/// enough ends without an error.
fn a_dump_that_ends_early_leaves_nothing(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 1));
    propose_all(cluster.nodes[&1].client, 1..2000, &[b'x'; 128]);
    cluster.node(1).stop();
    let temporary = cluster.dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let left = || fs::read_dir(&temporary).unwrap().count();
    let dump = || {
        let mut command = Command::new(SPAXOS);
        command.arg("dump").arg(&cluster.nodes[&1].data).env("TMPDIR", &temporary);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut child = dump();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(left(), 1, "it works on a copy");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal.as_raw()));
        assert_eq!(left(), 0, "the copy is left");
    }
    let mut child = dump();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(left(), 0, "the copy is left");
}

/// `spaxos dump DIR` of a stopped node shows what its log shows; that of a running one is refused.
fn dump_shows_what_the_log_shows(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1);
    load.wait_for_more(60);
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    let data = cluster.nodes[&2].data.to_str().unwrap().to_owned();
    let locked = run(SPAXOS, &["dump", &data], cluster.dir.path());
    assert!(!locked.status.success());
    assert!(String::from_utf8_lossy(&locked.stderr).contains("in use by another process"), "{locked:?}");
    cluster.node(2).stop();

    let dump = run(SPAXOS, &["dump", &data], cluster.dir.path());
    assert!(dump.status.success(), "{dump:?}");
    let text = String::from_utf8(dump.stdout).unwrap();
    let entries = text.lines().filter_map(|line| {
        let (index, rest) = line.split_once('@')?;
        let (_ballot, command) = rest.split_once(':')?;
        Some((index.parse::<u64>().ok()?, command.to_owned()))
    });
    let logged = cluster.nodes[&2].chosen().into_iter().map(|line| {
        let command = match line.rest.strip_prefix("value=") {
            Some(value) => format!("{}={value}", line.reqid),
            None => "noop".to_owned(),
        };
        (line.index, command)
    });
    let (entries, logged): (Vec<_>, Vec<_>) = (entries.collect(), logged.collect());
    // Two clients' requests may have been chosen twice, of which the log shows the second as a no-op.
    let differs = |(dumped, line): &(&(u64, String), &(u64, String))| dumped != line && line.1 != "noop";
    assert!(logged.len() > acknowledged.len() && entries.len() >= logged.len());
    assert_eq!(entries.iter().zip(&logged).find(differs), None);
    assert!(text.contains(" promised=") || text.contains("\npromised="), "{text}");
}
