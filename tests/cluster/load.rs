//! Clients that propose one value after the other, each until it is acknowledged, at whichever node answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use spaxos::cli::resp::{self, Connection, Reply};

use super::harness::is_passing;
use crate::common::outside::{PATIENCE, wait_until};

/// How many clients there are.
const CLIENTS: usize = 4;

/// A node that does not answer within this time is left for another one.
const LOSES_PATIENCE: Duration = Duration::from_secs(1);

/// Proposes `v<reqid>` under ascending reqids.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeMap<u64, u64>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins with the reqid `first`, at these nodes.
    pub fn start(nodes: &[SocketAddr], first: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let client = |number: usize| {
            let mut client = Client {
                nodes: nodes.to_vec(),
                node: number % nodes.len(),
                connection: None,
                stop: stop.clone(),
            };
            let acknowledged = acknowledged.clone();
            std::thread::spawn(move || {
                for reqid in (first + number as u64..).step_by(CLIENTS) {
                    let Some(index) = client.propose_until_chosen(reqid) else { return };
                    acknowledged.lock().unwrap().insert(reqid, index);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, acknowledged, clients }
    }

    /// How many proposals were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until `count` more are acknowledged.
    pub fn wait_for_more(&self, count: usize) {
        let before = self.count();
        wait_until("more acknowledged proposals", || {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client got a wrong answer");
            self.count() >= before + count
        });
    }

    /// Ends it, and returns what was acknowledged, and where.
    pub fn stop(self) -> BTreeMap<u64, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("each client got answers that it may get");
        }
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

struct Client {
    nodes: Vec<SocketAddr>,
    node: usize,
    connection: Option<Connection>,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// The index; `None` if told to stop.
    fn propose_until_chosen(&mut self, reqid: u64) -> Option<u64> {
        while !self.stop.load(Ordering::Relaxed) {
            match self.propose(reqid) {
                Ok(Reply::Integer(index)) => return Some(index as u64),
                Ok(Reply::Error(text)) if is_passing(&text) => {}
                Ok(other) => panic!("PROP {reqid} was answered {other:?}"),
                Err(_) => self.connection = None,
            }
            self.connection = None;
            self.node = (self.node + 1) % self.nodes.len();
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn propose(&mut self, reqid: u64) -> std::io::Result<Reply> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(self.nodes[self.node], LOSES_PATIENCE)?);
        }
        let connection = self.connection.as_mut().expect("it was opened just now");
        connection.ask(&[b"PROP", reqid.to_string().as_bytes(), format!("v{reqid}").as_bytes()])
    }
}

/// Proposes a value under each reqid over one connection, all at once, and checks that all are chosen.
pub fn propose_all(node: SocketAddr, reqids: std::ops::Range<u64>, value: &[u8]) {
    let stream = TcpStream::connect(node).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut requests = Vec::new();
    for reqid in reqids.clone() {
        resp::encode(&mut requests, &[b"PROP", reqid.to_string().as_bytes(), value]);
    }
    let sender = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    let replies = BufReader::new(stream).lines();
    for (reqid, line) in reqids.zip(replies) {
        let line = line.unwrap();
        assert!(line.starts_with(':'), "PROP {reqid} was answered {line}");
    }
    sender.join().unwrap();
}
