//! The examples do what they say: each is built into this test and run, the chat as three processes.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

#[allow(dead_code)]
#[path = "../examples/chat.rs"]
mod chat;
#[allow(dead_code)]
#[path = "../examples/counter.rs"]
mod counter;
#[allow(dead_code)]
#[path = "../examples/raw_core.rs"]
mod raw_core;

use common::outside::{PATIENCE, own_address};

/// What was counted in one run is there in the next.
#[test]
fn the_counter_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(counter::count(folder.path(), 5).unwrap(), 5);
    assert_eq!(counter::count(folder.path(), 4).unwrap(), 9);
}

/// Although a leader dies, all cores apply all values, in the same order.
#[test]
fn raw_cores_agree_over_the_death_of_a_leader() {
    for protocol in spaxos::ProtocolName::ALL {
        let logs = raw_core::run(protocol, 20);
        assert_eq!(logs.len(), 3);
        assert!(logs.values().all(|log| log.len() == 20 && *log == logs[&1]), "{protocol}: {logs:?}");
    }
}

/// Three processes show the same lines, also those that one of them missed while it was killed.
#[test]
fn three_processes_chat() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [7101, 7102, 7103];
    let address = own_address(&ports);
    let addresses = ports.map(|port| SocketAddr::new(address, port));
    let start = |id| Chatter::start(id, &addresses, folder.path());
    let mut chatters = [1, 2, 3].map(start);
    for (chatter, line) in chatters.iter_mut().zip(["one", "two", "three"]) {
        chatter.say(line);
    }
    let shown: Vec<Vec<String>> = chatters.iter().map(|chatter| chatter.lines(3)).collect();
    assert!(shown[0] == shown[1] && shown[1] == shown[2], "{shown:?}");

    chatters[0].child.kill().unwrap();
    chatters[0].child.wait().unwrap();
    chatters[1].say("four");
    let fourth = chatters[2].lines(1);
    assert_eq!(fourth, ["   4 node 2: four"]);
    chatters[0] = start(1);
    assert_eq!(chatters[0].lines(4), [&shown[2][..], &fourth[..]].concat());
    for chatter in &mut chatters {
        chatter.input = None;
        assert!(chatter.child.wait().unwrap().success());
    }
}

/// A process of the test above, which starts this program again with only this test in it.
#[test]
#[ignore = "a process of three_processes_chat"]
fn chat_process() {
    let (Ok(id), Ok(addresses)) = (std::env::var("CHAT_ID"), std::env::var("CHAT_ADDRESSES")) else { return };
    let addresses: Vec<SocketAddr> = addresses.split(' ').map(|text| text.parse().unwrap()).collect();
    let data = std::env::var_os("CHAT_DATA").unwrap();
    let input = std::io::stdin().lock();
    chat::chat(id.parse().unwrap(), &addresses, Path::new(&data), input, std::io::stdout()).unwrap();
}

/// One of the chatting processes; killed when dropped.
struct Chatter {
    child: Child,
    input: Option<ChildStdin>,
    shown: Receiver<String>,
}

impl Chatter {
    fn start(id: u64, addresses: &[SocketAddr], data: &Path) -> Chatter {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chat_process", "--ignored", "--nocapture"])
            .env("CHAT_ID", id.to_string())
            .env("CHAT_ADDRESSES", addresses.join(" "))
            .env("CHAT_DATA", data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            // The test program has lines of its own.
            let lines = output.lines().map_while(Result::ok).filter(|line| line.contains(" node "));
            lines.for_each(|line| drop(sender.send(line)));
        });
        Chatter { input: child.stdin.take(), child, shown }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next lines that it shows.
    fn lines(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.shown.recv_timeout(PATIENCE).expect("a line is shown")).collect()
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
