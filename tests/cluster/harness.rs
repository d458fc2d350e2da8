//! A cluster of child processes in a temporary folder: start, kill, pause, ask, read the logs.
//!
//! Each cluster has a loopback address of its own. That, /proc and prlimit make these tests Linux only.
//! Children are killed when the cluster is dropped; if the test failed, the ends of their logs are printed
//! and the folder is left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spaxos::cli::resp::{self, Reply};
use spaxos::consensus::protocols::ProtocolName;
use tempfile::TempDir;

use crate::common::outside::{PATIENCE, own_address, wait_for, wait_until};

/// How long one question may take before it is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

pub const SIMPLESVR: &str = env!("CARGO_BIN_EXE_simplesvr");

pub const SPAXOS: &str = env!("CARGO_BIN_EXE_spaxos");

/// What the configurations of a cluster say besides its members.
#[derive(Clone, Copy)]
pub struct Options {
    pub protocol: ProtocolName,
    pub nodes: u64,
    /// `client.timeout_ms`
    pub timeout_ms: u64,
    /// `timing.election_ms`, T
    pub election_ms: u64,
    /// More lines of `[log]`.
    pub log: &'static str,
    /// More lines of `[limits]`.
    pub limits: &'static str,
}

impl Options {
    pub fn nodes(protocol: ProtocolName, nodes: u64) -> Options {
        Options { protocol, nodes, timeout_ms: 60_000, election_ms: 400, log: "", limits: "" }
    }
}

/// Where a node runs.
pub struct Place {
    pub address: IpAddr,
    /// The command that runs others there; empty if they need none.
    pub enter: Vec<String>,
}

pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub dir: TempDir,
}

pub struct Node {
    pub id: u64,
    pub client: SocketAddr,
    pub enter: Vec<String>,
    pub config: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    /// Standard output and error of the last run.
    pub output: PathBuf,
    pub child: Option<Child>,
}

impl Cluster {
    /// A cluster that is configured and not started, on a loopback address of its own.
    pub fn prepare(options: Options) -> Cluster {
        let ids = 1..=options.nodes as u16;
        let ports: Vec<u16> = ids.flat_map(|id| [9000 + id, 10_000 + id]).collect();
        let address = own_address(&ports);
        Cluster::prepare_at(options, |_| Place { address, enter: vec![] })
    }

