//! The configuration: the examples load and show the defaults, and an error names its place and what is
//! allowed.

use std::path::Path;

use proptest::prelude::*;
use spaxos::config::{Config, ConfigError, Terminal};
use spaxos::consensus::protocols::ProtocolName;

/// A configuration as other tools write it; keys that are not in it are optional.
const FORM: &str = r#"cluster = "demo"
node = 1
protocol = "paxos"
data = "data/node1"
[log]
file = "data/node1/simplesvr.log"
level = "info"
[[peers]]
node = 1
address = "127.0.0.1:10001"
[[peers]]
node = 2
address = "127.0.0.1:10002"
[timing]
election_ms = 300
heartbeat_ms = 50
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("node.toml"))
}

fn example(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    Config::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// The error when `from`, which the form has, is replaced.
fn error_with(from: &str, to: &str) -> String {
    assert!(FORM.contains(from), "{from}");
    parse(&FORM.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn the_form_of_other_tools_is_read() {
    let config = parse(FORM).unwrap();
    assert_eq!((config.cluster.as_str(), config.node, config.protocol), ("demo", 1, ProtocolName::Paxos));
    assert_eq!(config.data, Path::new("data/node1"));
    assert_eq!(config.peers[&2], "127.0.0.1:10002".parse().unwrap());
    assert_eq!(config.log.file, Path::new("data/node1/simplesvr.log"));
}

#[test]
fn what_is_left_out_has_the_default_that_the_standalone_example_shows() {
    let shown = example("standalone.toml");
    let text = "cluster = \"standalone\"\nnode = 1\nprotocol = \"paxos\"\ndata = \"data/standalone\"\n\
                peers_key = \"data/standalone.key\"\n\
                [[peers]]\nnode = 1\naddress = \"127.0.0.1:10001\"\n";
    assert_eq!(parse(text).unwrap(), shown);
    assert_eq!(shown.log.terminal, Terminal::Diagnostics);
}

#[test]
fn the_examples_of_three_nodes_make_one_cluster() {
    let nodes = [1, 2, 3].map(|node| example(&format!("three/node{node}.toml")));
    for (node, config) in (1..).zip(&nodes) {
        assert_eq!(config.node, node);
        assert_eq!((&config.cluster, &config.peers), (&nodes[0].cluster, &nodes[0].peers));
        assert_eq!(config.peers_key.as_deref(), Some(Path::new("data/demo.key")));
        assert_eq!(config.data, Path::new(&format!("data/node{node}")));
        assert_eq!(config.peers.len(), 3);
        assert!(config.log.file.starts_with(&config.data));
    }
}

#[test]
fn wrong_keys_are_told_with_their_place_and_what_is_allowed() {
    for (from, to, said) in [
        ("cluster", "clutser", "node.toml:1:1: unknown key `clutser`, allowed are `cluster`, `node`,"),
        ("level", "levle", "node.toml:7:1: unknown key `levle`, allowed are `file`, `level`,"),
        ("address", "adress", "node.toml:10:1: unknown key `adress`"),
        ("[timing]", "[timings]", "node.toml:14:2: unknown key `timings`"),
        ("cluster = \"demo\"\n", "", "missing key `cluster`"),
        ("address = \"127.0.0.1:10001\"\n", "", "node.toml:8:1: missing key `address`"),
        ("node = 1\n", "node = \"1\"\n", "node.toml:2:8: invalid type: string \"1\", expected i64"),
        ("election_ms = 300", "election_ms = 0.3", "node.toml:15:15: invalid type"),
        ("node = 1\n", "node = 1\nnode = 1\n", "node.toml:3:1: duplicate key"),
        ("[log]", "peers_key = 5\n[log]", "node.toml:5:13: invalid type: integer `5`, expected a string"),
        ("node = 1\n", "node = \n", "node.toml:2:"),
    ] {
        let error = error_with(from, to);
        assert!(error.contains(said), "{to:?}: {error}");
    }
}

/// A missing key is told without a line that has nothing to do with it, such as a comment.
#[test]
fn a_missing_key_is_not_blamed_on_a_comment() {
    let text = format!("# about this node\n\n{}", FORM.replacen("cluster = \"demo\"\n", "", 1));
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("node.toml:3:1: missing key `cluster`; cluster, node, protocol,"), "{error}");
    assert!(!error.contains(", in `"), "{error}");
}

#[test]
fn wrong_values_are_told_with_their_place_and_what_is_allowed() {
    for (from, to, said) in [
        ("\"demo\"", "\"\"", "node.toml:1:11: cluster is \"\"; allowed are 1 to 64"),
        ("\"demo\"", "\"a b\"", "allowed are 1 to 64 ASCII letters"),
        ("node = 1", "node = 0", "node.toml:2:8: node is 0; allowed are 1 to"),
        ("node = 1", "node = -1", "node is -1; allowed are 1 to"),
        ("node = 1", "node = 3", "node.toml:2:8: node 3 is not among [[peers]], which lists 1, 2"),
        (
            "\"paxos\"",
            "\"zab\"",
            "node.toml:3:12: protocol \"zab\" is not in this version; allowed: \"paxos\", \"raft\"",
        ),
        ("\"data/node1\"", "\"\"", "node.toml:4:8: data is empty"),
        ("[log]", "peers_key = \"\"\n[log]", "node.toml:5:13: peers_key is empty; write a path"),
        ("\"info\"", "\"loud\"", "node.toml:7:9: log.level is \"loud\"; allowed are \"error\", \"warn\","),
        ("node = 2", "node = 1", "node.toml:12:8: node 1 is listed twice"),
        ("10002", "10001", "node.toml:13:11: nodes 1 and 2 have the same address 127.0.0.1:10001"),
        ("127.0.0.1:10002", "[::ffff:127.0.0.1]:10001", "have the same address"),
        ("127.0.0.1:10002", "localhost:1", "node.toml:13:11: address \"localhost:1\" is not an address"),
        ("127.0.0.1:10002", "127.0.0.1", "write IP:PORT"),
        ("127.0.0.1:10002", "127.0.0.1:0", "cannot be reached by other nodes"),
        ("127.0.0.1:10002", "0.0.0.0:10002", "cannot be reached by other nodes"),
        ("= 300", "= 49", "node.toml:15:15: timing.election_ms is 49; allowed are 50 to 60000"),
        (
            "= 50",
            "= 150",
            "node.toml:16:16: timing.heartbeat_ms is 150; allowed are 5 to 149 (less than half",
        ),
        ("= 50", "= 50\n[log2]", "unknown key `log2`"),
        (
            "= 50",
            "= 50\n[store]\ncache_mb = 0",
            "node.toml:18:12: store.cache_mb is 0; allowed are 1 to 65536",
        ),
        ("= 50", "= 50\n[limits]\nvalue_bytes = 1048577", "allowed are 1 to 1048576"),
        ("= 50", "= 50\n[limits]\nwindow_entries = 65537", "allowed are 1 to 65536"),
        ("= 50", "= 50\n[client]\ntimeout_ms = 9", "client.timeout_ms is 9; allowed are 10 to 3600000"),
    ] {
        let error = error_with(from, to);
        assert!(error.contains(said), "{to:?}: {error}");
    }
}

#[test]
fn a_cluster_has_1_to_31_nodes() {
    let (head, _) = FORM.split_once("[[peers]]").unwrap();
    let of = |count: u64| {
        let peer = |node| format!("[[peers]]\nnode = {node}\naddress = \"127.0.0.1:{}\"\n", 10_000 + node);
        parse(&format!("{head}{}", (1..=count).map(peer).collect::<String>()))
    };
    assert_eq!(of(31).unwrap().peers.len(), 31);
    let error = of(32).unwrap_err().to_string();
    assert!(error.contains("32 [[peers]]; allowed are 1 to 31"), "{error}");
    let error = of(0).unwrap_err().to_string();
    assert!(error.contains("missing key `peers`"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(dir.path().join("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml") && error.contains("No such file"), "{error}");
    for (name, bytes) in [("long", vec![b'\n'; 2 << 20]), ("binary", vec![0xff; 10])] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })), "{name}");
    }
}

