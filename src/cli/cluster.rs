//! A cluster on this machine, for `demo` and `bench`: each node a child process `current_exe() serve` on free
//! loopback ports, below one directory.
//!
//! A child is bound to its parent by its standard input (`serve --until-stdin-closes`): it ends in order
//! when the parent is gone, however that died. Children have process groups of their own, so that Ctrl-C
//! reaches the parent only, which ends them itself.
//!
//! A node is ready when its client port names a leader: no line of its output is parsed for that.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::consensus::protocols::ProtocolName;

use super::error::Error;
use super::resp::{self, Reply};

/// A cluster that has not agreed on a leader after this is given up.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A child that has not ended this long after SIGTERM is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for one question to a node: longer than a disk's hiccup.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a state that nobody announces is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The secret of a cluster's nodes; the first that starts makes the file.
pub const PEERS_KEY: &str = "peers.key";

/// Where and how a cluster runs.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Holds everything: [`PEERS_KEY`], `nodeN.toml`, `nodeN.out` (its terminal) and `nodeN/` (its data and
    /// log).
    pub dir: PathBuf,
    /// How many nodes, at least 1.
    pub nodes: usize,
    /// The cluster's name.
    pub name: &'static str,
    /// How they agree.
    pub protocol: ProtocolName,
    /// T; heartbeats come every sixth of it.
    pub election_ms: u64,
}

/// Running nodes. Dropping it ends them all.
pub struct Cluster {
    nodes: Vec<Node>,
    interrupt: Interrupt,
}

/// One of its nodes.
#[derive(Debug)]
pub struct Node {
    /// Its id: its place, from 1.
    pub id: u64,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Its log file, with the chosen lines.
    pub log: PathBuf,
    config: PathBuf,
    output: PathBuf,
    child: Option<Child>,
}

/// Set by Ctrl-C and SIGTERM. All waiting code looks at it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches both signals from now on; a second one while the first is being obeyed changes nothing.
    pub fn catch() -> Result<Interrupt, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, flag.clone()).map_err(Error::io("catch signals"))?;
        }
        Ok(Interrupt(flag))
    }

    /// As if a signal had come.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Calls `done` every few milliseconds, until it returns something. Fails when interrupted, and after
    /// `timeout`, with an error that says that `what` did not come.
    pub fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut done: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(value) = done()? {
                return Ok(value);
            }
            if self.is_set() {
                return Err(Error::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(Error::Message(format!("waited {} s for {what}, in vain", timeout.as_secs())));
            }
            sleep(POLL_INTERVAL);
        }
    }
}

impl Cluster {
    /// Writes the configurations and starts all nodes, without waiting for them.
    pub fn start(spec: &Spec, interrupt: Interrupt) -> Result<Cluster, Error> {
        let ports = free_ports(2 * spec.nodes).map_err(Error::io("find free loopback ports"))?;
        let (peers, clients) = ports.split_at(spec.nodes);
        let mut cluster = Cluster { nodes: Vec::new(), interrupt };
        for (id, client) in (1..).zip(clients) {
            cluster.nodes.push(Node::prepare(spec, id, loopback(*client), peers)?);
        }
        for position in 0..spec.nodes {
            cluster.start_node(position)?;
        }
        Ok(cluster)
    }

