//! Golden scripts: text drives one to seven cores. Each script says on top what it shows and which rule that
//! is; read them as the worked examples of the protocols. `sim::checker` watches here as well.
//!
//! Those in `golden/paxos/` and `golden/raft/` show every message, batch and flush of one protocol. Those in
//! `golden/shared/` run under both, show what a user could see (`golden/neutral.rs`), and must show the same.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test golden` writes the outputs again; read the difference when you do.
//! `MERMAID=DIR cargo test --test golden` draws each script as a sequence diagram.

mod common;
#[path = "golden/neutral.rs"]
mod neutral;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use goldenscript::{Context, Runner};
use spaxos::cli::trace::mermaid;
use spaxos::consensus::batch::Event;
use spaxos::consensus::message::Message;
use spaxos::consensus::protocol::Status;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command as Request, Entry, NodeId, Round};

use common::cluster::{Cluster, Detail, Shape};
use common::tracer::Tracer;
use neutral::Neutral;

/// Every script of Multi-Paxos still prints what it printed.
#[test]
fn paxos_scripts() {
    each_script("paxos", |path| run(ProtocolName::Paxos, path));
}

/// Every script of Raft still prints what it printed.
#[test]
fn raft_scripts() {
    each_script("raft", |path| run(ProtocolName::Raft, path));
}

/// What is not a protocol's own is the same under both.
#[test]
fn shared_scripts() {
    each_script("shared", |path| {
        run(ProtocolName::Paxos, path)?;
        if std::env::var_os("MERMAID").is_some() {
            run(ProtocolName::Raft, path)?;
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut script = Script::new(ProtocolName::Raft, true);
        let output = goldenscript::generate(&mut script, &text).map_err(|error| format!("raft: {error}"))?;
        let differs = text.lines().zip(output.lines()).find(|(paxos, raft)| paxos != raft);
        match differs {
            Some((paxos, raft)) => Err(format!("paxos shows `{paxos}`, raft `{raft}`")),
            None if text != output => Err("one protocol shows more than the other".to_string()),
            None => Ok(()),
        }
    });
}

/// Runs the scripts of a folder, in order, and reports all that fail.
fn each_script(folder: &str, run: impl Fn(&Path) -> Result<(), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut scripts: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts");
    let errors = scripts.iter().filter_map(|script| Some((script.display(), run(script).err()?)));
    let errors: Vec<String> = errors.map(|(script, error)| format!("{script}: {error}\n")).collect();
    assert!(errors.is_empty(), "{}", errors.concat());
}

fn run(protocol: ProtocolName, path: &Path) -> Result<(), String> {
    let folder = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let mut script = Script::new(protocol, folder == "shared");
    let result = goldenscript::run(&mut script, path);
    if let Some(diagrams) = std::env::var_os("MERMAID") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = match folder {
            "shared" => format!("{folder}_{name}_{protocol}.mmd"),
            _ => format!("{folder}_{name}.mmd"),
        };
        draw(script, path, &Path::new(&diagrams).join(name));
    }
    result.map_err(|error| error.to_string())
}

/// Writes the sequence diagram of a script that ran, with the script's own words on top.
fn draw(script: Script, path: &Path, diagram_path: &Path) {
    let Some(mut cluster) = script.cluster else { return };
    let tracer = cluster.tracer.take().expect("MERMAID is set");
    let shape = cluster.shape();
    let trace = tracer.into_trace(shape.nodes, shape.election_ms);
    let text = fs::read_to_string(path).unwrap();
    let words = text.lines().map_while(|line| line.strip_prefix('#'));
    let words: String = words.map(|line| format!("%%{line}\n")).collect();
    let diagram = mermaid::diagram(&trace, &(0..=u64::MAX));
    let diagram = diagram.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::create_dir_all(diagram_path.parent().unwrap()).unwrap();
    fs::write(diagram_path, words + &diagram).unwrap();
}

