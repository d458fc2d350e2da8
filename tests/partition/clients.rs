//! A client at each node that proposes one value after the other, and waits for each as long as it takes, so
//! that the times of its answers show when its node serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spaxos::cli::resp::{Connection, Reply};

use super::harness::is_passing;
use crate::common::outside::{PATIENCE, wait_for};

/// The pause between an answer and the next value: what is measured is in hundreds of milliseconds, and the
/// machine has other things to do.
const PAUSE: Duration = Duration::from_millis(20);

/// An answered proposal.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub node: u64,
    pub reqid: u64,
    pub sent: Instant,
    pub answered: Instant,
    pub index: u64,
}

/// Proposes `v<reqid>`.
pub struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(nodes: impl Iterator<Item = (u64, SocketAddr)>) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let reqids = Arc::new(AtomicU64::new(1));
        let client = |(node, address)| {
            let (stop, answers, reqids) = (stop.clone(), answers.clone(), reqids.clone());
            std::thread::spawn(move || {
                let mut connection = Connection::open(address, PATIENCE).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let reqid = reqids.fetch_add(1, Ordering::Relaxed);
                    let (sent, index) = (Instant::now(), propose_until_chosen(&mut connection, reqid));
                    let answer = Answer { node, reqid, sent, answered: Instant::now(), index };
                    answers.lock().unwrap().push(answer);
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = nodes.map(client).collect();
        Clients { stop, answers, threads }
    }

    /// Waits until one of these nodes answers a proposal that came after `since`; returns when.
    pub fn first_after(&self, since: Instant, nodes: &[u64]) -> Instant {
        wait_for(&format!("an answer of one of the nodes {nodes:?}"), || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client got a wrong answer");
            let answers = self.answers.lock().unwrap();
            let fits = |answer: &&Answer| answer.sent >= since && nodes.contains(&answer.node);
            answers.iter().filter(fits).map(|answer| answer.answered).min()
        })
    }

    /// Waits until each of these nodes has answered; returns when the last of them did.
    pub fn all_after(&self, since: Instant, nodes: &[u64]) -> Instant {
        nodes.iter().map(|node| self.first_after(since, &[*node])).max().expect("at least one node")
    }

    /// Ends it; checks that answers came in index order. Returns what was answered, and where it is.
    pub fn stop(self) -> BTreeMap<u64, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("each client got answers that it may get");
        }
        let answers = Arc::into_inner(self.answers).unwrap().into_inner().unwrap();
        check_order(&answers);
        answers.iter().map(|answer| (answer.reqid, answer.index)).collect()
    }
}

/// What is proposed after an answer has a higher index than what was answered, at whichever nodes.
fn check_order(answers: &[Answer]) {
    let mut answers = answers.to_vec();
    answers.sort_by_key(|answer| answer.index);
    let mut latest: Option<Answer> = None;
    for answer in answers {
        if let Some(before) = latest {
            assert!(before.index < answer.index, "{before:?} and {answer:?} are at one index");
            assert!(before.sent <= answer.answered, "{before:?} came after {answer:?} was answered");
        }
        latest =
            latest.filter(|before| before.sent > answer.sent).map(|it| Answer { index: answer.index, ..it });
        latest = latest.or(Some(answer));
    }
}

fn propose_until_chosen(connection: &mut Connection, reqid: u64) -> u64 {
    let value = format!("v{reqid}");
    loop {
        match connection.ask(&[b"PROP", reqid.to_string().as_bytes(), value.as_bytes()]) {
            Ok(Reply::Integer(index)) => return index as u64,
            Ok(Reply::Error(text)) if is_passing(&text) => std::thread::sleep(PAUSE),
            other => panic!("PROP {reqid} was answered {other:?}"),
        }
    }
}
