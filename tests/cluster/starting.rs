//! The first moments of a node: a lack of room at any call that needs some, signals before it serves, and
//! data directories and log files that it cannot use. What is tested here comes before consensus, so one
//! protocol is enough.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SIMPLESVR};
use super::shim::Shim;
use crate::common::outside::{PATIENCE, wait_until};

fn one_node() -> Cluster {
    Cluster::prepare(Options::nodes(ProtocolName::Paxos, 1))
}

/// Whichever call finds no room, in a founding or in a later start, and whichever of the three errors says
/// so: the node does not end. It is ready once there is room, and what it acknowledged is there.
#[test]
fn a_lack_of_room_at_any_call_of_a_start_passes() {
    let (next, last) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(1, Ordering::Relaxed);
                    if call > last.load(Ordering::Relaxed) || !start_twice_without_room_at(call) {
                        last.fetch_min(call, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    let calls = next.into_inner();
    assert!(calls > 15 || last.into_inner() == 1, "a start needed room {calls} times only");
}

/// Returns whether a start makes so many calls.
fn start_twice_without_room_at(call: u64) -> bool {
    const ERRNOS: [rustix::io::Errno; 3] =
        [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::FBIG];
    let mut cluster = one_node();
    let Some(shim) = Shim::build(&cluster.nodes[&1]) else { return false };
    let errno = ERRNOS[call as usize % 3].raw_os_error();
    let shim = shim.with("SHIM_FULL_AT", call).with("SHIM_ERRNO", errno);
    let mut was_full = [false; 2];
    for (round, was_full) in (1..).zip(&mut was_full) {
        let node = cluster.node(1);
        node.spawn(shim.under(node.command()));
        node.wait_ready();
        let record = shim.take_record();
        *was_full = record.iter().take_while(|line| *line != "listen").any(|line| line.starts_with("full "));
        cluster.settle(round);
        cluster.node(1).stop();
    }
    assert_eq!(cluster.check_logs().iter().filter(|line| line.reqid > 0).count(), 2);
    was_full != [false; 2]
}

/// Signals that come while the configuration is still being read (from a pipe that holds it up) end nobody,
/// and neither do hundreds of them from then on until it serves.
#[test]
fn signals_in_the_first_moments_of_a_start_end_nobody() {
    let mut cluster = one_node();
    let node = cluster.node(1);
    let text = fs::read(&node.config).unwrap();
    let slow = node.config.with_extension("fifo");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    node.config = slow;
    let command = node.command();
    node.spawn(command);
    // This waits until the node reads.
    let mut config = File::options().write(true).open(&node.config).unwrap();
    for signal in [Signal::HUP, Signal::USR1].repeat(100) {
        node.signal(signal);
    }
    config.write_all(&text).unwrap();
    drop(config);
    wait_until("node 1 to be ready", || {
        let ended = node.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "node 1 ended ({ended:?}): {}", node.output());
        node.signal(Signal::HUP);
        node.signal(Signal::USR1);
        node.output().contains(" ready client=")
    });
    node.stop();
}

/// SIGTERM ends a start that cannot go on: here it waits for its configuration.
#[test]
fn sigterm_ends_a_start() {
    let mut cluster = one_node();
    let node = cluster.node(1);
    let slow = node.config.with_extension("fifo");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    node.config = slow;
    let command = node.command();
    node.spawn(command);
    let _config = File::options().write(true).open(&node.config).unwrap();
    node.stop();
}

/// A data directory that cannot be used is exit code 2, and says what is wrong with it.
#[test]
fn a_data_directory_that_cannot_be_used_says_why() {
    let cluster = one_node();
    let node = &cluster.nodes[&1];
    let at = |name: &str| cluster.dir.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink("nowhere", at("link")).unwrap();
    let refused = |data: &str, words: &str| {
        let (code, text) = start_with(node, &format!("data = {:?}", at(data)), None);
        assert!(code == Some(2) && text.contains(words), "{data}: {code:?} {text}");
        assert!(!text.contains("File exists"), "{data}: {text}");
    };
    refused("file", "a file has this name");
    refused("file/data", "Not a directory");
    refused("link", "a symbolic link to something that does not exist");
    for (name, words) in
        [("store", "store: Not a directory"), ("LOCK", "opening its file LOCK: Is a directory")]
    {
        let data = format!("with-{name}");
        fs::create_dir(at(&data)).unwrap();
        match name {
            "LOCK" => fs::create_dir(at(&data).join(name)).unwrap(),
            _ => fs::write(at(&data).join(name), "").unwrap(),
        }
        refused(&data, words);
    }
    fs::create_dir(at("with-tail")).unwrap();
    fs::create_dir(at("with-tail/tail")).unwrap();
    refused("with-tail", "its file `tail`: Is a directory");
}

/// The same for what this user may not read or write. A superuser may everything, so its rights are taken
/// away by setpriv; a test says so where that is missing.
#[test]
fn a_data_directory_that_this_user_may_not_read_says_so() {
    let cluster = one_node();
    let node = &cluster.nodes[&1];
    let at = |name: &str| cluster.dir.path().join(name);
    let without_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let is_root = rustix::process::geteuid().is_root();
    let probe = Command::new("setpriv").args(&without_rights[1..]).arg("true").status();
    if is_root && !probe.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: there is no setpriv to take a superuser's rights away");
        return;
    }
    let prefix = is_root.then_some(&without_rights[..]);
    let refused = |data: &str, mode: u32, path: &str, words: &str| {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        let (code, text) = start_with(node, &format!("data = {:?}", at(data)), prefix);
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(code == Some(2) && text.contains(words), "{path} {mode:o}: {code:?} {text}");
        assert!(text.contains("Permission denied"), "{path} {mode:o}: {text}");
    };
    fs::create_dir_all(at("above/data/store")).unwrap();
    refused("above/data", 0o000, "above", "creating it");
    refused("above/new", 0o500, "above", "creating it");
    refused("above/data", 0o000, "above/data", "reading it");
    for name in ["LOCK", "tail", "store/db"] {
        fs::write(at("above/data").join(name), "").unwrap();
        refused("above/data", 0o000, &format!("above/data/{name}"), name);
        fs::remove_file(at("above/data").join(name)).unwrap();
    }
}