/// What a script can say. The tag `[brief]` shows only events and deliveries; a command in parentheses shows
/// nothing.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts a cluster: `cluster 3 window_entries=4`. T is 100 ms, a heartbeat interval 20 ms.
    Cluster {
        nodes: u64,
        #[arg(key)]
        window_entries: Option<u64>,
        #[arg(key)]
        window_bytes: Option<usize>,
    },
    /// The nodes' clocks go on in steps of 10 ms: `tick 1 2 ms=100`. Idle ticks are not shown.
    Tick(Vec<NodeId>, #[arg(key = "ms")] u64),
    /// A node's process stands still, then ticks once: `pause 1 ms=500`.
    Pause(NodeId, #[arg(key = "ms")] u64),
    /// A node's clock goes on until it asks the others: `campaign 1`.
    Campaign(NodeId),
    /// A node campaigns and leads, and its first heartbeat tells the others what is chosen: `lead 1`.
    Lead(NodeId),
    /// All clocks go on in steps of 10 ms, all messages arrive, all is flushed: `run ms=200`.
    Run(#[arg(key = "ms")] u64),
    /// Clients of a node propose: `propose 1 7=hello`; `7="x*300000"` is that many x.
    Propose(NodeId, Vec<(u64, String)>),
    /// The same, but they are out of time after `ms`.
    ProposeFor(NodeId, u64, Vec<(u64, String)>),
    /// Somebody reads through a node: `read 1`.
    Read(NodeId),
    /// A node is asked to hand leadership over: `transfer 1 to=2`.
    Transfer(NodeId, #[arg(key = "to")] NodeId),
    /// A node is in trouble, and these are not: `make_way 1 2 3`; without others, the trouble is over.
    MakeWay(NodeId, #[arg(optional)] Vec<NodeId>),
    /// A node's disk hangs: nothing that it writes becomes durable until `recover 1`.
    Hang(NodeId),
    /// A node's disk goes on.
    Recover(NodeId),
    /// What is held is in flight again.
    Release,
    /// Writes become durable and the messages behind them leave: `flush 1`; without nodes, on all.
    Flush(#[arg(optional)] Vec<NodeId>),
    /// Flushes and delivers until nothing is under way.
    Settle,
    /// A node's links are cut: `cut 1`; or those of a pair: `cut 1 2`.
    Cut(Vec<NodeId>),
    /// All links are good again.
    Heal,
    /// A node ends; what was not flushed is lost.
    Crash(NodeId),
    /// A node starts from its disk; `compacted=2`: without the entries up to 2.
    Restart(NodeId, #[arg(key = "compacted")] Option<u64>),
    /// A write failed: the node goes on from its disk.
    Rebuild(NodeId),
    /// A node that has nothing on its disk yet starts with a log that earlier leaders left, given by the
    /// ballots of its entries: `log 1 1.1 1.1 4.2*1000` (the last of a thousand bytes). `round=7` is the last
    /// round it heard of; without it, that is the round of the last entry.
    Log(NodeId, Vec<String>, #[arg(key = "round")] Option<Round>),
    /// The durable logs of all nodes: the rounds of their entries, and `|` behind what each knows to be
    /// chosen.
    Logs,
    /// How nodes stand.
    Status(#[arg(optional)] Vec<NodeId>),
    /// What is in flight.
    Flight,
    /// What is durable.
    Disk(NodeId),
    /// What happens to messages in flight; `kind=Accept from=1 to=2 count=1` says to which, otherwise to all:
    /// `deliver` (oldest first, what that leads to not included), `together` (those for one node arrive in
    /// one turn of it), `drop`, `duplicate`, `hold` (until released). Shared scripts name kinds by what both
    /// protocols have, see `neutral::KINDS`.
    #[command(other)]
    Messages(goldenscript::Command),
}

struct Script {
    protocol: ProtocolName,
    cluster: Option<Cluster>,
    held: Vec<Message>,
    /// If only what a user could see is shown.
    neutral: Option<Neutral>,
}

impl Script {
    fn new(protocol: ProtocolName, is_shared: bool) -> Script {
        Script { protocol, cluster: None, held: Vec::new(), neutral: is_shared.then(Neutral::default) }
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        if let Command::Cluster { nodes, window_entries, window_bytes } = command {
            let cluster = self.cluster.insert(Cluster::new(Shape {
                protocol: self.protocol,
                nodes: *nodes,
                election_ms: 100,
                heartbeat_ms: 20,
                window_entries: window_entries.unwrap_or(64),
                window_bytes: window_bytes.unwrap_or(16 << 20),
                seed: 1,
            }));
            cluster.tracer = std::env::var_os("MERMAID").map(|_| Tracer::new());
            self.neutral = self.neutral.take().map(|_| Neutral::default());
            return Ok(String::new());
        }
        let cluster = self.cluster.as_mut().ok_or("a script begins with `cluster`")?;
        cluster.detail = match &self.neutral {
            Some(_) => Detail::Nothing,
            None if context.tags.contains("brief") => Detail::Brief,
            None => Detail::Full,
        };
        match command {
            Command::Messages(command) => messages(cluster, &mut self.held, command)?,
            Command::Release => cluster.flight.append(&mut self.held),
            Command::Status(ids) => {
                let ids = if ids.is_empty() { cluster.ids().collect() } else { ids.clone() };
                ids.into_iter().for_each(|id| show_status(cluster, id, self.neutral.is_some()));
            }
            command => node_command(cluster, command)?,
        }
        let output = std::mem::take(&mut cluster.out);
        match &mut self.neutral {
            Some(neutral) => Ok(neutral.news(cluster, command) + &output),
            None => Ok(output),
        }
    }
}

/// The commands that concern nodes, links and time.
fn node_command(cluster: &mut Cluster, command: &Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Tick(ids, ms) => tick(cluster, ids, *ms),
        Command::Pause(id, ms) => drop(cluster.tick(*id, *ms)),
        Command::Campaign(id) => campaign(cluster, *id)?,
        Command::Lead(id) => {
            campaign(cluster, *id)?;
            cluster.settle();
            tick(cluster, &[*id], 20);
            cluster.settle();
        }
        Command::Run(ms) => cluster.run(*ms),
        Command::Propose(id, values) => propose(cluster, *id, values, 10_000)?,
        Command::ProposeFor(id, ms, values) => propose(cluster, *id, values, *ms)?,
        Command::Read(id) => drop(cluster.read(*id)),
        Command::Transfer(id, to) => drop(cluster.transfer(*id, *to)),
        Command::MakeWay(id, to) => drop(cluster.make_way(*id, to.clone())),
        Command::Hang(id) => drop(cluster.hung.insert(*id)),
        Command::Recover(id) => drop(cluster.hung.remove(id)),
        Command::Flush(ids) if ids.is_empty() => {
            for id in cluster.ids() {
                cluster.flush(id, usize::MAX);
            }
        }
        Command::Flush(ids) => ids.iter().for_each(|id| cluster.flush(*id, usize::MAX)),
        Command::Settle => cluster.settle(),
        Command::Cut(ids) => cut(cluster, ids),
        Command::Heal => {
            cluster.cut.clear();
            cluster.tracer.iter_mut().for_each(Tracer::healed);
        }
        Command::Crash(id) => cluster.crash(*id),
        Command::Restart(id, compacted) => {
            if let Some(compacted) = compacted {
                cluster.compact(*id, *compacted);
            }
            cluster.restart(*id);
        }
        Command::Rebuild(id) => cluster.rebuild(*id),
        Command::Log(id, entries, round) => write_log(cluster, *id, entries, *round)?,
        Command::Logs => cluster.ids().for_each(|id| show_log(cluster, id)),
        Command::Flight => {
            let lines = cluster.flight.iter().map(|message| format!("in flight {message}\n"));
            let lines: String = lines.collect();
            cluster.out.push_str(&lines);
        }
        Command::Disk(id) => {
            let (hard_state, entries) = cluster.disk(*id);
            let entries: Vec<_> = entries.iter().map(Entry::to_string).collect();
            cluster.say(Detail::Full, || format!("{id} has {hard_state} [{}]", entries.join(", ")));
        }
        Command::Cluster { .. } | Command::Messages(_) | Command::Release | Command::Status(_) => {
            unreachable!("handled before")
        }
    }
    Ok(())
}

fn tick(cluster: &mut Cluster, ids: &[NodeId], ms: u64) {
    for _ in 0..ms / 10 {
        for id in ids {
            let _ = cluster.tick(*id, 10);
        }
    }
}

fn campaign(cluster: &mut Cluster, id: NodeId) -> Result<(), Box<dyn Error>> {
    for _ in 0..100 {
        let batch = cluster.tick(id, 10);
        if batch.events.iter().any(|event| matches!(event, Event::Campaigning { .. })) {
            return Ok(());
        }
    }
    Err(format!("node {id} does not campaign").into())
}

/// `text*count` is that many copies of the text.
fn propose(
    cluster: &mut Cluster,
    id: NodeId,
    values: &[(u64, String)],
    ttl_ms: u64,
) -> Result<(), Box<dyn Error>> {
    let mut commands = Vec::new();
    for (reqid, value) in values {
        let payload = match value.split_once('*') {
            Some((text, count)) => text.repeat(count.parse()?),
            None => value.clone(),
        };
        commands.push(Request::value(*reqid, id, payload));
    }
    let _ = cluster.propose(id, commands, ttl_ms);
    Ok(())
}

/// Both ways: one node from all others, or each of several from each other.
fn cut(cluster: &mut Cluster, ids: &[NodeId]) {
    let others: Vec<NodeId> = match ids.len() {
        1 => cluster.ids().collect(),
        _ => ids.to_vec(),
    };
    for (a, b) in ids.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
        cluster.cut.extend([(a, b), (b, a)]);
    }
    if let Some(tracer) = &mut cluster.tracer {
        let names: Vec<String> = ids.iter().map(NodeId::to_string).collect();
        let far = if ids.len() == 1 { "from all others" } else { "from each other" };
        tracer.fault(format!("cut off {far}: {}", names.join(", ")));
    }
}

/// Each entry is a value of its own, named by where it stands: `6@5` is that of index 6 and round 5.
fn write_log(
    cluster: &mut Cluster,
    id: NodeId,
    words: &[String],
    round: Option<Round>,
) -> Result<(), Box<dyn Error>> {
    let mut entries = Vec::new();
    for (index, word) in (1..).zip(words) {
        let (ballot, bytes) = word.split_once('*').unwrap_or((word, ""));
        let (round, node) = ballot.split_once('.').ok_or("a ballot is `round.node`")?;
        let ballot = Ballot { round: round.parse()?, node: node.parse()? };
        let payload = match bytes {
            "" => format!("{index}@{round}"),
            bytes => "x".repeat(bytes.parse()?),
        };
        let command = Request::value(100 * ballot.round + index, ballot.node, payload);
        entries.push(Entry { index, ballot, command });
    }
    let last = entries.last().map_or(0, |entry| entry.ballot.round);
    cluster.crash(id);
    cluster.write_log(id, round.unwrap_or(last), entries);
    cluster.restart(id);
    Ok(())
}

fn show_log(cluster: &mut Cluster, id: NodeId) {
    let (hard_state, entries) = cluster.disk(id);
    let words = entries.iter().map(|entry| {
        let end = if entry.index == hard_state.chosen { " |" } else { "" };
        format!(" {}{end}", entry.ballot.round)
    });
    let words: String = words.collect();
    cluster.say(Detail::Nothing, || format!("{id}:{words}"));
}

fn show_status(cluster: &mut Cluster, id: NodeId, is_neutral: bool) {
    if !cluster.is_up(id) {
        return cluster.say(Detail::Nothing, || format!("{id} is down"));
    }
    let Status { role, promised, leader, chosen, last, pending, .. } = cluster.status(id);
    let leader = leader.map_or("none".to_string(), |leader| leader.to_string());
    cluster.say(Detail::Nothing, || {
        if is_neutral {
            format!("{id} {role} leader={leader} chosen={chosen} pending={pending}")
        } else {
            format!(
                "{id} {role} promised={promised} leader={leader} chosen={chosen} last={last} pending={pending}"
            )
        }
    });
}

/// The commands that concern messages in flight.
fn messages(
    cluster: &mut Cluster,
    held: &mut Vec<Message>,
    command: &goldenscript::Command,
) -> Result<(), Box<dyn Error>> {
    let taken = take(cluster, command)?;
    match command.name.as_str() {
        "deliver" => taken.into_iter().for_each(|message| drop(cluster.arrive(vec![message]))),
        "together" => drop(cluster.arrive(taken)),
        "drop" => {
            if let Some(tracer) = &mut cluster.tracer {
                taken.iter().for_each(|message| tracer.lost(message, "lost"));
            }
        }
        "duplicate" => {
            if let Some(tracer) = &mut cluster.tracer {
                taken.iter().for_each(|message| tracer.duplicated(message));
            }
            cluster.flight.extend(taken.iter().chain(&taken).cloned());
        }
        "hold" => held.extend(taken),
        name => return Err(format!("no command {name}").into()),
    }
    Ok(())
}

/// Takes the meant messages out of flight.
fn take(cluster: &mut Cluster, command: &goldenscript::Command) -> Result<Vec<Message>, Box<dyn Error>> {
    let mut args = command.consume_args();
    let kind = args.take_key("kind");
    let from: Option<NodeId> = args.take_key("from").map(str::parse).transpose()?;
    let to: Option<NodeId> = args.take_key("to").map(str::parse).transpose()?;
    let count: usize = args.take_key("count").map_or(Ok(usize::MAX), str::parse)?;
    args.reject_next()?;
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    for message in cluster.flight.drain(..) {
        let words = message.body.to_string();
        let name = words.split(' ').next().unwrap_or_default();
        let meant = kind.is_none_or(|kind| name == kind || neutral::is_kind(kind, name))
            && from.is_none_or(|from| message.from == from)
            && to.is_none_or(|to| message.to == to)
            && taken.len() < count;
        if meant { taken.push(message) } else { rest.push(message) }
    }
    cluster.flight = rest;
    if taken.is_empty() && !command.args.is_empty() {
        return Err(format!("nothing in flight for `{command}`").into());
    }
    Ok(taken)
}
