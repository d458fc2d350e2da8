//! New names are durable: each file, folder and rename is followed by a sync of its folder before the node
//! serves, and so is a binding. A power cut is not needed to see it: a shim records what the node asks for.

use std::fs;
use std::path::{Path, PathBuf};

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options};
use super::shim::Shim;
use crate::common::outside::wait_until;

each_protocol!(the_first_start_is_durable_by_name, a_binding_is_followed_by_a_sync_of_its_folder);

/// Everything that the first start makes, with all folders above it, is durable by name before the node
/// listens. The log file is left out: it can be written again.
fn the_first_start_is_durable_by_name(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let Some(shim) = Shim::build(&cluster.nodes[&1]) else { return };
    let shim = shim.with("SHIM_UNDER", cluster.dir.path().display());
    let node = cluster.node(1);
    let deep = node.data.join("a/b/data");
    let config = fs::read_to_string(&node.config).unwrap();
    let data = format!("data = {:?}", node.data);
    fs::write(&node.config, config.replace(&data, &format!("data = {deep:?}"))).unwrap();
    start(node, &shim);
    let record = shim.take_record();
    let before = record.iter().take_while(|line| *line != "listen").cloned().collect::<Vec<_>>();
    assert!(before.len() < record.len(), "it listens");
    let mut names = 0;
    for (place, line) in before.iter().enumerate() {
        let Some(("create" | "mkdir" | "rename", path)) = line.split_once(' ') else { continue };
        if Path::new(path) == node.log || before[place..].contains(&format!("rename {path}")) {
            continue;
        }
        names += 1;
        let folder = Path::new(path).parent().unwrap();
        let sync = format!("fsync {}", folder.display());
        // A name that a rename takes away need not last.
        let is_gone = path.ends_with(".new") || path.ends_with(".generating");
        assert!(
            is_gone || before[place..].contains(&sync),
            "no {sync:?} follows {line:?} before the node listens:\n{}",
            before.join("\n")
        );
    }
    let made: Vec<PathBuf> =
        ["", "LOCK", "tail", "store", "store/db"].iter().map(|name| deep.join(name)).collect();
    assert!(made.iter().all(|path| path.exists()), "{made:?}");
    assert!(names >= 7, "the shim saw {names} new names only:\n{}", before.join("\n"));
    assert!(before.contains(&format!("rename {}", deep.join("tail").display())), "{}", before.join("\n"));
}

/// The first core message of a peer binds it, and then the folder of the store is synced; a run that binds
/// nobody does not sync it.
fn a_binding_is_followed_by_a_sync_of_its_folder(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 2));
    let Some(shim) = Shim::build(&cluster.nodes[&1]) else { return };
    let store = cluster.node(1).data.join("store");
    let (write, sync) =
        (format!("fdatasync {}", store.join("db").display()), format!("fsync {}", store.display()));
    let serve = |cluster: &mut Cluster, marker| {
        start(cluster.node(1), &shim);
        cluster.node(2).start();
        cluster.settle(marker);
        let record = shim.take_record();
        let listening = record.iter().position(|line| line == "listen").unwrap();
        record[listening..].to_vec()
    };
    let first = serve(&mut cluster, 1);
    let synced = first.iter().position(|line| *line == sync);
    assert!(synced.is_some(), "no {sync:?} follows the binding:\n{}", first.join("\n"));
    assert!(first[..synced.unwrap()].contains(&write), "the folder was synced before the write");
    cluster.nodes.values_mut().for_each(Node::stop);
    let second = serve(&mut cluster, 2);
    assert!(!second.contains(&sync) && second.contains(&write), "{}", second.join("\n"));
}

fn start(node: &mut Node, shim: &Shim) {
    node.spawn(shim.under(node.command()));
    node.wait_ready();
    wait_until("a leader or a vote", || node.status("role").is_some());
}