/// A log file that is the configuration or a file of the store, by any name, is refused with exit code 1, and
/// nothing is written into it.
#[test]
fn a_log_file_that_is_not_one_is_refused() {
    let mut cluster = one_node();
    cluster.node(1).start();
    cluster.settle(1);
    cluster.node(1).stop();
    let node = &cluster.nodes[&1];
    let before = fs::read_to_string(&node.config).unwrap();
    let at = |name: &str| cluster.dir.path().join(name);
    symlink(&node.config, at("link")).unwrap();
    fs::hard_link(node.data.join("store/db"), at("hard")).unwrap();
    fs::hard_link(&node.config, at("conf.2")).unwrap();
    for (file, words) in [
        (node.config.clone(), "the configuration"),
        (at("link"), "the configuration"),
        (at("conf"), "its rotation writes to"),
        (at("hard"), "a file of the store"),
        (node.data.join("LOCK"), "the lock of the data directory"),
        (node.data.join("tail"), "a file of the store"),
        (node.data.join("store/../tail"), "a file of the store"),
        (node.data.join("store/new"), "the folder of the store"),
    ] {
        let config = before.replace(&format!("file = {:?}", node.log), &format!("file = {file:?}"));
        assert_ne!(config, before);
        fs::write(&node.config, &config).unwrap();
        let mut command = Command::new(SIMPLESVR);
        command.arg(&node.config).arg(node.client.to_string());
        let (code, text) = end_of(command);
        assert!(code == Some(1) && text.contains(words), "{}: {code:?} {text}", file.display());
        assert!(text.contains("Give log.file a name of its own"), "{text}");
        assert_eq!(fs::read_to_string(&node.config).unwrap(), config, "{}", file.display());
    }
    fs::write(&node.config, before).unwrap();
    cluster.node(1).start();
    cluster.settle(2);
    cluster.check_logs();
}

/// Starts a node with a different line `data = …`, perhaps through a program that takes rights away, and
/// returns the exit code and what it said.
fn start_with(node: &Node, data: &str, prefix: Option<&[&str]>) -> (Option<i32>, String) {
    let config = fs::read_to_string(&node.config).unwrap();
    let other = node.config.with_extension("other.toml");
    // The log would be in a folder that may not be there.
    let log = format!("file = {:?}", node.config.with_extension("log"));
    let config = config.replace(&format!("data = {:?}", node.data), data);
    fs::write(&other, config.replace(&format!("file = {:?}", node.log), &log)).unwrap();
    let mut words = prefix.unwrap_or_default().to_vec();
    words.push(SIMPLESVR);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(&other as &Path).arg(node.client.to_string());
    end_of(command)
}

/// Runs a program that must end by itself, and returns its exit code and what it said on standard error.
fn end_of(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    // Its end, unless it serves: then it has nothing more to say on its standard error.
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), text)
}
