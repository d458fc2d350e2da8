//! Many seeds on many threads, with the results collected in the order of seeds.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{IsTerminal, Write, stderr};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::failure::Failure;
use super::panics;
use crate::cli::cluster::Interrupt;
use crate::sim::{Counts, Outcome, Plan};

/// Results on their way to be collected; a thread waits when there are this many.
const RESULTS_CAPACITY: usize = 64;
/// How often Ctrl-C is looked at, and progress is shown on a terminal.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How often progress is shown elsewhere.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// What to run.
pub struct Campaign {
    /// The plan of each run, except for the seed and the nodes.
    pub plan: Plan,
    /// How many nodes; `None`: drawn from each seed.
    pub nodes: Option<u64>,
    /// The seeds of all runs, unless the time is up before.
    pub seeds: Range<u64>,
    /// No run begins after this.
    pub until: Option<Instant>,
    /// How many threads.
    pub jobs: usize,
    /// Whether each seed is run twice and must have the same result.
    pub twice: bool,
}

/// How one seed ended.
pub struct Ran {
    plan: Plan,
    steps: u64,
    virtual_us: u64,
    counts: Counts,
    hash: u64,
    failure: Option<Failure>,
}

/// The results of the seeds so far, in order and without a gap, up to the first that failed.
pub struct Tally {
    /// The first seed, and the one after the last.
    pub seeds: Range<u64>,
    /// The steps of all runs.
    pub steps: u64,
    /// The virtual time of all runs.
    pub virtual_us: u64,
    /// The counts of all runs.
    pub counts: Counts,
    /// The first seed that failed, and how.
    pub failure: Option<(Plan, Failure)>,
    hash: SipHasher13,
}

/// Where threads get their next seed.
struct Source<'a> {
    campaign: &'a Campaign,
    next: Mutex<Range<u64>>,
    is_over: AtomicBool,
}