    /// The nodes, in the order of their ids.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The client addresses, in the order of the ids.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.client).collect()
    }

    /// The processes that run, in the order of the ids.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(Child::id).collect()
    }

    /// Starts (again) the node at `position` among [`Cluster::nodes`].
    pub fn start_node(&mut self, position: usize) -> Result<(), Error> {
        self.nodes[position].start()
    }

    /// Kills the node at `position` with -9.
    pub fn kill_node(&mut self, position: usize) {
        if let Some(mut child) = self.nodes[position].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until every running node names the same leader: its position among [`Cluster::nodes`].
    pub fn wait_for_leader(&mut self) -> Result<usize, Error> {
        let interrupt = self.interrupt.clone();
        interrupt.wait_for("a leader that all nodes name", LEADER_TIMEOUT, || {
            self.check_children()?;
            Ok(self.agreed_leader())
        })
    }

    /// Waits until the node at `position` has applied every index up to `index`.
    pub fn wait_for_applied(&mut self, position: usize, index: u64, timeout: Duration) -> Result<(), Error> {
        let interrupt = self.interrupt.clone();
        let what = format!("node {} to apply index {index}", self.nodes[position].id);
        interrupt.wait_for(&what, timeout, || {
            self.check_children()?;
            let applied = status_number(self.nodes[position].client, "applied");
            Ok(applied.filter(|applied| *applied >= index).map(drop))
        })
    }

    /// Describes the first child that ended by itself, with the end of its output, and forgets it.
    pub fn take_dead(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(Node::take_dead)
    }

    fn check_children(&mut self) -> Result<(), Error> {
        self.take_dead().map_or(Ok(()), |words| Err(Error::Message(words)))
    }

    fn agreed_leader(&self) -> Option<usize> {
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        let mut named = running.map(|node| self::leader(node.client));
        let (first, _) = named.next()??;
        let agreed = named.all(|other| other.is_some_and(|(id, _)| id == first));
        self.nodes.iter().position(|node| agreed && node.id == first)
    }

    /// Ends all children in order: SIGTERM, and SIGKILL for those that take too long.
    fn end(&mut self) {
        let mut children: Vec<Child> = self.nodes.iter_mut().filter_map(|node| node.child.take()).collect();
        for child in &children {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while !children.is_empty() && Instant::now() < deadline {
            children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            if !children.is_empty() {
                sleep(POLL_INTERVAL);
            }
        }
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// The leader that a node names: id and client address; `None` if it knows none or does not answer.
pub fn leader(client: SocketAddr) -> Option<(u64, Option<SocketAddr>)> {
    match resp::ask(client, ASK_TIMEOUT, &[b"LEADER"]).ok()? {
        Reply::Array(parts) => {
            let Some(Reply::Integer(id)) = parts.first() else { return None };
            let address = parts.get(1).and_then(Reply::text).and_then(|text| text.parse().ok());
            Some((u64::try_from(*id).ok()?, address))
        }
        _ => None,
    }
}

/// A number of a node's `STATUS`; `None` if it does not answer.
pub fn status_number(client: SocketAddr, key: &str) -> Option<u64> {
    let reply = resp::ask(client, ASK_TIMEOUT, &[b"STATUS"]).ok()?;
    let lines = reply.text()?.lines();
    lines.filter_map(|line| line.split_once(':')).find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

impl Node {
    fn prepare(spec: &Spec, id: u64, client: SocketAddr, peer_ports: &[u16]) -> Result<Node, Error> {
        let data = spec.dir.join(format!("node{id}"));
        let log = data.join("simplesvr.log");
        let config = spec.dir.join(format!("node{id}.toml"));
        let peers = (1..).zip(peer_ports).map(|(node, port)| Peer { node, address: loopback(*port) });
        let content = NodeConfig {
            cluster: spec.name,
            node: id,
            protocol: spec.protocol.name(),
            data: &data,
            peers_key: &spec.dir.join(PEERS_KEY),
            log: LogConfig { file: &log, level: "info" },
            peers: peers.collect(),
            timing: Timing { election_ms: spec.election_ms, heartbeat_ms: (spec.election_ms / 6).max(1) },
        };
        let text = toml::to_string(&content)
            .map_err(|error| Error::Message(format!("{}: {error}", config.display())))?;
        fs::create_dir_all(&spec.dir).map_err(Error::io(format!("create {}", spec.dir.display())))?;
        fs::write(&config, text).map_err(Error::io(format!("write {}", config.display())))?;
        let output = spec.dir.join(format!("node{id}.out"));
        Ok(Node { id, client, log, config, output, child: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        let program = std::env::current_exe().map_err(Error::io("find this program's own file"))?;
        let open = |path: &Path| File::options().create(true).append(true).open(path);
        let output = open(&self.output).map_err(Error::io(format!("write {}", self.output.display())))?;
        let errors = output.try_clone().map_err(Error::io("share a file handle"))?;
        let child = Command::new(&program)
            .args(["serve", "--until-stdin-closes"])
            .arg(&self.config)
            .arg(self.client.to_string())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", program.display())))?;
        self.child = Some(child);
        Ok(())
    }

    fn take_dead(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(self.describe_death(status))
    }

    fn describe_death(&self, status: ExitStatus) -> String {
        const LINES: usize = 8;
        let output = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        format!("node {} ended ({status}); the end of {}:\n  {tail}", self.id, self.output.display())
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Ports that were free a moment ago, all different.
///
/// They lie below the range from which the system takes the ports of outgoing connections: a client that
/// dials a node which is down could otherwise be given that very port, and connect to itself.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    const TRIES: usize = 1000;
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    let mut held = Vec::new();
    for _ in 0..TRIES {
        if held.len() == count {
            break;
        }
        let port = (FIRST + getrandom::u32().map_err(std::io::Error::other)? % COUNT) as u16;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    if held.len() < count {
        return Err(std::io::Error::other(format!("{TRIES} tries found {} of {count} ports", held.len())));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// A node's configuration, in the form that README describes.
#[derive(Serialize)]
struct NodeConfig<'a> {
    cluster: &'a str,
    node: u64,
    protocol: &'a str,
    data: &'a Path,
    peers_key: &'a Path,
    log: LogConfig<'a>,
    peers: Vec<Peer>,
    timing: Timing,
}

#[derive(Serialize)]
struct LogConfig<'a> {
    file: &'a Path,
    level: &'a str,
}

#[derive(Serialize)]
struct Peer {
    node: u64,
    address: SocketAddr,
}

#[derive(Serialize)]
struct Timing {
    election_ms: u64,
    heartbeat_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &Path) -> Spec {
        Spec {
            dir: dir.to_path_buf(),
            nodes: 2,
            name: "test",
            protocol: ProtocolName::Paxos,
            election_ms: 300,
        }
    }

    /// The configuration has the documented form, even when the path needs quoting.
    #[test]
    fn configuration_has_the_documented_form() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a \"b\"");
        let node = Node::prepare(&spec(&odd), 1, loopback(9001), &[10001, 10002]).unwrap();
        let text = fs::read_to_string(&node.config).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["cluster"].as_str(), Some("test"));
        assert_eq!(table["node"].as_integer(), Some(1));
        assert_eq!(table["data"].as_str(), odd.join("node1").to_str());
        assert_eq!(table["peers_key"].as_str(), odd.join("peers.key").to_str());
        assert_eq!(table["log"]["file"].as_str(), odd.join("node1/simplesvr.log").to_str());
        assert_eq!(table["peers"][1]["address"].as_str(), Some("127.0.0.1:10002"));
        assert_eq!(table["timing"]["election_ms"].as_integer(), Some(300));
        assert_eq!(table["timing"]["heartbeat_ms"].as_integer(), Some(50));
    }

    /// Ports are different, and outside the range of outgoing connections.
    #[test]
    fn ports_are_free_and_different() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| (10_000..32_000).contains(port)), "{ports:?}");
    }

    /// A child that ends by itself is reported once, with what it said last.
    #[test]
    fn a_dead_child_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::prepare(&spec(dir.path()), 1, loopback(9001), &[10001, 10002]).unwrap();
        fs::write(&node.output, "starting\ndata directory is locked\n").unwrap();
        node.child = Some(Command::new("false").spawn().unwrap());
        let interrupt = Interrupt::default();
        let words = interrupt.wait_for("the end", Duration::from_secs(10), || Ok(node.take_dead())).unwrap();
        assert!(words.contains("node 1 ended") && words.contains("data directory is locked"), "{words}");
        assert_eq!(node.take_dead(), None);
    }

    /// Dropping a cluster ends children that obey SIGTERM, and reaps them.
    #[test]
    fn dropping_ends_children() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::prepare(&spec(dir.path()), 1, loopback(9001), &[10001, 10002]).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let proc_dir = PathBuf::from(format!("/proc/{}", child.id()));
        node.child = Some(child);
        drop(Cluster { nodes: vec![node], interrupt: Interrupt::default() });
        assert!(!proc_dir.exists());
    }
}
