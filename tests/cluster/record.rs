//! Records real traffic as seeds for the fuzzers: what nodes, redis-cli, redis-benchmark and telnet send, and
//! the records of a store. Not a test: run it when a format changes, then minimise (`tools/fuzz.sh
//! --minimise`).
//!
//! ```console
//! $ cargo test --test cluster -- --ignored record
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use bytes::BytesMut;
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody, Range};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Position};
use spaxos::directory::SledEngine;
use spaxos::store::engine::{Journal, Meta};
use spaxos::wire::frame::HEADER_BYTES;
use spaxos::wire::message::encode_message;

use super::harness::{Cluster, Options};

/// What was sent on each connection through a proxy, one way.
type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

/// A connection is recorded up to here: enough for an election and some proposals.
const RECORDED_BYTES: usize = 64 * 1024;

#[test]
#[ignore = "writes seeds for the fuzzers"]
fn record_seeds() {
    let (mut cluster, peers) = diverted(ProtocolName::Paxos);
    let clients = Recorded::default();
    for id in 1..=3 {
        talk(proxy(cluster.node(id).client, clients.clone()));
    }
    live(&mut cluster, &"x".repeat(20_000));

    peers.lock().unwrap().iter().for_each(|stream| save_peer(stream, "peer_core"));
    save("peer_core", &election());
    for stream in clients.lock().unwrap().iter() {
        save("client", &[&[2, 9, 1][..], &stream[..stream.len().min(600)]].concat());
    }
    save_files(&cluster);
}

/// What nodes say to each other under Raft: a life in which a leader ends and returns and a log is mended.
#[test]
#[ignore = "writes seeds for the fuzzers"]
fn record_raft_seeds() {
    let (mut cluster, peers) = diverted(ProtocolName::Raft);
    live(&mut cluster, "x");
    peers.lock().unwrap().iter().for_each(|stream| save_peer(stream, "peer_core_raft"));
    save("peer_core_raft", &raft_election());
}

/// A cluster that runs, each node of which finds the others behind proxies, and what they send.
fn diverted(protocol: ProtocolName) -> (Cluster, Recorded) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 3));
    let recorded = Recorded::default();
    for id in 1..=3 {
        let config = cluster.node(id).config.clone();
        let mut text = fs::read_to_string(&config).unwrap();
        for other in (1..=3).filter(|other| *other != id) {
            let address = SocketAddr::new(cluster.node(other).client.ip(), 10_000 + other as u16);
            let proxy = proxy(address, recorded.clone());
            text = text.replace(&address.to_string(), &proxy.to_string());
        }
        fs::write(config, text).unwrap();
    }
    cluster.start_all();
    (cluster, recorded)
}

/// A value is chosen, a leader ends and comes back, all nodes end.
fn live(cluster: &mut Cluster, value: &str) {
    cluster.node(1).propose_until_chosen(7_000_001, value);
    let leader = cluster.leader();
    cluster.node(leader).kill();
    cluster.leader_other_than(leader);
    cluster.node(leader).start();
    cluster.settle(7_000_002);
    cluster.nodes.values_mut().for_each(|node| node.stop());
}

/// Configurations, chosen lines and records. Folders for temporary files have different names each time.
fn save_files(cluster: &Cluster) {
    let folder = cluster.dir.path().to_str().unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap().replace(folder, "data");
    for node in cluster.nodes.values() {
        save_store(&node.data);
        save("config", read(&node.config).as_bytes());
        let lines: Vec<_> = read(&node.log).lines().take(30).map(str::to_owned).collect();
        save("chosen_line", lines.join("\n").as_bytes());
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["standalone.toml", "three/node1.toml"] {
        save("config", &fs::read(examples.join(name)).unwrap());
    }
}

/// Forwards to `to`, both ways, and records what is sent there.
fn proxy(to: SocketAddr, recorded: Recorded) -> SocketAddr {
    let listener = TcpListener::bind((to.ip(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let Ok(to) = TcpStream::connect(to) else { continue };
            let place = recorded.lock().map(|mut all| {
                all.push(vec![]);
                all.len() - 1
            });
            let (recorded, place) = (recorded.clone(), place.unwrap());
            let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || pump(back_from, back_to, |_| ()));
            std::thread::spawn(move || {
                pump(from, to, |bytes| {
                    let mut all = recorded.lock().unwrap();
                    let room = RECORDED_BYTES.saturating_sub(all[place].len()).min(bytes.len());
                    all[place].extend_from_slice(&bytes[..room]);
                });
            });
        }
    });
    address
}

