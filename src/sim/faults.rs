//! What goes wrong in a simulation, and how often: one plain struct, in a file or drawn from a seed.
//!
//! Each class of faults draws from its own generator (`world/chaos.rs`), so that one of them can be taken
//! away and the others stay as they are: that is how a failing case is made smaller.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::consensus::random::Random;

/// The faults of a run; all times are virtual. A field that a file does not name is 0: none of it, except for
/// delays, which are then those of [`Faults::none`].
///
/// `…_every_ms` is the mean time from one fault of a class to the next, over the whole cluster: the next one
/// comes after 0.5 to 1.5 times that. 0 means never, otherwise 1 to 3,600,000.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Whether each message is on its own (0 or 1): 0 is a network of connections as TCP makes them, which
    /// bring messages in order and once (`sim/streams.rs`); 1 is one that loses, doubles and reorders single
    /// messages, as no TCP does. The network stays as it is when faults end.
    pub datagrams: u64,
    /// Messages that are lost, in percent (0 to 100). With connections, so are their acknowledgements and
    /// attempts to connect, and what was lost is sent again.
    pub loss_percent: u64,
    /// Messages that arrive twice, in percent (0 to 100). Without datagrams there are none.
    pub duplicate_percent: u64,
    /// The shortest time that a message takes, in µs (1 to 10,000,000).
    pub delay_min_us: u64,
    /// The longest time that a message takes, in µs (from `delay_min_us` to 10,000,000). The spread reorders
    /// datagrams; on a connection, what overtakes waits.
    pub delay_max_us: u64,
    /// Messages that are late, in percent (0 to 100).
    pub late_percent: u64,
    /// How much longer a late message takes at most, in ms (0 to 60,000).
    pub late_ms: u64,

    /// The network splits: in halves, one way, around a bridge, into a chain, or around the leader.
    pub partition_every_ms: u64,
    /// A split lasts for at most this, in ms (1 to 60,000), and for at least a tenth of it.
    pub partition_ms: u64,

    /// A node's process ends without a word.
    pub crash_every_ms: u64,
    /// All processes end at the same time.
    pub crash_all_every_ms: u64,
    /// Processes that end together with the power of their machine, so that unsynced writes may be lost, in
    /// percent (0 to 100). Without a power cut all writes are kept, since the system has them in memory.
    pub power_cut_percent: u64,
    /// A node stays down for at most this, in ms (1 to 60,000).
    pub down_ms: u64,
    /// A process is stopped, and goes on later.
    pub pause_every_ms: u64,
    /// A pause lasts for at most this, in ms (1 to 60,000).
    pub pause_ms: u64,
    /// How often a single thread that should wake does not run for a while, in thousandths (0 to 1000): the
    /// other threads of its process go on.
    pub stall_permille: u64,
    /// A thread is stalled for at most this, in ms (1 to 60,000).
    pub stall_ms: u64,
    /// How far clocks drift: each node's clock runs at a rate between 1 / (1 + d) and 1 + d, where d is this,
    /// in percent (0 to 100, which is ×0.5 to ×2). The rate changes with every fault of this class.
    pub drift_percent: u64,

    /// The shortest durable write, in µs (1 to 10,000,000).
    pub write_min_us: u64,
    /// The longest durable write, in µs (from `write_min_us` to 10,000,000).
    pub write_max_us: u64,
    /// A disk becomes twenty times slower for a while.
    pub slow_disk_every_ms: u64,
    /// A disk does nothing at all for a while.
    pub hung_disk_every_ms: u64,
    /// A disk is slow or hung for at most this, in ms (1 to 60,000).
    pub slow_disk_ms: u64,
    /// A write fails (EIO): the node must end.
    pub write_fails_every_ms: u64,
    /// A flush fails (EIO): the node must end, and what it wrote may or may not be on the disk.
    pub flush_fails_every_ms: u64,
    /// A disk is full for a while: the node must suspend, and go on when there is room.
    pub disk_full_every_ms: u64,
    /// A disk is full for at most this, in ms (1 to 60,000).
    pub disk_full_ms: u64,

    /// A crash leaves a part of a write, contrary to what the store may expect of a disk: the node must not
    /// start again. This happens only as long as a majority is left, as do all faults that follow.
    pub torn_write_every_ms: u64,
    /// A bit of a stored record changes: the node must end, or not start again.
    pub bit_flip_every_ms: u64,
    /// A node loses its disk, and starts with an empty one: the others must not let it take part.
    pub wipe_every_ms: u64,
    /// A bit flips in what a process remembers of the log that it delivered: the others must tell it, and it
    /// must end.
    pub memory_flip_every_ms: u64,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

impl Faults {
    /// A quiet cluster: messages take 0.1 to 0.5 ms, durable writes 0.1 to 0.3 ms.
    pub fn none() -> Faults {
        Faults {
            datagrams: 0,
            loss_percent: 0,
            duplicate_percent: 0,
            delay_min_us: 100,
            delay_max_us: 500,
            late_percent: 0,
            late_ms: 0,
            partition_every_ms: 0,
            partition_ms: 1000,
            crash_every_ms: 0,
            crash_all_every_ms: 0,
            power_cut_percent: 0,
            down_ms: 1000,
            pause_every_ms: 0,
            pause_ms: 1000,
            stall_permille: 0,
            stall_ms: 100,
            drift_percent: 0,
            write_min_us: 100,
            write_max_us: 300,
            slow_disk_every_ms: 0,
            hung_disk_every_ms: 0,
            slow_disk_ms: 1000,
            write_fails_every_ms: 0,
            flush_fails_every_ms: 0,
            disk_full_every_ms: 0,
            disk_full_ms: 1000,
            torn_write_every_ms: 0,
            bit_flip_every_ms: 0,
            wipe_every_ms: 0,
            memory_flip_every_ms: 0,
        }
    }

