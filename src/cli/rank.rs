//! `spaxos rank`: a node that makes values itself, for the log checker (`spaxos check`).
//!
//! It embeds a [`Node`]: while that leads, it makes values of 1000 random bytes, paced so that `-l` of them
//! take `-o` seconds; after `-l` of them, or when it has led for `-o` seconds, leadership is handed to the
//! next rank. So `-o 1 -l 100` is a quiet 100 values a second with a new leader each second, and with `-o 1
//! -l 10000` the leader makes as many as the cluster takes. A rank that does not take over is passed over
//! once.
//!
//! Rules for the instance log (`log/instancelogI.log`):
//!
//! * `generate` is written before the value is proposed, so whatever kills the rank, no value is committed
//!   that no log knows.
//! * seq counts values only, from 1, in the order of the chosen log: the same on all ranks. In a `generate`
//!   line it is where the value is expected, which another leader's values may prove wrong.
//! * A rank whose data directory is new begins an empty log. With a data directory of an earlier run it
//!   continues: it goes through the node's log from the beginning, and does not write commits again that the
//!   file already has.
//!
//! Left out: rotation of the instance log.

mod instance_log;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use log::{info, warn};

use crate::config::Config;
use crate::consensus::protocol::Status;
use crate::consensus::types::{NodeId, RequestId};
use crate::node::{ExitCode as Code, Items, Node, Received, StartError, apply_channel};

use self::instance_log::InstanceLog;
use super::cluster::Interrupt;
use super::error::Error;
use super::output;
use super::serve;

const VALUE_BYTES: usize = 1000;
/// How often deliveries, the clock and the leadership are looked at.
const TURN: Duration = Duration::from_millis(5);
/// The most values that were made and are not delivered yet; then the leader waits.
const OUTSTANDING: usize = 1024;
/// How long a rank waits for a first leader before its time runs anyway: all ranks may start slowly.
const START_WAIT: Duration = Duration::from_secs(10);
/// A value that was not delivered for this long is given up (it may still be delivered).
const VALUE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most delivered values that wait to be logged; then the node delivers no more.
const ITEMS: usize = 4096;

/// A node that makes values while it leads and logs what it generates and commits, for `spaxos check`.
#[derive(Args, Debug)]
pub struct Rank {
    /// This rank, from 0: node RANK+1 of the configuration
    #[arg(short = 'i', value_name = "RANK", default_value_t = 0)]
    rank: u64,
    /// Seconds after which a leader hands over; also the time over which it spreads its INTERVAL values
    #[arg(short = 'o', value_name = "TIMEOUT_S", default_value_t = 10.0, value_parser = seconds)]
    timeout_s: f64,
    /// Values after which a leader hands over
    #[arg(short = 'l', value_name = "INTERVAL", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    interval: u64,
    /// Seconds to run, from when it first hears of a leader (for which it waits at most 10 s)
    #[arg(short = 't', value_name = "SECONDS", default_value_t = 50.0, value_parser = seconds)]
    run_s: f64,
    /// Holds nodeRANK.toml and log/instancelogRANK.log
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The configuration, as for simplesvr [default: nodeRANK.toml in DIR]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let sound = number.filter(|number| (0.01..=1e6).contains(number));
    sound.ok_or_else(|| "give seconds from 0.01 to 1000000".to_string())
}

/// Runs for its time, until it is told to end, or until the node fails: exit codes as those of `simplesvr`.
pub(super) fn run(arguments: &Rank) -> ExitCode {
    match start_and_run(arguments) {
        Ok(code) => ExitCode::from(code as u8),
        Err(StartError { code, text, .. }) => {
            output::tell(&format!("spaxos rank: {text}"));
            ExitCode::from(code as u8)
        }
    }
}

fn start_and_run(arguments: &Rank) -> Result<Code, StartError> {
    serve::exit_on_panic();
    let refused = |error: Error| StartError::new(Code::Config, error.to_string());
    let path = arguments
        .config
        .clone()
        .unwrap_or_else(|| arguments.dir.join(format!("node{}.toml", arguments.rank)));
    let config = load(&path, arguments.rank).map_err(refused)?;
    let instance_path = arguments.dir.join(format!("log/instancelog{}.log", arguments.rank));
    let interrupt = Interrupt::catch().map_err(refused)?;
    begin_new_log(&config.data, &instance_path).map_err(refused)?;
    let (apply, items) = apply_channel(ITEMS);
    serve::raise_descriptor_limit();
    let opened = Node::builder(config.clone()).apply_channel(apply).log_file().open()?;
    // The data directory is locked now: nobody else writes this log.
    let instances = InstanceLog::open(&instance_path).map_err(refused)?;
    let log = serve::take_over_process(&opened);
    let node = opened.start()?;
    info!("rank {} goes on after seq {}", arguments.rank, instances.committed());
    let mut running = Running::new(arguments, &config, node, items, instances);
    let ending = running.run(&interrupt);
    match ending {
        Ok(None) => {
            running.node.stop().map_err(|failure| StartError::new(failure.code, failure.text))?;
            Ok(Code::Ok)
        }
        // Nothing more is acknowledged or written: what the other threads still do must not matter.
        Ok(Some(code)) => {
            log.flush();
            std::process::exit(code as i32)
        }
        Err(error) => {
            log.flush();
            Err(StartError::new(Code::Disk, error.to_string()))
        }
    }
}