/// Copies until either end is gone.
fn pump(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

/// What people and tools say to a client port.
fn talk(port: SocketAddr) {
    let (host, number) = (port.ip().to_string(), port.port().to_string());
    let redis = |tool: &str, arguments: &[&str], input: &str| {
        let mut command = Command::new(tool);
        command.args(["-h", &host, "-p", &number]).args(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the tools of Redis are installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait().unwrap();
    };
    redis(
        "redis-cli",
        &[],
        "PING\nPROP 5 \"a b\"\nLOG 1 3\nLEADER\nSTATUS\nCLIENT SETNAME x\nAWAIT 5 10\nQUIT\n",
    );
    redis("redis-cli", &["INFO", "consensus"], "");
    redis("redis-benchmark", &["-n", "20", "-c", "2", "-P", "4", "PROP", "7__rand_int__", "value"], "");
    redis("redis-benchmark", &["-n", "4", "-c", "1", "-t", "ping"], "");
    let mut telnet = TcpStream::connect(port).unwrap();
    let said: &[u8] = b"\xff\xfd\x03\xff\xfb\x18PROP 11 hello world\r\nPROP x y\r\nAWAIT 11\r\nCLIENT REPLY ON\r\n\
        PROP 12 'it''s'\r\nECHO \"a\\x41\\n\"\r\nECHO \"a\r\n\xff\xfa\x18\x00xterm\xff\xf0HELP\r\nCOMMAND COUNT\r\nQUIT\r\n";
    telnet.write_all(said).unwrap();
    let _ = telnet.read_to_end(&mut vec![]);
}

/// A stream as it is, its first messages of each kind alone, and those as steps for a core.
fn save_peer(stream: &[u8], core: &str) {
    save("peer_stream", &[&[3, 1, 7, 200][..], &stream[..stream.len().min(1500)]].concat());
    let (mut rest, mut steps, mut kinds) = (stream, vec![0, 40, 2, 7, 1], [0; 32]);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some((payload, later)) = after.split_at_checked(length) else { break };
        rest = later;
        // A message begins with the number of its kind, a greeting with its magic.
        let kind = usize::from(payload.get(1).copied().unwrap_or_default()) % kinds.len();
        kinds[kind] += 1;
        if kinds[kind] <= 3 && length < 1000 {
            save("peer_message", payload);
            steps.extend([3, length as u8, (length >> 8) as u8]);
            steps.extend_from_slice(payload);
            steps.extend([1, 0, 30, 1]);
        }
    }
    save(core, &steps);
}

/// The steps of a core (`fuzzing::peer_core`) that is elected and proposes. The messages of recorded nodes do
/// not answer what it asks.
fn election() -> Vec<u8> {
    let ballot = Ballot { round: 1, node: 1 };
    let pre_vote = ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
    let (chosen, compacted, first, last, more) = (0, 0, 1, 1, false);
    let promise = PaxosBody::Promise { ballot, chosen, compacted, first, last, more, entries: vec![] };
    let accepted = PaxosBody::Accepted { ballot, chosen, ranges: vec![Range { first: 1, last: 2 }] };
    life(&[pre_vote.into(), promise.into(), accepted.into()])
}

/// The same for a Raft core, which then finds out where a log agrees with its own.
fn raft_election() -> Vec<u8> {
    let ballot = Ballot { round: 1, node: 1 };
    let pre_vote = ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
    let hint = Position::default();
    let mismatch = RaftBody::Mismatch { ballot, chosen: 0, previous: 1, hint };
    let appended = RaftBody::Appended { ballot, chosen: 0, matched: 2 };
    life(&[pre_vote.into(), RaftBody::Vote { ballot }.into(), mismatch.into(), appended.into()])
}

/// Steps in which a core is told this, with what it tells itself, proposals and time.
fn life(told: &[Body]) -> Vec<u8> {
    const TICK: [u8; 2] = [0, 40];
    const OWN: [u8; 1] = [1];
    const PROPOSE: [u8; 2] = [2, 7];
    let mut steps = TICK.repeat(6);
    for body in told {
        let mut frame = BytesMut::new();
        encode_message(&Message { from: 2, to: 1, body: body.clone() }, &mut frame).unwrap();
        let payload = &frame[HEADER_BYTES..];
        steps.extend([3, payload.len() as u8, 0]);
        steps.extend_from_slice(payload);
        steps.extend([&OWN[..], &PROPOSE, &OWN, &TICK].concat());
    }
    steps
}

/// Records and small values without their seals, and a script of writing and damage.
fn save_store(data: &Path) {
    let engine = SledEngine::open(&data.join("store"), 1 << 20).unwrap();
    let mut count = 0;
    let mut visit = |kind: u8, value: &[u8]| {
        count += 1;
        if let Some(content) = value.get(5..).filter(|content| content.len() < 2000 && count < 60) {
            save("store_record", &[&[kind][..], content].concat());
        }
        ControlFlow::Continue(())
    };
    engine.scan(&mut |_, value| visit(0, value)).unwrap();
    engine.scan_prefix(b"identity", &mut |_, value| visit(2, value)).unwrap();
    for damage in 0..7 {
        let script = [5, 0, 40, 210, 30, 1, 5, 1, 20, 20, 250, 3, 1, 4, 1, 0, damage, 3, 9, 0, 1, 4, 4, 4];
        save("store_recovery", &script);
    }
}

fn save(target: &str, bytes: &[u8]) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    let name = format!("recorded-{:08x}", crc32c::crc32c(bytes));
    fs::write(folder.join(name), bytes).unwrap();
}
