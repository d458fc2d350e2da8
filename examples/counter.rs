//! A replicated counter: three nodes in this process, each with its data on disk. The count survives a
//! restart.
//!
//! ```console
//! $ cargo run --example counter
//! $ cargo run --example counter        # goes on where it ended
//! $ cargo run --example counter -- FOLDER 5    # data in FOLDER, adds 5
//! ```
//!
//! It shows an [`Application`] and its responses, [`Node::propose`] at a leader and elsewhere, and that the
//! log is applied again after a restart.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spaxos::{Application, Bytes, Config, Item, Node};

/// The state of the service, the same on every node once it has applied the same commands.
#[derive(Default)]
struct Counter(i64);

impl Application for Counter {
    /// A command is a number as text. Anything else counts as 0: all nodes must judge alike, and none may
    /// panic.
    fn apply(&mut self, item: &Item) -> Bytes {
        let text = std::str::from_utf8(&item.command.payload).unwrap_or_default();
        self.0 = self.0.wrapping_add(text.parse().unwrap_or(0));
        Bytes::from(self.0.to_string())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("data/counter"), PathBuf::from);
    let times = arguments.next().map_or(Ok(10), |text| text.parse())?;
    println!("the counter is at {}", count(&folder, times)?);
    println!("run it again, and it goes on: its data is in {}", folder.display());
    Ok(())
}

/// Adds 1 this many times, at one node after the other, and returns the counter as the last response has it.
pub fn count(folder: &Path, times: u32) -> Result<i64, Box<dyn Error>> {
    let nodes = start(folder)?;
    let mut counter = 0;
    for time in 0..times {
        let node = &nodes[time as usize % nodes.len()];
        let proposed = node.propose("1")?;
        // A node that does not lead forwards. Without a leader (at startup) the command waits for one.
        let delivered = proposed.wait(Duration::from_secs(30))?;
        let response = delivered.response.unwrap_or_default();
        counter = std::str::from_utf8(&response)?.parse()?;
        let role = if proposed.leads { "leads" } else { "forwards" };
        println!("node {} {role:8}  index {:3}  counter {counter}", node.id(), delivered.index);
    }
    for node in nodes {
        node.stop()?;
    }
    Ok(counter)
}

fn start(folder: &Path) -> Result<Vec<Node>, Box<dyn Error>> {
    // Sockets that already listen, at free ports. Another run may use other ports: nodes are known by their
    // ids.
    let listeners = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)));
    let mut peers: Vec<(u64, SocketAddr)> = Vec::new();
    let mut sockets = Vec::new();
    for (id, listener) in (1..).zip(listeners) {
        let listener = listener?;
        peers.push((id, listener.local_addr()?));
        sockets.push(listener);
    }
    let mut nodes = Vec::new();
    for (id, listener) in (1..).zip(sockets) {
        let config = Config::new("counter", id, peers.clone(), folder.join(format!("node{id}")))?;
        nodes.push(Node::builder(config).application(Counter::default()).peer_listener(listener).start()?);
    }
    Ok(nodes)
}
