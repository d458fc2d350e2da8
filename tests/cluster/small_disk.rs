//! A full disk that is one: a small file system (tmpfs) in a mount namespace of its own, in which a node
//! runs. It needs no privileges where users may have namespaces, and a test says so where they may not.
//!
//! The namespace lives as long as a process that holds it; the tests reach into it through /proc.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use spaxos::cli::resp::Reply;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SIMPLESVR};
use super::load::Load;
use crate::common::outside::wait_until;

each_protocol!(a_small_disk_that_is_full_passes, a_start_on_a_full_disk_waits_for_room);

/// The disk of one of three nodes, the leader or a follower, fills up under load: it refuses proposals, the
/// others go on; once there is room it takes proposals again, and nothing acknowledged is lost.
fn a_small_disk_that_is_full_passes(protocol: ProtocolName) {
    let options = Options { timeout_ms: 1000, ..Options::nodes(protocol, 3) };
    let mut cluster = Cluster::prepare(options);
    let Some(disk) = SmallDisk::mount(cluster.node(1)) else { return };
    for node in cluster.nodes.values_mut() {
        let command = if node.id == 1 { disk.command(node) } else { node.command() };
        node.spawn(command);
    }
    cluster.nodes.values_mut().for_each(Node::wait_ready);
    let others: Vec<_> = cluster.nodes.values().filter(|node| node.id != 1).map(|node| node.client).collect();
    let load = Load::start(&cluster.clients(), 1_000_000_000);
    load.wait_for_more(20);
    disk.fill();
    let node = &cluster.nodes[&1];
    let mut reqid = 2_000_000_000;
    wait_until("the disk to be full", || {
        reqid += 1;
        let reply = node.propose(reqid, &"x".repeat(100_000));
        matches!(reply, Ok(Reply::Error(text)) if text.contains("the disk of this node is full"))
    });
    let through_others = Load::start(&others, 3_000_000_000);
    through_others.wait_for_more(20);
    disk.make_room();
    node.propose_until_chosen(4_000_000_000, "v");
    let mut acknowledged = load.stop();
    acknowledged.extend(through_others.stop());
    cluster.settle(1);
    cluster.check_acknowledged(&acknowledged);
}

/// A node that starts on a full disk, for the first time or again, serves nothing and waits; it serves once
/// there is room. SIGTERM ends the wait.
fn a_start_on_a_full_disk_waits_for_room(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let Some(disk) = SmallDisk::mount(cluster.node(1)) else { return };
    disk.fill();
    let node = cluster.node(1);
    let wait = |node: &mut Node| {
        node.spawn(disk.command(node));
        wait_until("the node to say that it waits for room", || {
            let ended = node.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "node 1 ended ({ended:?}): {}", node.output());
            node.output().contains("there is no room on the disk")
        });
        assert!(node.ask(&[b"PING"]).is_err(), "a node without a store serves");
    };
    wait(node);
    node.stop();
    wait(node);
    disk.make_room();
    node.wait_ready();
    let load = Load::start(&[node.client], 1);
    load.wait_for_more(50);
    let acknowledged = load.stop();
    node.stop();
    // Founded, and full again: whether or not this start needs room, it does not end.
    disk.fill();
    node.spawn(disk.command(node));
    wait_until("the node to wait or to be ready", || {
        let ended = node.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "node 1 ended ({ended:?}): {}", node.output());
        ["there is no room on the disk", " ready client="].iter().any(|words| node.output().contains(words))
    });
    disk.make_room();
    node.wait_ready();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// The size of the file system.
const SIZE: &str = "size=12m";

struct SmallDisk {
    holder: Child,
    data: PathBuf,
}

impl SmallDisk {
    /// Makes the data directory of a node a file system of its own. From then on the node's paths are those
    /// by which the test reaches its files.
    fn mount(node: &mut Node) -> Option<SmallDisk> {
        let (disk, data) = (node.data.with_extension("disk"), "data");
        fs::create_dir(&disk).unwrap();
        let script = "mount -t tmpfs -o \"$2\" tmpfs \"$1\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&disk).arg(SIZE);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut said = String::new();
        let holder = spawned.and_then(|mut holder| {
            BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said)?;
            Ok(holder)
        });
        let Some(mut holder) = holder.ok().filter(|_| !said.is_empty()) else {
            eprintln!(
                "NOT TESTED: a file system in a namespace of its own is not possible here (unshare, tmpfs)"
            );
            return None;
        };
        // The rest of its output is nobody's.
        drop(holder.stdout.take());
        let inside = disk.join(data);
        let config = fs::read_to_string(&node.config).unwrap();
        let config = config.replace(&node.data.display().to_string(), &inside.display().to_string());
        fs::write(&node.config, config).unwrap();
        let outside = PathBuf::from(format!("/proc/{}/root{}", holder.id(), disk.display()));
        node.data = outside.join(data);
        node.log = node.data.join("simplesvr.log");
        Some(SmallDisk { holder, data: outside })
    }

    /// The server in the namespace.
    fn command(&self, node: &Node) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        command.arg(self.holder.id().to_string()).arg(SIMPLESVR);
        command.arg(&node.config).arg(node.client.to_string());
        node.capture(&mut command);
        command
    }

    /// Takes all the room that is left, to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write(&vec![0; size]).is_ok_and(|count| count == size) {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.data.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