fn load(path: &Path, rank: u64) -> Result<Config, Error> {
    let mut config = Config::load(path).map_err(|error| Error::Message(error.to_string()))?;
    config.client.timeout_ms = VALUE_TIMEOUT.as_millis() as u64;
    let node = rank.saturating_add(1);
    if config.node != node {
        return Err(Error::Message(format!(
            "{} is for node {}, but rank {rank} is node {node}: give its own configuration",
            path.display(),
            config.node
        )));
    }
    Ok(config)
}

/// A rank without a data directory has never run: what the instance log holds is from another run.
fn begin_new_log(data: &Path, instances: &Path) -> Result<(), Error> {
    if data.exists() || !instances.exists() {
        return Ok(());
    }
    let emptied = File::options().write(true).truncate(true).open(instances);
    emptied.map(drop).map_err(Error::io(format!("empty the instance log {}", instances.display())))
}

/// A running rank.
struct Running {
    node: Node,
    /// What it delivers: values only, numbered as seqs are.
    items: Items,
    instances: InstanceLog,
    /// All ranks' nodes, ascending, this one included.
    members: Vec<NodeId>,
    me: NodeId,
    timeout: Duration,
    /// 2 T: a successor that has not taken over by then will not.
    patience: Duration,
    interval: u64,
    run: Duration,
    ends_at: Instant,
    /// Whether a leader was heard of: its time runs from then on.
    has_begun: bool,
    /// The seq of the last value that was delivered.
    seq: u64,
    /// When each value is given up, by reqid.
    outstanding: BTreeMap<u64, Instant>,
    leadership: Option<Leadership>,
    /// How many places after this rank the next successor is; a rank that did not take over is passed over.
    step: usize,
}

/// What happened since this rank began to lead, or since a successor did not take over.
struct Leadership {
    since: Instant,
    made: u64,
    /// When a successor was asked to take over.
    asked_at: Option<Instant>,
}

impl Running {
    fn new(arguments: &Rank, config: &Config, node: Node, items: Items, instances: InstanceLog) -> Running {
        let run = Duration::from_secs_f64(arguments.run_s);
        Running {
            me: node.id(),
            node,
            items,
            instances,
            members: config.peers.keys().copied().collect(),
            timeout: Duration::from_secs_f64(arguments.timeout_s),
            patience: Duration::from_millis(2 * config.timing.election_ms),
            interval: arguments.interval,
            run,
            ends_at: Instant::now() + START_WAIT + run,
            has_begun: false,
            seq: 0,
            outstanding: BTreeMap::new(),
            leadership: None,
            step: 1,
        }
    }

    /// Runs until the time is over or it is interrupted. Returns the code if the node failed.
    fn run(&mut self, interrupt: &Interrupt) -> Result<Option<Code>, Error> {
        while !interrupt.is_set() && Instant::now() < self.ends_at {
            self.lead()?;
            self.deliver()?;
            if let Some(failure) = self.node.failure() {
                return Ok(Some(failure.code));
            }
        }
        // What is under way may still arrive, if there is a majority.
        let give_up_at = Instant::now() + Duration::from_millis(500);
        while !interrupt.is_set() && !self.outstanding.is_empty() && Instant::now() < give_up_at {
            self.deliver()?;
        }
        Ok(None)
    }

    /// Logs what the node delivers within a turn.
    fn deliver(&mut self) -> Result<(), Error> {
        let until = Instant::now() + TURN;
        let now_ms = unix_ms();
        let mut left = TURN;
        while let Received::Item(item) = self.items.recv_timeout(left) {
            let (request, value) = (item.command.request, item.command.payload);
            self.seq = item.number;
            self.outstanding.remove(&request.number);
            self.instances.commit(&name(request.number, &value), self.seq, now_ms);
            left = until.saturating_duration_since(Instant::now());
        }
        self.instances.write()
    }

