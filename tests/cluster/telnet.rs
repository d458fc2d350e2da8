//! What a person does first: start nodes, type `PROP 1 hello` into telnet, look into the logs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Chosen, Cluster, Options, SIMPLESVR, run};
use crate::common::outside::{own_address, wait_for, wait_until};

each_protocol!(what_is_typed_at_any_node_is_in_all_three_logs, check_says_whether_a_configuration_is_valid);

/// `PROP 1 hello` typed at any node is chosen, and the logs of all three show it in the same line: index,
/// reqid, the node it was typed at, value.
fn what_is_typed_at_any_node_is_in_all_three_logs(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    for node in cluster.nodes.values() {
        type_line(node.client, &format!("PROP {} hello \"from\" {}\r\n", node.id, node.id));
    }
    let expected = |id: u64| (id, id, format!("value=\"hello \\\"from\\\" {id}\""));
    for node in cluster.nodes.values() {
        let what = format!("all three values in the log of node {}", node.id);
        wait_until(&what, || node.chosen().iter().filter(|line| line.reqid > 0).count() == 3);
        let mut lines: Vec<_> =
            values(&node.chosen()).map(|line| (line.reqid, line.from, line.rest)).collect();
        lines.sort();
        assert_eq!(lines, [expected(1), expected(2), expected(3)]);
    }
    cluster.check_logs();
}

/// The commented examples in `config/` start as they are: three nodes that form a cluster, and one alone.
#[test]
fn the_examples_start() {
    for files in [&["three/node1", "three/node2", "three/node3"][..], &["standalone"]] {
        let dir = tempfile::tempdir().unwrap();
        let address = own_address(&[9001, 9002, 9003, 10001, 10002, 10003]);
        let mut nodes: Vec<Example> =
            (9001..).zip(files).map(|(port, file)| Example::start(dir.path(), file, address, port)).collect();
        nodes.iter_mut().for_each(Example::wait_ready);
        let typed = |port| type_line((address, port).into(), "PROP 1 hello\n");
        typed(9001);
        let logs = || nodes.iter().map(|node| dir.path().join(&node.log));
        for log in logs() {
            let line = wait_for("the chosen line", || {
                let text = fs::read_to_string(&log).ok()?;
                text.lines().filter_map(Chosen::parse).find(|line| line.reqid == 1)
            });
            let expected = Chosen { index: line.index, reqid: 1, from: 1, rest: "value=\"hello\"".into() };
            assert_eq!(line, expected, "{}", log.display());
        }
    }
}

/// `--check` names the node of a valid configuration (exit 0), and what is wrong with an invalid one (exit
/// 1).
fn check_says_whether_a_configuration_is_valid(protocol: ProtocolName) {
    let cluster = Cluster::prepare(Options::nodes(protocol, 3));
    let check = |path: &Path| run(SIMPLESVR, &["--check", path.to_str().unwrap()], cluster.dir.path());
    let valid = check(&cluster.nodes[&2].config);
    assert_eq!(valid.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&valid.stdout).contains("node 2 of 3"), "{valid:?}");
    let wrong = cluster.dir.path().join("wrong.toml");
    let text = fs::read_to_string(&cluster.nodes[&2].config).unwrap();
    fs::write(&wrong, text.replace("node = 2\nprotocol", "nods = 2\nprotocol")).unwrap();
    let refused = check(&wrong);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("wrong.toml:2:") && words.contains("nods"), "{words}");
}

/// Types a line as telnet would; nothing is answered to a `PROP` that succeeds.
fn type_line(client: std::net::SocketAddr, line: &str) {
    let mut stream = TcpStream::connect(client).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    // The answer to a later command shows that the line was taken, and that it owes nothing.
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n");
}

fn values(log: &[Chosen]) -> impl Iterator<Item = Chosen> {
    log.iter().filter(|line| line.reqid > 0).cloned()
}

/// A node run from an example, in a working directory of its own.
struct Example {
    child: Child,
    log: String,
}

impl Example {
    fn start(dir: &Path, file: &str, address: IpAddr, port: u16) -> Example {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(format!("{file}.toml"));
        let text = fs::read_to_string(&example).unwrap();
        let config = dir.join(format!("{port}.toml"));
        fs::write(&config, text.replace("127.0.0.1", &address.to_string())).unwrap();
        let log = text.lines().find_map(|line| line.strip_prefix("file = \"")).unwrap();
        let log = log.split('"').next().unwrap().to_owned();
        let child = Command::new(SIMPLESVR)
            .current_dir(dir)
            .arg(&config)
            .arg(format!("{address}:{port}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Example { child, log }
    }

    fn wait_ready(&mut self) {
        let lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find(|line| line.contains(" ready client="));
        assert!(ready.is_some(), "an example ended instead of getting ready");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