    /// A cluster that is configured and not started.
    pub fn prepare_at(options: Options, place: impl Fn(u64) -> Place) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let ids = || 1..=options.nodes;
        let peers: String = ids()
            .map(|id| (id, SocketAddr::new(place(id).address, 10_000 + id as u16)))
            .map(|(id, address)| format!("[[peers]]\nnode = {id}\naddress = \"{address}\"\n"))
            .collect();
        let node = |id| {
            let data = dir.path().join(format!("node{id}"));
            let log = data.join("simplesvr.log");
            let config = dir.path().join(format!("node{id}.toml"));
            let Options { protocol, timeout_ms, election_ms, log: more_log, limits, .. } = options;
            let heartbeat_ms = election_ms * 3 / 20;
            let text = format!(
                "cluster = \"test\"\nnode = {id}\nprotocol = \"{protocol}\"\ndata = {data:?}\n\
                 [log]\nfile = {log:?}\n{more_log}\n{peers}\
                 [timing]\nelection_ms = {election_ms}\nheartbeat_ms = {heartbeat_ms}\n[limits]\n{limits}\n\
                 [client]\ntimeout_ms = {timeout_ms}\n[store]\ncache_mb = 4\nfree_mb = 0\n"
            );
            fs::write(&config, text).unwrap();
            let output = dir.path().join(format!("node{id}.out"));
            let Place { address, enter } = place(id);
            let client = SocketAddr::new(address, 9000 + id as u16);
            (id, Node { id, client, enter, config, data, log, output, child: None })
        };
        Cluster { nodes: ids().map(node).collect(), dir }
    }

    /// All nodes run and one of them leads.
    pub fn start(options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.start_all();
        cluster
    }

    pub fn start_all(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.child.is_none()) {
            let command = node.command();
            node.spawn(command);
        }
        self.nodes.values_mut().for_each(Node::wait_ready);
        self.leader();
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn clients(&self) -> Vec<SocketAddr> {
        self.nodes.values().map(|node| node.client).collect()
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.child.is_some())
    }

    /// Waits until a node says that it leads itself.
    pub fn leader(&self) -> u64 {
        self.leader_other_than(0)
    }

    pub fn leader_other_than(&self, former: u64) -> u64 {
        wait_for("a leader", || {
            let mut others = self.running().filter(|node| node.id != former);
            others.find(|node| node.status("role").as_deref() == Some("leader")).map(|node| node.id)
        })
    }

    /// A node that does not lead.
    pub fn follower(&self) -> u64 {
        let leader = self.leader();
        self.running().map(|node| node.id).find(|id| *id != leader).unwrap()
    }

    /// Proposes a marker at a running node, and waits until the logs of all running nodes have its line, and
    /// with it all that was chosen before.
    pub fn settle(&self, marker: u64) -> u64 {
        let node = self.running().next().unwrap();
        let index = node.propose_until_chosen(marker, "settled");
        for node in self.running() {
            let what = format!("index {index} in the log of node {}", node.id);
            wait_until(&what, || node.chosen().last().is_some_and(|line| line.index >= index));
        }
        index
    }

    /// Checks that every log has each index from 1 on once, that no reqid is delivered twice, and that the
    /// logs do not differ. Returns the longest.
    pub fn check_logs(&self) -> Vec<Chosen> {
        let logs: Vec<(u64, Vec<Chosen>)> =
            self.nodes.values().map(|node| (node.id, node.chosen())).collect();
        for (id, log) in &logs {
            check_log(*id, log);
        }
        let (_, longest) = logs.iter().max_by_key(|(_, log)| log.len()).unwrap();
        for (id, log) in &logs {
            let difference = log.iter().zip(longest).find(|(a, b)| a != b);
            assert!(difference.is_none(), "the log of node {id} differs: {difference:?}");
        }
        longest.clone()
    }

    /// Checks that what was acknowledged is at the index that was acknowledged, with its value.
    pub fn check_acknowledged(&self, acknowledged: &BTreeMap<u64, u64>) {
        let log = self.check_logs();
        for (reqid, index) in acknowledged {
            let line = log.get(*index as usize - 1);
            let value = format!("value=\"v{reqid}\"");
            assert!(
                line.is_some_and(|line| line.reqid == *reqid && line.rest == value),
                "reqid {reqid} was acknowledged at index {index}, where the log has {line:?}"
            );
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.kill();
        }
        if std::thread::panicking() {
            self.nodes.values().for_each(Node::print_end);
            self.dir.disable_cleanup(true);
            eprintln!("all of it is left in {}", self.dir.path().display());
        }
    }
}

impl Node {
    /// The server on this node's configuration; its output goes to [`Node::output`].
    pub fn command(&self) -> Command {
        let mut words = self.enter.iter().map(String::as_str).chain([SIMPLESVR]);
        let mut command = Command::new(words.next().expect("at least the server's name"));
        command.args(words).arg(&self.config).arg(self.client.to_string());
        self.capture(&mut command);
        command
    }

    pub fn capture(&self, command: &mut Command) {
        let output = File::create(&self.output).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
    }

    pub fn spawn(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "node {} runs", self.id);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn start(&mut self) {
        let command = self.command();
        self.spawn(command);
        self.wait_ready();
    }

