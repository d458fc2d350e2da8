//! A simulated node: its disk and its clock, which outlive its processes, and the process that runs now.

use std::sync::Arc;

use crate::consensus::config::Config;
use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::NodeId;
use crate::store::engine::EngineError;
use crate::store::memory::{Kept, MemoryEngine};
use crate::store::{Founding, OpenError, Recovered, Store};
use crate::wire::proof::Keys;

use super::account::{Account, Written};
use super::process::{CLUSTER, Running};
use super::shape::Sizes;

/// What a node always has, and its process.
pub struct Node {
    pub id: NodeId,
    protocol: ProtocolName,
    config: Config,
    sizes: Sizes,
    /// The cluster's shared secret, if it has one.
    keys: Option<Keys>,
    pub disk: Arc<MemoryEngine>,
    /// The id that a new disk would get; a different one after a wipe.
    pub directory: u128,
    pub clock: LocalClock,
    pub running: Option<Running>,
    /// Counts processes, so that what was meant for an earlier one is not taken by a later one.
    pub process: u64,
    /// Why it will never run again, if it will not.
    pub lost: Option<&'static str>,
    /// Its machine is without power, and says nothing, until it starts again.
    pub is_dark: bool,
    /// Its disk was harmed: the node may refuse it.
    pub is_harmed: bool,
    /// A bit flipped in the memory of one of its processes.
    pub was_flipped: bool,
    /// What the simulator knows to be durable on its disk.
    pub account: Account,
}

impl Node {
    pub fn new(
        protocol: ProtocolName,
        config: Config,
        sizes: Sizes,
        keys: Option<Keys>,
        directory: u128,
    ) -> Node {
        Node {
            id: config.node,
            protocol,
            config,
            sizes,
            keys,
            disk: Arc::default(),
            directory,
            clock: LocalClock::default(),
            running: None,
            process: 0,
            lost: None,
            is_dark: false,
            is_harmed: false,
            was_flipped: false,
            account: Account::default(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts from the disk, as `node::Node::start` does.
    pub fn start(&mut self, now_us: u64, rate_permille: u64) -> Result<Recovered, OpenError> {
        let founding = Founding {
            cluster: CLUSTER.into(),
            node: self.id,
            protocol: self.protocol.name().into(),
            members: self.config.voters.ids().iter().map(|id| (*id, format!("node{id}"))).collect(),
            delivery_window: self.sizes.window as u64,
        };
        let (store, recovered) = Store::open_on(self.disk.clone(), &founding, self.directory)?;
        self.clock = LocalClock::start(now_us, rate_permille);
        self.process += 1;
        let (sizes, keys) = (self.sizes, self.keys.clone());
        self.running = Some(Running::start(self.protocol, &self.config, sizes, keys, store, &recovered));
        Ok(recovered)
    }

    /// The process ends, and every write that was not synced is left on the disk as `keep` says. A write
    /// under way has reached the disk's memory.
    pub fn crash(&mut self, keep: impl FnMut() -> Kept) {
        if let Some(mut running) = self.running.take()
            && let Some(works) = running.writing.take()
        {
            self.doubt(Written::of(&works, running.storage.generation()));
            self.disk.fail_sync(EngineError::Failed("the process ended".into()));
            let _ = running.storage.turn(works);
        }
        self.disk.crash(keep);
    }

    /// Notes a write that was not synced when the process ended or the write failed: it is on the disk as a
    /// whole, or not at all.
    pub fn doubt(&mut self, works: Vec<Written>) {
        let uncertain = &mut self.account.uncertain;
        assert!(
            uncertain.is_empty() || works.is_empty(),
            "node {}: one write at a time is under way, not {uncertain:?} and {works:?}",
            self.id
        );
        uncertain.extend(works);
    }

    /// Gives the node a new, empty disk.
    pub fn wipe(&mut self) {
        self.disk = Arc::default();
        self.directory += 1 << 64;
        self.is_harmed = true;
        self.account = Account::default();
    }
}

/// A monotonic clock that runs at its own rate, from 0 at each start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalClock {
    /// The true time at which it showed `at_local_us`.
    at_true_us: u64,
    at_local_us: u64,
    /// Local time per true time, in thousandths.
    rate_permille: u64,
}

impl LocalClock {
    pub fn start(now_us: u64, rate_permille: u64) -> LocalClock {
        LocalClock { at_true_us: now_us, at_local_us: 0, rate_permille }
    }

    pub fn local_us(&self, now_us: u64) -> u64 {
        self.at_local_us + (now_us - self.at_true_us) * self.rate_permille / 1000
    }

    pub fn local_ms(&self, now_us: u64) -> u64 {
        self.local_us(now_us) / 1000
    }

    /// From now on it runs at this rate.
    pub fn set_rate(&mut self, now_us: u64, rate_permille: u64) {
        let at_local_us = self.local_us(now_us);
        *self = LocalClock { at_true_us: now_us, at_local_us, rate_permille };
    }

    /// How much true time passes while it shows `local_us` more.
    pub fn true_us(&self, local_us: u64) -> u64 {
        (local_us * 1000).div_ceil(self.rate_permille).max(1)
    }
}
