//! What the tests of the peer port share: nodes that consist of a network thread, and connections whose
//! bytes a test writes itself.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command as Process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spaxos::consensus::message::{ClusterBody, Message};
use spaxos::consensus::types::{Ballot, NodeId};
use spaxos::node::peers::{Fatal, PeerLimits, PeerNetwork, PeerOptions, PeerState, PeerTable};
use spaxos::pipeline::handshake::{Failure, Handshake, Reply};
use spaxos::pipeline::inbox::{Binding, Inbox, Outgoing};
use spaxos::pipeline::queue::Queue;
use spaxos::pipeline::trust::{Trust, first_word};
use spaxos::wire::frame::{FrameDecoder, MAX_FRAME_BYTES, encode_frame};
use spaxos::wire::hello::{Greeting, Introduction, Nonce, RefusalCode};
use spaxos::wire::message::{Decoded, PeerMessage, Service, decode_message, encode_message, encode_service};
use spaxos::wire::proof::Keys;

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const OUT_BUFFER_BYTES: usize = 256 << 10;

pub fn limits() -> PeerLimits {
    PeerLimits {
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        hello_timeout: PATIENCE,
        out_buffer_bytes: OUT_BUFFER_BYTES,
        ..PeerLimits::default()
    }
}

pub fn directory(node: NodeId) -> u128 {
    0x0de1_ec70_5ec2_e70f_1dea_f00d_c0de_0000 + u128::from(node)
}

pub fn keys() -> Option<Keys> {
    Some(Keys::new(b"the key of these tests".to_vec(), None))
}

pub fn introduction(node: NodeId, start: u64) -> Introduction {
    Introduction {
        node,
        cluster: "demo".into(),
        directory: directory(node),
        start,
        protocol: "paxos".into(),
        founding: 99,
        client_address: format!("127.0.0.1:{}", 9000 + node),
    }
}

pub fn heartbeat(from: NodeId, to: NodeId, number: u64) -> Message {
    let ballot = Ballot { round: 1, node: from };
    Message { from, to, body: ClusterBody::Heartbeat { ballot, chosen: 0, sent_ms: number }.into() }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}

/// A network thread with a state machine that only answers bindings.
pub struct Node {
    pub outgoing: Arc<Queue<Outgoing>>,
    pub inbox: Arc<Inbox>,
    pub table: PeerTable,
    pub fatals: mpsc::Receiver<Fatal>,
    pub thread: Option<JoinHandle<std::io::Result<()>>>,
    pub seen: Vec<Message>,
    pub bound: Vec<Binding>,
    pub answers_bindings: bool,
}

/// What the nodes of a test have in common.
pub struct Setup {
    pub limits: PeerLimits,
    pub keys: Option<Keys>,
    pub bindings: Vec<Binding>,
}

impl Setup {
    pub fn bound(nodes: impl IntoIterator<Item = NodeId>) -> Setup {
        Setup { limits: limits(), keys: None, bindings: bindings(nodes) }
    }
}

impl Node {
    pub fn start(
        listener: TcpListener,
        peers: &BTreeMap<NodeId, SocketAddr>,
        own: Introduction,
        bindings: Vec<Binding>,
    ) -> Node {
        Node::start_with(&Setup { limits: limits(), keys: None, bindings }, listener, peers, own)
    }

    pub fn start_with(
        setup: &Setup,
        listener: TcpListener,
        peers: &BTreeMap<NodeId, SocketAddr>,
        own: Introduction,
    ) -> Node {
        let (fatal, fatals) = mpsc::channel();
        let options = PeerOptions {
            listen: listener.local_addr().unwrap(),
            peers: peers.clone(),
            own,
            bindings: setup.bindings.clone(),
            keys: setup.keys.clone(),
            limits: setup.limits,
            on_fatal: Box::new(move |it| fatal.send(it).unwrap_or(())),
        };
        let (network, bell) = PeerNetwork::with_listener(listener, options).unwrap();
        let table = network.table();
        let outgoing = Arc::new(Queue::new(64 << 20, Outgoing::cost_bytes, bell));
        let inbox = Arc::new(Inbox::new());
        let thread = std::thread::spawn({
            let (outgoing, inbox) = (outgoing.clone(), inbox.clone());
            move || network.run(&outgoing, &inbox)
        });
        let (seen, bound) = (vec![], vec![]);
        let thread = Some(thread);
        Node { outgoing, inbox, table, fatals, thread, seen, bound, answers_bindings: true }
    }

    pub fn send(&self, messages: Vec<Message>) {
        self.outgoing.push(Outgoing::Messages { generation: 1, messages }).unwrap();
    }