    /// A mix drawn from a seed: each class is absent, rare or frequent. Mixes find more than a single setting
    /// with everything in it, under which nothing gets done ("Swarm Testing", Groce et al., 2012).
    pub fn mixed(random: &mut Random) -> Faults {
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let delay_min_us = pick(&[20, 100, 500]);
        let write_min_us = pick(&[20, 100, 1000]);
        Faults {
            loss_percent: pick(&[0, 0, 1, 5, 20]),
            duplicate_percent: pick(&[0, 0, 2, 10]),
            delay_min_us,
            delay_max_us: delay_min_us * pick(&[2, 5, 20]),
            late_percent: pick(&[0, 0, 1, 5]),
            late_ms: pick(&[5, 50, 500]),
            partition_every_ms: pick(&[0, 500, 2000]),
            partition_ms: pick(&[100, 500, 2000]),
            crash_every_ms: pick(&[0, 200, 1000]),
            crash_all_every_ms: pick(&[0, 0, 3000]),
            power_cut_percent: pick(&[0, 50, 100]),
            down_ms: pick(&[20, 200, 1000]),
            pause_every_ms: pick(&[0, 0, 500]),
            pause_ms: pick(&[100, 1000]),
            drift_percent: pick(&[0, 10, 100]),
            write_min_us,
            write_max_us: write_min_us * pick(&[2, 10]),
            slow_disk_every_ms: pick(&[0, 0, 1000]),
            hung_disk_every_ms: pick(&[0, 0, 1000]),
            slow_disk_ms: pick(&[50, 500]),
            write_fails_every_ms: pick(&[0, 0, 1000]),
            flush_fails_every_ms: pick(&[0, 0, 1000]),
            disk_full_every_ms: pick(&[0, 0, 800]),
            disk_full_ms: pick(&[10, 300]),
            torn_write_every_ms: pick(&[0, 0, 0, 1000]),
            bit_flip_every_ms: pick(&[0, 0, 0, 1000]),
            wipe_every_ms: pick(&[0, 0, 0, 1000]),
            stall_permille: pick(&[0, 0, 1, 5]),
            stall_ms: pick(&[5, 100, 300]),
            memory_flip_every_ms: pick(&[0, 0, 0, 1000]),
            datagrams: pick(&[0, 0, 1]),
        }
    }

    /// Reads and checks a file of `field = number` lines (TOML).
    pub fn parse(text: &str) -> Result<Faults, String> {
        let faults: Faults = toml::from_str(text).map_err(|error| error.to_string())?;
        faults.check()?;
        Ok(faults)
    }

    /// The names of all fields.
    pub fn names() -> Vec<String> {
        Faults::none().fields().into_iter().map(|(name, _)| name).collect()
    }

    /// The same faults, with one field as it is in [`Faults::none`].
    pub(super) fn without(&self, name: &str) -> Faults {
        let table = |faults: &Faults| toml::Table::try_from(faults).expect("a struct of numbers is a table");
        let (mut ours, mut quiet) = (table(self), table(&Faults::none()));
        ours.extend(quiet.remove_entry(name));
        ours.try_into().expect("a table with the fields of the struct is one")
    }

    /// Checks that each field is within its range. The error names one that is not.
    pub fn check(&self) -> Result<(), String> {
        for (name, number) in self.fields() {
            let (low, high) = match name.as_str() {
                "datagrams" => (0, 1),
                name if name.ends_with("_percent") => (0, 100),
                name if name.ends_with("_permille") => (0, 1000),
                name if name.ends_with("_every_ms") => (0, 3_600_000),
                name if name.ends_with("_us") => (1, 10_000_000),
                "late_ms" => (0, 60_000),
                _ => (1, 60_000),
            };
            if !(low..=high).contains(&number) {
                return Err(format!("{name} = {number}: give a number from {low} to {high}"));
            }
        }
        for (name, low, high) in
            [("delay", self.delay_min_us, self.delay_max_us), ("write", self.write_min_us, self.write_max_us)]
        {
            if low > high {
                return Err(format!("{name}_min_us = {low} is above {name}_max_us = {high}"));
            }
        }
        Ok(())
    }

    /// Each field with its number, in the order of their names.
    fn fields(&self) -> Vec<(String, i64)> {
        let table = toml::Table::try_from(self).expect("a struct of numbers is a table");
        let number = |(name, value): (String, toml::Value)| Some((name, value.as_integer()?));
        table.into_iter().filter_map(number).collect()
    }
}

/// What differs from [`Faults::none`], as `field=number,…`; [`Faults::parse`] reads it with line ends in
/// place of commas.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quiet = Faults::none().fields();
        let others = self.fields().into_iter().zip(quiet).filter(|(ours, quiet)| ours != quiet);
        let texts: Vec<String> = others.map(|((name, number), _)| format!("{name}={number}")).collect();
        f.write_str(if texts.is_empty() { "none".to_owned() } else { texts.join(",") }.as_str())
    }
}
