//! A chat whose log is replicated over three processes: everybody sees the same lines in the same order.
//!
//! In three terminals:
//!
//! ```console
//! $ cargo run --example chat -- 1 127.0.0.1:7101 127.0.0.1:7102 127.0.0.1:7103
//! $ cargo run --example chat -- 2 127.0.0.1:7101 127.0.0.1:7102 127.0.0.1:7103
//! $ cargo run --example chat -- 3 127.0.0.1:7101 127.0.0.1:7102 127.0.0.1:7103
//! ```
//!
//! Then type lines. Kill one (Ctrl-C, or `kill -9`): the other two go on. Start it again, and it shows all
//! that was said. Ctrl-D ends one cleanly. The data is in `data/chat`, or where `CHAT_DATA` says.
//!
//! It shows one node per process, chosen items from a channel ([`apply_channel`]), and proposals under ids of
//! its own, which are repeated until their outcome is known.

use std::error::Error;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spaxos::{Config, Items, Node, ProposeError, RequestId, WaitError, apply_channel};

const USAGE: &str = "usage: chat ID ADDRESS…    ID is 1 for the first address, and so on";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let id: u64 = arguments.next().ok_or(USAGE)?.parse().map_err(|_| USAGE)?;
    let addresses: Result<Vec<SocketAddr>, _> = arguments.map(|text| text.parse()).collect();
    let data = std::env::var_os("CHAT_DATA").map_or_else(|| PathBuf::from("data/chat"), PathBuf::from);
    chat(id, &addresses.map_err(|_| USAGE)?, &data, std::io::stdin().lock(), std::io::stdout())
}

/// Says each line of the input, and shows what anybody said, until the input ends.
pub fn chat(
    id: u64,
    addresses: &[SocketAddr],
    data: &Path,
    input: impl BufRead,
    output: impl Write + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let peers = (1..).zip(addresses.iter().copied());
    let config = Config::new("chat", id, peers, data.join(format!("node{id}")))?;
    // The channel holds 64 lines: if the terminal takes no more, this node waits, and the others go on.
    let (sender, items) = apply_channel(64);
    let node = Node::builder(config).apply_channel(sender).start()?;
    let shower = std::thread::spawn(move || show(items, output));
    // The ids of this run: a session that nobody has had, and a number for each line.
    let session = u128::from(std::process::id()) << 64 | unix_nanos();
    for (number, line) in (1..).zip(input.lines()) {
        say(&node, RequestId { session, number }, &line?)?;
    }
    node.stop()?;
    shower.join().map_err(|_| "the thread that shows the lines panicked")??;
    Ok(())
}

/// After every start the whole log comes first. The channel ends with the node.
fn show(items: Items, mut output: impl Write) -> std::io::Result<()> {
    for item in items {
        let text = String::from_utf8_lossy(&item.command.payload);
        writeln!(output, "{:4} node {}: {}", item.number, item.command.from, text.escape_debug())?;
        output.flush()?;
    }
    Ok(())
}

/// Proposes a line until it is delivered. Whatever happens in between, it is delivered once: it is the same
/// request.
fn say(node: &Node, request: RequestId, line: &str) -> Result<(), Box<dyn Error>> {
    loop {
        let outcome = match node.propose_as(request, line.to_owned()) {
            Ok(proposed) => proposed.wait(Duration::from_secs(5)),
            Err(ProposeError::Busy(_)) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match outcome {
            Ok(_) => return Ok(()),
            Err(WaitError::TimedOut) => eprintln!("(no majority answers; still trying)"),
            Err(error) => return Err(node.failure().map_or_else(|| error.into(), Box::from)),
        }
    }
}

fn unix_nanos() -> u128 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() & u128::from(u64::MAX))
}