    pub fn wait_ready(&mut self) {
        let what = format!("node {} to be ready", self.id);
        wait_until(&what, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "node {} ended ({ended:?}): {}", self.id, self.output());
            self.output().contains(" ready client=")
        });
    }

    /// Starts it and waits for its end.
    pub fn start_and_fail(&mut self) -> (Option<i32>, String) {
        let command = self.command();
        self.spawn(command);
        (self.wait_for_end().code(), self.output())
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Kills it with kill -9, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        panic!("node {} does not end", self.id);
    }

    /// Ends it in order and checks that it says so.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait_for_end().code(), Some(0), "{}", self.output());
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// What it holds in memory, in MiB.
    pub fn rss_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    pub fn ask(&self, arguments: &[&[u8]]) -> std::io::Result<Reply> {
        resp::ask(self.client, ASK_TIMEOUT, arguments)
    }

    /// A value of `STATUS`; `None` if there is no answer.
    pub fn status(&self, key: &str) -> Option<String> {
        let reply = self.ask(&[b"STATUS"]).ok()?;
        let lines = reply.text()?.lines();
        let (_, value) = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| *name == key)?;
        Some(value.to_owned())
    }

    pub fn status_number(&self, key: &str) -> Option<u64> {
        self.status(key)?.parse().ok()
    }

    /// Proposes once.
    pub fn propose(&self, reqid: u64, value: &str) -> std::io::Result<Reply> {
        self.ask(&[b"PROP", reqid.to_string().as_bytes(), value.as_bytes()])
    }

    /// Proposes until the value is chosen, and returns its index.
    pub fn propose_until_chosen(&self, reqid: u64, value: &str) -> u64 {
        wait_for(&format!("reqid {reqid} to be chosen"), || match self.propose(reqid, value) {
            Ok(Reply::Integer(index)) => Some(index as u64),
            Ok(Reply::Error(text)) if is_passing(&text) => None,
            Ok(other) => panic!("PROP {reqid} was answered {other:?}"),
            Err(_) => None,
        })
    }

    /// The chosen lines of all its log files, in the order in which they stand there.
    pub fn chosen(&self) -> Vec<Chosen> {
        let mut lines = Vec::new();
        for file in self.log_files() {
            let text = fs::read(&file).unwrap_or_default();
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            lines.extend(std::str::from_utf8(&text[..whole]).unwrap().lines().filter_map(Chosen::parse));
        }
        lines
    }

    /// Oldest first.
    pub fn log_files(&self) -> Vec<PathBuf> {
        let rotated = |number| PathBuf::from(format!("{}.{number}", self.log.display()));
        let count = (1..).take_while(|number| rotated(*number).exists()).count();
        (1..=count).rev().map(rotated).chain([self.log.clone()]).collect()
    }

    fn print_end(&self) {
        for path in [&self.output, &self.log] {
            if path.is_file() {
                let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(12)..].join("\n  ");
                eprintln!("the end of {}:\n  {end}", path.display());
            }
        }
    }
}

/// Whether a failed proposal may be sent again.
pub fn is_passing(error: &str) -> bool {
    ["TIMEOUT ", "BUSY ", "TRYAGAIN "].iter().any(|word| error.starts_with(word))
}

/// A chosen line. Its ballot is not part of what the nodes agree on: each node shows the one under which it
/// knew the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub index: u64,
    pub reqid: u64,
    pub from: u64,
    /// `value="…"`, or `noop`.
    pub rest: String,
}

impl Chosen {
    /// Strict about the form, which other tools read; `None` for other lines.
    pub fn parse(line: &str) -> Option<Chosen> {
        let (time, rest) = line.split_once(" [INFO] chosen index=")?;
        let parse = || {
            assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T');
            let (index, rest) = rest.split_once(" reqid=")?;
            let (reqid, rest) = rest.split_once(" ballot=")?;
            let (ballot, rest) = rest.split_once(" from=")?;
            let (round, node) = ballot.split_once('.')?;
            assert!(round.parse::<u64>().ok()? > 0 && node.parse::<u64>().ok()? > 0);
            let (from, rest) = rest.split_once(' ')?;
            assert!(rest == "noop" || rest.starts_with("value=\""));
            let number = |text: &str| text.parse().ok();
            Some(Chosen {
                index: number(index)?,
                reqid: number(reqid)?,
                from: number(from)?,
                rest: rest.to_owned(),
            })
        };
        Some(parse().unwrap_or_else(|| panic!("not of the form of a chosen line: {line}")))
    }
}

/// Checks that a log has each index from 1 on once, and no reqid twice.
pub fn check_log(node: u64, log: &[Chosen]) {
    let mut seen = BTreeMap::new();
    for (line, expected) in log.iter().zip(1..) {
        assert_eq!(line.index, expected, "the log of node {node} misses or repeats an index: {line:?}");
        let before = seen.insert(line.reqid, line.index).filter(|_| line.reqid != 0);
        assert_eq!(before, None, "node {node} delivered reqid {} twice", line.reqid);
    }
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}
