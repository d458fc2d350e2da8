//! `spaxos demo`: three nodes on this machine that choose three values, for someone who sees the project
//! for the first time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use clap::Args;

use crate::consensus::protocols::ProtocolName;

use super::cluster::{Cluster, Interrupt, Node, PEERS_KEY, Spec};
use super::error::Error;
use super::output::print_line as say;
use super::resp::{Connection, Reply};

const NODES: usize = 3;
const VALUES: [&str; 3] = ["hello", "from", "three nodes"];
/// Proposals and chosen lines that take longer mean that something is wrong.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often signals and children are looked at while nothing else happens.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Marks a directory as a demo's, and is locked while one runs in it.
const MARKER: &str = "spaxos-demo";

/// Arguments of `spaxos demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Remove what an earlier demo left in the directory
    #[arg(long)]
    fresh: bool,
    /// Where the nodes keep configuration, data and logs
    #[arg(long, default_value = "./data/demo")]
    dir: PathBuf,
    /// How the nodes agree: paxos or raft. A directory keeps its protocol: use --fresh to change it
    #[arg(long, default_value_t)]
    protocol: ProtocolName,
}

/// Runs until Ctrl-C or SIGTERM, which end all nodes.
pub fn run(arguments: &Demo) -> Result<(), Error> {
    let interrupt = Interrupt::catch()?;
    match show_and_watch(arguments, &interrupt) {
        Err(Error::Interrupted) => Ok(()),
        result => result,
    }
}

fn show_and_watch(arguments: &Demo, interrupt: &Interrupt) -> Result<(), Error> {
    let _lock = take_directory(&arguments.dir, arguments.fresh)?;
    say(&format!("starting {NODES} nodes under {} ...", arguments.dir.display()))?;
    let spec = Spec {
        dir: arguments.dir.clone(),
        nodes: NODES,
        name: "demo",
        protocol: arguments.protocol,
        election_ms: 300,
    };
    let mut cluster = Cluster::start(&spec, interrupt.clone())?;
    let leader = cluster.wait_for_leader()?;
    print_nodes(&cluster, leader)?;
    propose(&cluster.nodes()[leader])?;
    for node in cluster.nodes() {
        print_chosen(node, interrupt)?;
    }
    print_example(&cluster.nodes()[leader])?;
    watch(&mut cluster, interrupt)?;
    say("\nending all nodes ...")
}

fn print_nodes(cluster: &Cluster, leader: usize) -> Result<(), Error> {
    for (position, node) in cluster.nodes().iter().enumerate() {
        let role = if position == leader { "leads" } else { "follows" };
        say(&format!("  node {} {role:8} clients: {}   log: {}", node.id, node.client, node.log.display()))?;
    }
    Ok(())
}

/// Proposes the values as reqids 1, 2, 3 …, as any Redis client would.
fn propose(node: &Node) -> Result<(), Error> {
    let failed = || format!("propose at node {} ({})", node.id, node.client);
    let mut connection = Connection::open(node.client, STEP_TIMEOUT).map_err(Error::io(failed()))?;
    say(&format!("\nproposing at node {}:", node.id))?;
    for (reqid, value) in (1u64..).zip(VALUES) {
        let text = reqid.to_string();
        let reply = connection.ask(&[b"PROP", text.as_bytes(), value.as_bytes()]);
        match reply.map_err(Error::io(failed()))? {
            Reply::Integer(index) => say(&format!("  PROP {reqid} {value}    chosen at index {index}"))?,
            other => return Err(Error::Message(format!("PROP {reqid} {value} was answered {other:?}"))),
        }
    }
    Ok(())
}

/// Waits for the values' lines in a node's log and shows them.
fn print_chosen(node: &Node, interrupt: &Interrupt) -> Result<(), Error> {
    let what = format!("{} chosen lines in {}", VALUES.len(), node.log.display());
    let lines = interrupt.wait_for(&what, STEP_TIMEOUT, || {
        let content = fs::read(&node.log).unwrap_or_default();
        let lines = chosen_values(&String::from_utf8_lossy(&content));
        Ok(Some(lines).filter(|lines| lines.len() >= VALUES.len()))
    })?;
    say(&format!("\nlog of node {}:", node.id))?;
    lines.iter().try_for_each(|line| say(&format!("  {line}")))?;
    Ok(())
}

/// The whole lines of chosen values, no-ops left out.
fn chosen_values(log: &str) -> Vec<String> {
    let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole
        .filter(|line| line.contains(" chosen index=") && line.contains(" value="))
        .map(String::from)
        .collect()
}