impl Campaign {
    /// Runs them, until one fails, time is up or somebody interrupts.
    pub fn run(&self, interrupt: &Interrupt) -> Tally {
        let is_over = AtomicBool::new(false);
        let source = Source { campaign: self, next: Mutex::new(self.seeds.clone()), is_over };
        let (sender, receiver) = sync_channel(RESULTS_CAPACITY);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (source, sender) = (&source, sender.clone());
                scope.spawn(move || work(source, &sender));
            }
            drop(sender);
            self.collect(&receiver, &source, interrupt)
        })
    }

    /// Takes results until all threads are done.
    fn collect(&self, results: &Receiver<Ran>, source: &Source, interrupt: &Interrupt) -> Tally {
        let mut tally = Tally::new(self.seeds.start);
        let mut early = BTreeMap::new();
        let mut progress = Progress::new(self);
        loop {
            match results.recv_timeout(WATCH_INTERVAL) {
                Ok(ran) => {
                    early.insert(ran.plan.seed, ran);
                    while let Some(ran) = early.remove(&tally.seeds.end) {
                        tally.take(ran);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if tally.failure.is_some() || interrupt.is_set() {
                source.is_over.store(true, Ordering::Relaxed);
            }
            progress.show(&tally);
        }
        progress.end(&tally);
        tally
    }
}

impl Source<'_> {
    fn next(&self) -> Option<Plan> {
        let is_late = self.campaign.until.is_some_and(|until| Instant::now() > until);
        if is_late || self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let seed = self.next.lock().ok()?.next()?;
        let nodes = self.campaign.nodes.unwrap_or_else(|| Plan::drawn_nodes(seed));
        Some(Plan { seed, nodes, ..self.campaign.plan.clone() })
    }
}

/// A thread: one seed after the other.
fn work(source: &Source, results: &SyncSender<Ran>) {
    while let Some(plan) = source.next() {
        let (outcome, place) = panics::run(&plan, 0);
        let mut ran = Ran::new(&outcome, place);
        if source.campaign.twice && ran.failure.is_none() {
            let (again, place) = panics::run(&plan, 0);
            ran.compare(&Ran::new(&again, place));
        }
        if results.send(ran).is_err() {
            return;
        }
    }
}

impl Ran {
    /// What is kept of a run, and where it broke a rule.
    pub fn new(outcome: &Outcome, place: Option<String>) -> Ran {
        let violation = outcome.violation.clone();
        Ran {
            plan: outcome.plan.clone(),
            steps: outcome.steps,
            virtual_us: outcome.virtual_us,
            counts: outcome.counts.clone(),
            hash: outcome.hash,
            failure: violation.map(|violation| Failure::Broken { violation, place }),
        }
    }

    fn compare(&mut self, again: &Ran) {
        let key = |ran: &Ran| (ran.hash, ran.steps, ran.counts.clone());
        if key(self) != key(again) {
            let text = |ran: &Ran| format!("hash {:016x} after {} steps", ran.hash, ran.steps);
            self.failure = Some(Failure::NotRepeated { first: text(self), second: text(again) });
        }
    }
}

impl Tally {
    /// An empty one, before the first seed.
    pub fn new(first: u64) -> Tally {
        Tally {
            seeds: first..first,
            steps: 0,
            virtual_us: 0,
            counts: Counts::default(),
            failure: None,
            hash: SipHasher13::default(),
        }
    }

    /// Takes the next seed; those after one that failed do not count.
    pub fn take(&mut self, ran: Ran) {
        assert_eq!(ran.plan.seed, self.seeds.end, "results are taken in the order of seeds");
        if self.failure.is_some() {
            return;
        }
        self.seeds.end += 1;
        self.steps += ran.steps;
        self.virtual_us += ran.virtual_us;
        self.counts.merge(&ran.counts);
        self.hash.write(&ran.hash.to_le_bytes());
        self.failure = ran.failure.map(|failure| (ran.plan, failure));
    }

    /// The hash of the hashes of all runs, in the order of seeds.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many seeds it has.
    pub fn count(&self) -> u64 {
        self.seeds.end - self.seeds.start
    }
}

/// How far it is, on standard error: one line that changes on a terminal, a line now and then elsewhere.
struct Progress {
    began: Instant,
    shown: Instant,
    is_terminal: bool,
    total: Option<u64>,
}

impl Progress {
    fn new(campaign: &Campaign) -> Progress {
        let total = campaign.until.is_none().then(|| campaign.seeds.end - campaign.seeds.start);
        let now = Instant::now();
        Progress { began: now, shown: now, is_terminal: stderr().is_terminal(), total }
    }

    fn show(&mut self, tally: &Tally) {
        let interval = if self.is_terminal { WATCH_INTERVAL } else { LINE_INTERVAL };
        if self.shown.elapsed() >= interval {
            self.shown = Instant::now();
            let end = if self.is_terminal { "" } else { "\n" };
            self.write(&format!("{}{end}", self.text(tally)));
        }
    }

    fn end(&self, tally: &Tally) {
        self.write(&format!("{}\n", self.text(tally)));
    }

    fn text(&self, tally: &Tally) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let of = self.total.map_or(String::new(), |total| format!(" of {total}"));
        let per_second = tally.count() as f64 / seconds.max(0.001);
        format!("{}{of} seeds in {seconds:.1} s, {per_second:.1} seeds/s", tally.count())
    }

    fn write(&self, text: &str) {
        let begin = if self.is_terminal { "\r\x1b[K" } else { "" };
        // Progress that cannot be shown does not stop the runs.
        let _ = write!(stderr(), "{begin}{text}");
        let _ = stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Invariant, Violation};

    fn campaign(seeds: Range<u64>, jobs: usize) -> Campaign {
        let plan = Plan { events: 100, ..Plan::new(0) };
        Campaign { plan, nodes: None, seeds, until: None, jobs, twice: false }
    }

    /// However many threads, results count in the order of seeds.
    #[test]
    fn results_do_not_depend_on_threads() {
        let tallies = [1, 4].map(|jobs| campaign(3..15, jobs).run(&Interrupt::default()));
        let [one, other] = tallies.map(|tally| (tally.hash(), tally.seeds, tally.steps, tally.counts));
        assert_eq!((&one, &one.1), (&other, &(3..15)));
    }

    /// The first seed that failed is the last that counts.
    #[test]
    fn nothing_counts_after_a_failure() {
        let ran = |seed, fails: bool| {
            let mut ran = Ran::new(&crate::sim::run(&Plan { events: 50, ..Plan::new(seed) }, 0), None);
            let violation = Violation { invariant: Invariant::Order, text: String::new() };
            ran.failure = fails.then_some(Failure::Broken { violation, place: None });
            ran
        };
        let mut tally = Tally::new(7);
        tally.take(ran(7, false));
        tally.take(ran(8, true));
        let (hash, seeds) = (tally.hash(), tally.seeds.clone());
        tally.take(ran(9, true));
        assert_eq!((tally.hash(), &tally.seeds, seeds), (hash, &(7..9), 7..9));
        assert_eq!(tally.failure.map(|(plan, _)| plan.seed), Some(8));
    }

    /// Runs with different results are a failure.
    #[test]
    fn runs_are_compared() {
        let ran = |seed| Ran::new(&crate::sim::run(&Plan { events: 50, ..Plan::new(seed) }, 0), None);
        let mut first = ran(1);
        first.compare(&ran(1));
        assert!(first.failure.is_none());
        first.compare(&ran(2));
        assert!(matches!(first.failure, Some(Failure::NotRepeated { .. })), "{:?}", first.failure);
    }
}