    /// What a leader does: makes values, and hands over when it is time.
    fn lead(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        // Values that are out of time no longer count as under way.
        self.outstanding.retain(|_, give_up_at| now < *give_up_at);
        let status @ Status { leader, .. } = &self.node.status();
        if leader.is_some() && !self.has_begun {
            (self.has_begun, self.ends_at) = (true, now + self.run);
        }
        if !status.is_leader() {
            // A rank that leads again begins with the rank after it.
            self.leadership = None;
            self.step = 1;
            return Ok(());
        }
        let new = Leadership { since: now, made: 0, asked_at: None };
        let leadership = self.leadership.get_or_insert(new);
        let led = now - leadership.since;
        let share = (led.as_secs_f64() / self.timeout.as_secs_f64()).min(1.0);
        let due = (self.interval as f64 * share).ceil() as u64;
        let room = OUTSTANDING.saturating_sub(self.outstanding.len()) as u64;
        let count = due.saturating_sub(leadership.made).min(room);
        leadership.made += count;
        let finished = leadership.made >= self.interval || led >= self.timeout;
        self.make_values(count, now)?;
        if finished {
            self.hand_over(now);
        }
        Ok(())
    }

    /// Makes values: first all of them are logged, then they are proposed.
    fn make_values(&mut self, count: u64, now: Instant) -> Result<(), Error> {
        let now_ms = unix_ms();
        let mut made = Vec::new();
        for place in 1..=count {
            let (reqid, value) = make_value()?;
            let expected = self.seq + self.outstanding.len() as u64 + place;
            self.instances.generate(&name(reqid, &value), expected, now_ms);
            made.push((RequestId::user(reqid), value));
        }
        self.instances.write()?;
        if made.is_empty() {
            return Ok(());
        }
        let reqids: Vec<u64> = made.iter().map(|(request, _)| request.number).collect();
        // If they are refused (an overload, a full disk), none of them is proposed, and the log has more
        // generates than that.
        if self.node.propose_all_as(made).is_ok() {
            self.outstanding.extend(reqids.into_iter().map(|reqid| (reqid, now + VALUE_TIMEOUT)));
        }
        Ok(())
    }

    /// Asks once. A rank that goes on leading begins a new term of its own, after which it asks the next rank
    /// but one.
    fn hand_over(&mut self, now: Instant) {
        let Some(leadership) = &mut self.leadership else { return };
        let Some(successor) = successor(&self.members, self.me, self.step) else {
            self.leadership = None;
            return;
        };
        match leadership.asked_at {
            None => {
                leadership.asked_at = Some(now);
                if let Err(error) = self.node.transfer_leadership(successor) {
                    warn!("leadership is not handed to node {successor}: {error}");
                }
            }
            Some(asked_at) if now - asked_at >= self.patience => {
                self.leadership = None;
                self.step += 1;
            }
            Some(_) => {}
        }
    }
}

/// The node `step` places after `me`, round and round, without `me`; `None` if it is alone.
fn successor(members: &[NodeId], me: NodeId, step: usize) -> Option<NodeId> {
    let place = members.iter().position(|node| *node == me)?;
    let others = members.len() - 1;
    let ahead = 1 + (step - 1).checked_rem(others)?;
    Some(members[(place + ahead) % members.len()])
}

/// A reqid that nobody else has, and a value.
fn make_value() -> Result<(u64, Bytes), Error> {
    let mut value = vec![0; VALUE_BYTES];
    let drawn = getrandom::fill(&mut value).and_then(|()| getrandom::u64());
    let reqid = drawn.map_err(|error| Error::Message(format!("no random bytes: {error}")))?;
    Ok((reqid.max(1), value.into()))
}

/// Names a value in the log: its reqid, which no other value has, and a checksum of its bytes.
fn name(reqid: u64, value: &[u8]) -> String {
    format!("{reqid:016x}{:08x}", crc32c::crc32c(value))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of another run goes with its data directory; what a restart of this one needs stays.
    #[test]
    fn a_new_data_directory_begins_an_empty_log() {
        let folder = tempfile::tempdir().unwrap();
        let (data, log) = (folder.path().join("data"), folder.path().join("instancelog0.log"));
        begin_new_log(&data, &log).unwrap();
        assert!(!log.exists());
        std::fs::write(&log, "of another run\n").unwrap();
        begin_new_log(&data, &log).unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"");
        std::fs::write(&log, "of this run\n").unwrap();
        std::fs::create_dir(&data).unwrap();
        begin_new_log(&data, &log).unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"of this run\n");
    }

    /// Every other rank comes in turn, however many are passed over.
    #[test]
    fn successors_go_round() {
        let order: Vec<_> = (1..=6).filter_map(|step| successor(&[1, 2, 3, 4], 3, step)).collect();
        assert_eq!(order, [4, 1, 2, 4, 1, 2]);
        assert_eq!(successor(&[1], 1, 1), None);
    }
}