    /// Takes what came in, and answers bindings.
    pub fn pump(&mut self) {
        self.inbox.bell.wait(Duration::from_millis(1));
        let mut messages = vec![];
        self.inbox.peers.drain(&mut messages);
        let messages = messages.into_iter().map(|message| match message {
            PeerMessage::Core(message) => message,
            PeerMessage::Service(service) => panic!("no test sends {service}"),
        });
        self.seen.extend(messages.filter(|message| *message != first_word(message.from, message.to)));
        let before = self.bound.len();
        self.inbox.bindings.drain(&mut self.bound);
        for binding in &self.bound[before..] {
            if self.answers_bindings {
                self.outgoing.push(Outgoing::Bound(*binding)).unwrap();
            }
        }
    }

    pub fn peer(&self, node: NodeId) -> PeerState {
        self.table.all().remove(&node).unwrap()
    }

    pub fn has_seen(&mut self, message: &Message) -> bool {
        self.pump();
        self.seen.contains(message)
    }

    pub fn stop(mut self) {
        self.outgoing.close();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.outgoing.close();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Two honest nodes, 1 and 2, of a cluster of three; the test plays node 3 or a stranger against node 1.
pub struct Pair {
    pub one: Node,
    pub two: Node,
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Where node 1 dials node 3.
    pub three: TcpListener,
    pub keys: Option<Keys>,
    pub number: u64,
}

pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub fn bindings(nodes: impl IntoIterator<Item = NodeId>) -> Vec<Binding> {
    nodes.into_iter().map(|node| Binding { node, directory: directory(node) }).collect()
}

impl Pair {
    pub fn start() -> Pair {
        Pair::start_with(Setup::bound([1, 2, 3]))
    }

    pub fn start_with(setup: Setup) -> Pair {
        let (one, two, three) = (listen(), listen(), listen());
        let peers = [&one, &two, &three].map(|it| it.local_addr().unwrap());
        let peers: BTreeMap<_, _> = (1..).zip(peers).collect();
        let start = |id, listener| Node::start_with(&setup, listener, &peers, introduction(id, 1));
        let (one, two) = (start(1, one), start(2, two));
        let mut pair = Pair { one, two, peers, three, keys: setup.keys, number: 0 };
        pair.wait_connected();
        pair
    }

    pub fn wait_connected(&mut self) {
        wait_until("both directions are open", || {
            self.one.pump();
            self.two.pump();
            self.one.peer(2).connected_out && self.two.peer(1).connected_out
        });
    }

    /// A message each way arrives, without a new connection.
    pub fn assert_served(&mut self) {
        self.number += 1;
        let (there, back) = (heartbeat(2, 1, self.number), heartbeat(1, 2, self.number));
        let dropped = (self.one.peer(2).dropped_out, self.two.peer(1).dropped_out);
        self.two.send(vec![there.clone()]);
        self.one.send(vec![back.clone()]);
        wait_until("the honest peer's message arrives", || self.one.has_seen(&there));
        wait_until("the message to the honest peer arrives", || self.two.has_seen(&back));
        assert_eq!(dropped, (self.one.peer(2).dropped_out, self.two.peer(1).dropped_out));
    }

    pub fn dial(&self) -> Raw {
        Raw::new(TcpStream::connect(self.peers[&1]).unwrap())
    }

    /// What node 3 knows, or someone who says that this is his introduction.
    pub fn trust(&self, own: Introduction) -> Trust {
        let others = (1..=3).filter(|node| *node != own.node).collect::<Vec<_>>();
        Trust::new(own, self.keys.clone(), others.into_iter())
    }

    /// An open connection of node 3 to node 1.
    pub fn dial_as_three(&self, start: u64) -> Raw {
        self.dial_with(introduction(3, start))
    }

    pub fn dial_with(&self, own: Introduction) -> Raw {
        let mut raw = self.dial();
        assert_eq!(raw.greet(&mut self.trust(own)), Ok(introduction(1, 1)));
        raw
    }

    /// The connection that node 1 dials to node 3, its hello not yet answered; node 2's are closed.
    pub fn accept(&self) -> Raw {
        loop {
            let mut raw = Raw::new(self.three.accept().unwrap().0);
            raw.pending = raw.greeting();
            if matches!(&raw.pending, Some(Greeting::Hello(hello)) if hello.from == 1) {
                return raw;
            }
        }
    }

    /// The same once it is open.
    pub fn accept_as_three(&self) -> Raw {
        let mut raw = self.accept();
        assert_eq!(raw.answer(&mut self.trust(introduction(3, 1))), Ok(introduction(1, 1)));
        raw
    }

    /// Node 1 refuses someone who introduces himself like this, and tells a stranger a code and no
    /// values.
    pub fn assert_refused(&mut self, own: Introduction, code: RefusalCode, words: &[&str]) {
        let mut raw = self.dial();
        let Err(Failure::RefusedByPeer { refusal, .. }) = raw.greet(&mut self.trust(own)) else {
            panic!("not refused: {code:?}")
        };
        assert_eq!(refusal.code, code);
        if self.keys.is_none() {
            assert_eq!(refusal.text, "", "to a stranger");
        } else {
            assert!(words.iter().all(|word| refusal.text.contains(word)), "{refusal} does not say {words:?}");
        }
        raw.assert_closed();
        self.assert_served();
    }
}

/// A connection whose bytes the test writes itself.
pub struct Raw {
    pub stream: TcpStream,
    pub decoder: FrameDecoder,
    /// All that came.
    pub heard: Vec<u8>,
    /// The other end's greeting that was read already.
    pub pending: Option<Greeting>,
    /// The greetings that were said here.
    pub said: Vec<Greeting>,
}

impl Raw {
    pub fn new(stream: TcpStream) -> Raw {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw {
            stream,
            decoder: FrameDecoder::new(MAX_FRAME_BYTES),
            heard: vec![],
            pending: None,
            said: vec![],
        }
    }

    /// Writes, whether the other end still wants it or not.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or(());
    }

    pub fn say(&mut self, greeting: Greeting) {
        let mut out = BytesMut::new();
        greeting.encode(&mut out).unwrap();
        self.said.push(greeting);
        self.write(&out);
    }

    /// Opens a connection to node 1 that the test has dialled. Returns who answered.
    pub fn greet(&mut self, trust: &mut Trust) -> Result<Introduction, Failure> {
        let (handshake, hello) = Handshake::dial(trust, 1, nonce());
        self.say(hello);
        self.shake_hands(handshake, trust)
    }

    /// Opens a connection that a node has dialled. Returns who that was.
    pub fn answer(&mut self, trust: &mut Trust) -> Result<Introduction, Failure> {
        self.shake_hands(Handshake::listen(nonce()), trust)
    }

    pub fn shake_hands(
        &mut self,
        mut handshake: Handshake,
        trust: &mut Trust,
    ) -> Result<Introduction, Failure> {
        loop {
            let greeting = self.greeting().ok_or_else(|| Failure::Broken("closed".into()))?;
            match handshake.take(greeting, trust) {
                Ok(Reply::Say(greeting)) => self.say(greeting),
                Ok(Reply::Open { theirs, say }) => {
                    say.into_iter().for_each(|greeting| self.say(greeting));
                    return Ok(theirs);
                }
                Err(failure) => {
                    if let Failure::Refused { say: Some(greeting), .. } = &failure {
                        self.say((**greeting).clone());
                    }
                    return Err(failure);
                }
            }
        }
    }

    pub fn write_frame(&mut self, payload: &[u8]) {
        let mut out = BytesMut::new();
        encode_frame(&mut out, |out| out.extend_from_slice(payload)).unwrap();
        self.write(&out);
    }

    pub fn send(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        encode_message(message, &mut out).unwrap();
        self.write(&out);
    }

    pub fn send_service(&mut self, service: &Service) {
        let mut out = BytesMut::new();
        encode_service(service, &mut out).unwrap();
        self.write(&out);
    }

    /// The greeting that the other end says, or `None` if it closes first.
    pub fn greeting(&mut self) -> Option<Greeting> {
        let pending = self.pending.take();
        pending.or_else(|| self.payload().map(|payload| Greeting::decode(payload).unwrap()))
    }

    /// The message that the other end says.
    pub fn message(&mut self) -> Decoded {
        decode_message(self.payload().expect("a message")).unwrap()
    }

    /// What the next frame holds, or `None` if the other end closes first.
    fn payload(&mut self) -> Option<Bytes> {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) => {
                    self.heard.push(byte[0]);
                    if let Some(payload) = self.decoder.decode(&mut &byte[..]).unwrap() {
                        return Some(payload);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither a frame nor a close: {error}"),
            }
        }
    }

    pub fn assert_closed(&mut self) {
        assert_eq!(self.greeting(), None, "to be closed without a word");
    }
}

/// A number that no other connection of the tests has.
pub fn nonce() -> Nonce {
    static LAST: AtomicU64 = AtomicU64::new(0);
    u128::from(LAST.fetch_add(1, Ordering::Relaxed) + 1).to_le_bytes()
}

/// A process that runs this test of this program alone. It is told so by the variable of the test's name.
pub fn run_alone(test: &str, before: &str) -> Process {
    let mut process = Process::new("sh");
    process.args(["-c", &format!("{before} exec \"$0\" --exact {test} --ignored --nocapture")]);
    process.arg(std::env::current_exe().unwrap()).env("RUN_ALONE", test);
    process
}

pub fn is_alone() -> bool {
    std::env::var_os("RUN_ALONE").is_some()
}