fn print_example(leader: &Node) -> Result<(), Error> {
    let (ip, port) = (leader.client.ip(), leader.client.port());
    say("\nTry it yourself, at any of the nodes:")?;
    say(&format!("  telnet {ip} {port}        then type:  PROP {} your text", VALUES.len() + 1))?;
    say(&format!("  redis-cli -p {port} LOG 1 10"))?;
    say("Kill a node with -9 and go on. Ctrl-C ends all of them.")
}

fn watch(cluster: &mut Cluster, interrupt: &Interrupt) -> Result<(), Error> {
    while !interrupt.is_set() {
        if let Some(words) = cluster.take_dead() {
            say(&format!("\n{words}\nThe other nodes go on as long as there is a majority of {NODES}."))?;
        }
        sleep(WATCH_INTERVAL);
    }
    Ok(())
}

/// Makes the directory ready and locked for this demo. A used one is refused, or, with `fresh`, emptied if it
/// is a demo's and no demo is running in it.
fn take_directory(dir: &Path, fresh: bool) -> Result<File, Error> {
    let marker = dir.join(MARKER);
    if is_used(dir)? {
        if !fresh {
            let dir = dir.display();
            return Err(Error::Message(format!(
                "{dir} is in use or was used: give --fresh to remove it, or another --dir"
            )));
        }
        check_is_a_demo(dir)?;
        let _running = lock(&marker)?;
        fs::remove_dir_all(dir).map_err(Error::io(format!("remove {}", dir.display())))?;
    }
    fs::create_dir_all(dir).map_err(Error::io(format!("create {}", dir.display())))?;
    lock(&marker)
}

fn is_used(dir: &Path) -> Result<bool, Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("read {}", dir.display()))(error)),
    }
}

/// Whether there is a marker and nothing that a demo would not have made.
fn check_is_a_demo(dir: &Path) -> Result<(), Error> {
    let refuse = |why: String| {
        let dir = dir.display();
        Err(Error::Message(format!("{dir} does not look like a demo's ({why}): remove it yourself")))
    };
    if !dir.join(MARKER).is_file() {
        return refuse(format!("it has no file {MARKER}"));
    }
    let known = |name: &str| {
        let node = |id| [format!("node{id}"), format!("node{id}.toml"), format!("node{id}.out")];
        [MARKER, PEERS_KEY].contains(&name)
            || name.starts_with(&format!(".{PEERS_KEY}."))
            || (1..=NODES).any(|id| node(id).iter().any(|known| known == name))
    };
    for entry in fs::read_dir(dir).map_err(Error::io(format!("read {}", dir.display())))? {
        let name = entry.map_err(Error::io(format!("read {}", dir.display())))?.file_name();
        if !name.to_str().is_some_and(known) {
            return refuse(format!("it holds {}", name.display()));
        }
    }
    Ok(())
}

fn lock(marker: &Path) -> Result<File, Error> {
    let file = File::options().create(true).truncate(false).write(true).open(marker);
    let file = file.map_err(Error::io(format!("write {}", marker.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let marker = marker.display();
            Err(Error::Message(format!(
                "a demo runs there ({marker} is locked): end it, or give another --dir"
            )))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(format!("lock {}", marker.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A used directory is refused without --fresh, and with it while a demo runs there.
    #[test]
    fn a_used_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/demo");
        let running = take_directory(&dir, false).unwrap();
        assert!(take_directory(&dir, false).unwrap_err().to_string().contains("--fresh"));
        assert!(take_directory(&dir, true).unwrap_err().to_string().contains("locked"));
        drop(running);
        fs::create_dir(dir.join("node1")).unwrap();
        fs::write(dir.join(PEERS_KEY), "").unwrap();
        let _running = take_directory(&dir, true).unwrap();
        assert!(!dir.join("node1").exists());
    }

    /// --fresh removes nothing that a demo did not make.
    #[test]
    fn fresh_spares_foreign_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(take_directory(dir.path(), true).unwrap_err().to_string().contains(MARKER));
        fs::write(dir.path().join(MARKER), "").unwrap();
        assert!(take_directory(dir.path(), true).unwrap_err().to_string().contains("thesis.tex"));
        assert!(dir.path().join("thesis.tex").exists());
    }

    /// Only whole lines of values are shown.
    #[test]
    fn chosen_values_are_whole_lines() {
        let log = "t [INFO] chosen index=1 reqid=0 ballot=1.1 from=1 noop\n\
                   t [INFO] leading with ballot 1.1\n\
                   t [INFO] chosen index=2 reqid=1 ballot=1.1 from=1 value=\"hello\"\n\
                   t [INFO] chosen index=3 reqid=2 ballot=1.1 from=1 value=\"fr";
        let lines = chosen_values(log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("value=\"hello\""), "{lines:?}");
    }
}
