//! A client port with a node behind it that delivers immediately, and clients to talk to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use spaxos::client::front::{ClientProposal, Front, LogItem, Outcome};
use spaxos::client::status::NodeStatus;
use spaxos::consensus::types::{Command, Index, NodeId, RequestId};
use spaxos::node::clients::{Answers, ClientOptions, ClientPort, Stop};
use spaxos::pipeline::ledger::Answer;
use spaxos::pipeline::waiters::Ticket;
use spaxos::store::LogReadError;

/// Proposals from this reqid on are not delivered before [`FakeNode::release`].
pub const HELD: u64 = 1 << 63;

/// Longer than anything takes unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Delivers each proposal immediately, in the order in which they come.
#[derive(Default)]
pub struct FakeNode {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    answers: Option<Arc<Answers>>,
    log: Vec<(u64, Bytes)>,
    index_by_reqid: BTreeMap<u64, Index>,
    held: Vec<ClientProposal>,
}

impl State {
    fn deliver(&mut self, proposal: &ClientProposal) -> Answer {
        let (reqid, next) = (proposal.request.number, self.log.len() as u64 + 1);
        let index = *self.index_by_reqid.entry(reqid).or_insert(next);
        if index == next {
            self.log.push((reqid, proposal.payload.clone()));
        }
        if self.log[index as usize - 1].1 == proposal.payload {
            Answer::Delivered(index)
        } else {
            Answer::OtherValue(index)
        }
    }

    fn answer(&self, answers: Vec<(Ticket, Answer)>) {
        let queue = self.answers.as_ref().expect("the port runs");
        assert!(queue.try_push(answers).is_ok(), "the queue of the test has room");
    }
}

impl FakeNode {
    /// Delivers what was held.
    pub fn release(&self) {
        let mut state = self.state.lock();
        let held = std::mem::take(&mut state.held);
        let answers = held.iter().map(|proposal| (proposal.ticket, state.deliver(proposal))).collect();
        state.answer(answers);
    }

    /// Waits until `count` proposals are held.
    pub fn wait_for_held(&self, count: usize) {
        self.wait_until(|state| state.held.len() >= count);
    }

    /// Waits until a reqid is delivered.
    pub fn wait_for(&self, reqid: u64) {
        self.wait_until(|state| state.index_by_reqid.contains_key(&reqid));
    }

    fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        while !condition(&state) {
            assert!(!self.changed.wait_for(&mut state, PATIENCE).timed_out(), "it never came");
        }
    }
}

impl Front for FakeNode {
    fn propose(&self, proposals: Vec<ClientProposal>, _: &mut Vec<(Ticket, Outcome)>) {
        let mut state = self.state.lock();
        let mut answers = vec![];
        for proposal in proposals {
            if proposal.request.number >= HELD {
                state.held.push(proposal);
            } else {
                answers.push((proposal.ticket, state.deliver(&proposal)));
            }
        }
        state.answer(answers);
        self.changed.notify_all();
    }

    fn wait(&self, request: RequestId, _: Ticket) -> Option<Index> {
        self.lookup(request)
    }

    fn lookup(&self, request: RequestId) -> Option<Index> {
        self.state.lock().index_by_reqid.get(&request.number).copied()
    }

    fn forget(&self, _: RequestId, ticket: Ticket) {
        self.state.lock().held.retain(|proposal| proposal.ticket != ticket);
    }

    fn read_log(&self, first: Index, count: usize, _: usize) -> Result<Vec<LogItem>, LogReadError> {
        let state = self.state.lock();
        let items = state.log.iter().enumerate().map(|(place, (reqid, value))| LogItem {
            index: place as u64 + 1,
            command: Some(Command::value(*reqid, 1, value.clone())),
        });
        Ok(items.filter(|item| item.index >= first).take(count).collect())
    }

    fn node(&self) -> NodeId {
        1
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        Some((2, "127.0.0.1:9002".to_owned()))
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::default()
    }
}

/// A port on a thread of its own; ended in order when dropped.
pub struct Port {
    pub address: SocketAddr,
    pub node: Arc<FakeNode>,
    pub stop: Stop,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Port {
    pub fn start() -> Port {
        Port::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ClientOptions)) -> Port {
        Port::prepared(change, |_| {})
    }

    /// Calls `before_run` while the port listens and accepts nobody yet.
    pub fn prepared(change: impl FnOnce(&mut ClientOptions), before_run: impl FnOnce(SocketAddr)) -> Port {
        let mut options = ClientOptions::new("127.0.0.1:0".parse().unwrap());
        options.end_grace_ms = 100;
        change(&mut options);
        let (port, bell) = ClientPort::bind(options).unwrap();
        let answers = Arc::new(Answers::new(1 << 20, |answers| answers.len(), bell));
        let node = Arc::new(FakeNode::default());
        node.state.lock().answers = Some(answers.clone());
        let (address, stop) = (port.local_address().unwrap(), port.stopper());
        before_run(address);
        let front = node.clone();
        let thread = Some(std::thread::spawn(move || port.run(front, answers)));
        Port { address, node, stop, thread }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// A new client is served as ever: the port has survived.
    pub fn serves(&self) {
        let mut client = self.client();
        client.send(b"PING\r\n");
        assert_eq!(client.line(), "+PONG");
        client.send(b"*3\r\n$4\r\nPROP\r\n$7\r\n9000000\r\n$6\r\nhonest\r\n");
        assert!(client.line().starts_with(':'));
    }

    /// Waits until the port has ended, which something else asked it to.
    pub fn join(&mut self) {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the port never panics").expect("its poll works");
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.stop();
        if self.thread.is_some() && !std::thread::panicking() {
            self.join();
        }
    }
}

/// A client with a blocking socket.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next line without its end; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = vec![];
        self.stream.read_until(b'\n', &mut line).unwrap();
        String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything up to the end of the connection, whether that is orderly or a reset.
    pub fn rest(&mut self) -> String {
        let mut rest = vec![];
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection did not end: {error}"),
            }
        }
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// Polls until it holds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request in array form.
pub fn array(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
