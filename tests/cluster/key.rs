//! The key of the peers: which node makes it, who must copy it, and what is said without it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SIMPLESVR, SPAXOS, run};
use crate::common::outside::wait_until;

/// The keys in a file.
fn keys(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect()
}

/// The shipped configurations, each node started at the same moment in a folder that holds nothing else, as
/// after a clone: the first makes the key, private and whole, and the others read it.
#[test]
fn the_shipped_configurations_need_no_further_step() {
    let mut cluster = Cluster::prepare(Options::nodes(ProtocolName::Paxos, 3));
    let folder = cluster.dir.path().to_path_buf();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/three");
    for (id, node) in &mut cluster.nodes {
        let text = fs::read_to_string(shipped.join(format!("node{id}.toml"))).unwrap();
        fs::write(&node.config, text.replace("127.0.0.1:100", &format!("{}:100", node.client.ip()))).unwrap();
        node.data = folder.join(format!("data/node{id}"));
        node.log = node.data.join("simplesvr.log");
        let mut command = node.command();
        command.current_dir(&folder);
        node.spawn(command);
    }
    cluster.nodes.values_mut().for_each(|node| node.wait_ready());
    cluster.settle(1);
    let key = folder.join("data/demo.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let [digits] = &keys(&key)[..] else { panic!("{:?}", keys(&key)) };
    assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digits}");
    let made = |node: &&Node| node.output().contains("made the key data/demo.key");
    assert_eq!(cluster.nodes.values().filter(made).count(), 1);
    for node in cluster.nodes.values() {
        let output = node.output();
        assert!(!output.contains(digits) && !output.contains("peers_key"), "{output}");
    }
    let files: Vec<_> =
        fs::read_dir(folder.join("data")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
}

/// With members on several machines nobody makes the key: the node says how to make it and ends with 1,
/// before it founds its data directory. `spaxos key` makes it once, and never replaces a file.
#[test]
fn a_cluster_of_several_machines_is_told_to_make_its_key() {
    let mut cluster = Cluster::prepare(Options::nodes(ProtocolName::Paxos, 2));
    let folder = cluster.dir.path().to_path_buf();
    let config = fs::read_to_string(&cluster.nodes[&1].config).unwrap();
    let other = format!("{}:10002", cluster.nodes[&2].client.ip());
    let config = config.replace(&other, "192.0.2.2:10002").replace("[log]", "peers_key = \"a.key\"\n[log]");
    fs::write(&cluster.nodes[&1].config, config).unwrap();
    let fail = |cluster: &Cluster| {
        let node = &cluster.nodes[&1];
        let arguments = [node.config.to_str().unwrap(), &node.client.to_string()];
        let output = run(SIMPLESVR, &arguments, &folder);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!node.data.exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let words = fail(&cluster);
    assert!(
        words.contains("there is no key a.key (peers_key)") && words.contains("`spaxos key a.key`"),
        "{words}"
    );

    let made = run(SPAXOS, &["key", "a.key"], &folder);
    assert!(
        made.status.success() && String::from_utf8_lossy(&made.stdout).contains("every node"),
        "{made:?}"
    );
    let before = keys(&folder.join("a.key"));
    let again = run(SPAXOS, &["key", "a.key"], &folder);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("a.key exists"), "{again:?}");
    assert_eq!(keys(&folder.join("a.key")), before);

    fs::write(folder.join("a.key"), format!("{0}\n{0}\n{0}\n", before[0])).unwrap();
    let words = fail(&cluster);
    assert!(words.contains("a.key:3: there is a third key"), "{words}");
    fs::write(folder.join("a.key"), format!("# old and new\n{0}\n{0}\n", before[0])).unwrap();
    fs::set_permissions(folder.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let node = cluster.node(1);
    let mut command = node.command();
    command.current_dir(&folder);
    node.spawn(command);
    node.wait_ready();
    let output = node.output();
    assert!(output.contains("[WARN] the key a.key can be read by other users (mode 644)"), "{output}");
}

/// A node with a different key, or without one, is refused by those that have one, with words on both sides;
/// it does not end, and takes no part. With the right key it is one of them.
#[test]
fn a_node_with_a_different_key_or_none_takes_no_part() {
    let mut cluster = with_keys(3);
    let good = digits('a');
    for id in [1, 2] {
        write_keys(&cluster, id, &[&good]);
        cluster.node(id).start();
    }
    cluster.settle(1);
    write_keys(&cluster, 3, &[&digits('b')]);
    cluster.node(3).start();
    let told = |cluster: &Cluster, id: u64, words: &str| {
        wait_until(&format!("node {id} to say {words:?}"), || cluster.nodes[&id].output().contains(words));
    };
    for (id, words) in [(1, "node 3 has a different key"), (3, "node 1 has a different key")] {
        told(&cluster, id, words);
    }
    let part = |cluster: &Cluster| cluster.nodes[&3].chosen().len();
    cluster.nodes[&1].propose_until_chosen(2, "without node 3");
    assert_eq!(part(&cluster), 0);
    cluster.node(3).stop();

    let config = fs::read_to_string(&cluster.nodes[&3].config).unwrap();
    let keyless =
        config.lines().filter(|line| !line.starts_with("peers_key")).map(|line| format!("{line}\n"));
    fs::write(&cluster.nodes[&3].config, keyless.collect::<String>()).unwrap();
    cluster.node(3).start();
    for (id, words) in [(1, "node 3 has none"), (3, "this node has none")] {
        told(&cluster, id, words);
    }
    cluster.nodes[&1].propose_until_chosen(3, "without node 3");
    assert_eq!(part(&cluster), 0);
    cluster.node(3).stop();

    fs::write(&cluster.nodes[&3].config, config).unwrap();
    write_keys(&cluster, 3, &[&good]);
    cluster.node(3).start();
    cluster.settle(4);
    cluster.check_logs();
}

/// A cluster changes its key while it runs, node after node, as the README says.
#[test]
fn a_running_cluster_changes_its_key() {
    let mut cluster = with_keys(3);
    let (old, new) = (digits('a'), digits('b'));
    (1..=3).for_each(|id| write_keys(&cluster, id, &[&old]));
    cluster.start_all();
    let mut reqid = 0;
    for round in [&[&*old, &new][..], &[&new, &old], &[&new]] {
        for id in 1..=3 {
            write_keys(&cluster, id, round);
            cluster.node(id).stop();
            cluster.node(id).start();
            reqid += 1;
            cluster.settle(reqid);
        }
    }
    cluster.check_logs();
    for node in cluster.nodes.values() {
        let log = fs::read_to_string(&node.log).unwrap();
        assert!(!log.contains("different key"), "{log}");
    }
}

/// In a cluster with a key one member that proved itself is enough to end a node that lost its disk.
#[test]
fn a_wiped_node_believes_one_member_that_proved_itself() {
    let mut cluster = with_keys(3);
    (1..=3).for_each(|id| write_keys(&cluster, id, &[&digits('a')]));
    cluster.start_all();
    cluster.settle(1);
    cluster.nodes.values_mut().for_each(Node::stop);
    fs::remove_dir_all(&cluster.nodes[&3].data).unwrap();
    cluster.node(1).start();
    let (code, words) = cluster.node(3).start_and_fail();
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("disk was wiped or replaced"), "{words}");
}

/// A cluster in which each node has a file of its own for its keys.
pub fn with_keys(nodes: u64) -> Cluster {
    let cluster = Cluster::prepare(Options::nodes(ProtocolName::Paxos, nodes));
    for node in cluster.nodes.values() {
        let config = fs::read_to_string(&node.config).unwrap();
        let key = format!("peers_key = {:?}\n[log]", node.config.with_extension("key"));
        fs::write(&node.config, config.replace("[log]", &key)).unwrap();
    }
    cluster
}

pub fn write_keys(cluster: &Cluster, id: u64, keys: &[&str]) {
    let path = cluster.nodes[&id].config.with_extension("key");
    fs::write(&path, keys.join("\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn digits(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

/// A peer port beyond loopback without a key is warned of.
#[test]
fn a_peer_port_beyond_loopback_without_a_key_is_warned_of() {
    for key in ["", "peers_key = \"KEY\"\n"] {
        let mut cluster = Cluster::prepare(Options::nodes(ProtocolName::Paxos, 1));
        let path = cluster.dir.path().join("a.key");
        assert!(run(SPAXOS, &["key", path.to_str().unwrap()], cluster.dir.path()).status.success());
        let node = cluster.node(1);
        let config = fs::read_to_string(&node.config).unwrap();
        let own = format!("{}:10001", node.client.ip());
        let key = key.replace("KEY", path.to_str().unwrap());
        let config = config.replace(&own, "0.0.0.0:0").replace("[log]", &format!("{key}[log]"));
        fs::write(&node.config, config).unwrap();
        node.start();
        let warned = || node.output().contains("[WARN] the peer port 0.0.0.0:");
        match key.is_empty() {
            true => wait_until("a warning", warned),
            false => assert!(!warned(), "{}", node.output()),
        }
    }
}
