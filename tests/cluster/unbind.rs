//! `spaxos unbind`: a node id was taken by a wrong data directory, and a person gives it back.

use std::fs;

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SPAXOS, run};

each_protocol!(a_binding_is_taken_away_by_hand);

/// A stranger comes as node 2 before the real one does, and is bound. The real one is refused from then on,
/// until its binding is taken away on both other nodes. Without `--yes` nothing changes, and a running node
/// is refused.
fn a_binding_is_taken_away_by_hand(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 3));
    let folder = cluster.dir.path().to_path_buf();
    let mut stranger = stranger(&cluster);
    stranger.start();
    // Each is a majority only with the stranger, so each counts its messages.
    for id in [1, 3] {
        cluster.node(id).start();
        cluster.settle(id);
        cluster.node(id).stop();
    }
    // What was chosen with the stranger's help is on both others before it is gone.
    [1, 3].into_iter().for_each(|id| cluster.node(id).start());
    cluster.settle(4);
    stranger.stop();

    let (code, words) = cluster.node(2).start_and_fail();
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("disk was wiped or replaced"), "{words}");

    let unbind = |id: u64, arguments: &[&str]| {
        let data = folder.join(format!("node{id}"));
        let output = run(SPAXOS, &[&["unbind", data.to_str().unwrap()], arguments].concat(), &folder);
        let text =
            String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        (output.status.code(), text.into_owned())
    };
    for arguments in [&["2"][..], &["2", "--yes"]] {
        let (code, words) = unbind(1, arguments);
        assert!(code == Some(1) && words.contains("in use by another process"), "{words}");
    }
    for id in [1, 3] {
        cluster.node(id).stop();
        let before = dump(&cluster, id);
        let (code, words) = unbind(id, &["2"]);
        assert_eq!(code, Some(0), "{words}");
        let directory = before.lines().find_map(|line| line.strip_prefix("bound 2 directory=")).unwrap();
        for part in [directory, "What may be lost", "Nothing was changed"] {
            assert!(words.contains(part), "{words} does not say {part}");
        }
        assert_eq!(dump(&cluster, id), before);
        let (code, words) = unbind(id, &["2", "--yes"]);
        assert!(code == Some(0) && words.contains("Node 2 is unbound"), "{words}");
        assert!(!dump(&cluster, id).contains("bound 2 "));
        let (code, words) = unbind(id, &["2", "--yes"]);
        assert!(code == Some(1) && words.contains("has not met node 2 yet"), "{words}");
    }
    let (code, words) = unbind(1, &["1"]);
    assert!(code == Some(1) && words.contains("the directory of node 1 itself"), "{words}");
    let (code, words) = unbind(1, &["7"]);
    assert!(code == Some(1) && words.contains("the members are nodes [1, 2, 3]"), "{words}");

    cluster.start_all();
    cluster.settle(5);
    cluster.check_logs();
    cluster.nodes.values_mut().for_each(Node::stop);
    assert!(dump(&cluster, 1).contains("bound 2 "));
}

/// A node with the configuration of node 2 and a directory of its own.
fn stranger(cluster: &Cluster) -> Node {
    let real = &cluster.nodes[&2];
    let file = |name| cluster.dir.path().join(name);
    let stranger = Node {
        id: 2,
        client: real.client,
        config: file("stranger.toml"),
        data: file("stranger"),
        log: file("stranger/simplesvr.log"),
        output: file("stranger.out"),
        child: None,
        enter: Vec::new(),
    };
    let config = fs::read_to_string(&real.config).unwrap();
    let config = config.replace(real.data.to_str().unwrap(), stranger.data.to_str().unwrap());
    fs::write(&stranger.config, config).unwrap();
    stranger
}

fn dump(cluster: &Cluster, id: u64) -> String {
    let output = run(SPAXOS, &["dump", cluster.nodes[&id].data.to_str().unwrap()], cluster.dir.path());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