#[test]
fn a_client_port_beyond_loopback_and_an_even_number_of_nodes_are_warned_of() {
    let standalone = example("standalone.toml");
    for (client, warns) in [
        ("127.0.0.1:9001", false),
        ("127.8.8.8:9001", false),
        ("[::1]:9001", false),
        ("[::ffff:127.0.0.1]:9001", false),
        ("0.0.0.0:9001", true),
        ("[::]:9001", true),
        ("192.168.1.1:9001", true),
    ] {
        let warnings = standalone.warnings(client.parse().unwrap());
        assert_eq!(warnings.iter().any(|text| text.contains("no authentication")), warns, "{client}");
    }
    let warnings = parse(FORM).unwrap().warnings("127.0.0.1:9001".parse().unwrap());
    assert_eq!(warnings, ["2 nodes survive the loss of 0, as 1 would: an odd number is better"]);
}

proptest! {
    /// Whatever a file holds, reading it ends with a configuration or an error, never with a panic.
    #[test]
    fn damaged_text_never_panics(cut in 0..FORM.len(), junk in ".{0,20}", skip in 0..20usize) {
        let rest = FORM.get((cut + skip).min(FORM.len())..).unwrap_or_default();
        if let Err(error) = parse(&format!("{}{junk}{rest}", &FORM[..cut])) {
            prop_assert!(error.to_string().starts_with("node.toml:"));
        }
    }
}
