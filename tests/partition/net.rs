//! A network that can be cut: a namespace for each node, and one for a router that joins them by veth pairs.
//!
//! A cut link is a policy rule of the router that drops what one node sends to another, silently, and in this
//! direction only. Clients are in the router's namespace, so that they reach every node whatever is cut.
//!
//! Namespaces have the id of the test's process in their names. They are removed at the end of a test, also
//! of one that fails; those of a process that was killed are removed by the next run, with what still runs in
//! them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::harness::Place;

/// Links that lose everything, from and to.
pub type Links = BTreeSet<(u64, u64)>;

const PREFIX: &str = "spaxos-test-";

/// Where clients are.
const ROUTER: &str = "10.77.0.254";

/// A network of nodes, with numbers from 1.
pub struct Net {
    name: String,
    cut: Links,
}

impl Net {
    /// The calling thread moves into the router's namespace, and so do the threads that it starts. `None`
    /// if this machine does not allow it, which is said loudly.
    pub fn new(nodes: u64) -> Option<Net> {
        if !is_allowed() {
            return None;
        }
        let net = Net::make(nodes).unwrap_or_else(|error| panic!("{error}"));
        let router = File::open(Path::new("/run/netns").join(net.router())).unwrap();
        move_into_link_name_space(router.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        Some(net)
    }

    fn make(nodes: u64) -> Result<Net, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Net { name, cut: Links::new() };
        let router = net.router();
        ip(&["netns", "add", &router])?;
        ip(&["netns", "exec", &router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
        ip_lines(&router, &format!("link set lo up\naddr add {ROUTER}/32 dev lo\n"))?;
        for node in 1..=nodes {
            let (namespace, address) = (net.namespace(node), address(node));
            ip(&["netns", "add", &namespace])?;
            ip_lines(
                &router,
                &format!(
                    "link add n{node} type veth peer name eth0 netns {namespace}\nlink set n{node} up\n\
                     route add {address}/32 dev n{node} src {ROUTER}\n"
                ),
            )?;
            ip_lines(
                &namespace,
                &format!(
                    "link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\n\
                     route add {ROUTER}/32 dev eth0\nroute add default via {ROUTER}\n"
                ),
            )?;
        }
        Ok(net)
    }

    fn router(&self) -> String {
        format!("{}router", self.name)
    }

    fn namespace(&self, node: u64) -> String {
        format!("{}{node}", self.name)
    }

    pub fn place(&self, node: u64) -> Place {
        let enter = ["ip", "netns", "exec", &self.namespace(node)].map(str::to_owned).to_vec();
        Place { address: address(node), enter }
    }

    /// From now on just these links are cut.
    pub fn cut(&mut self, links: Links) {
        let rule = |(from, to): &(u64, u64)| {
            format!("from {} to {} priority {}{to} blackhole\n", address(*from), address(*to), 100 + from)
        };
        let add = links.difference(&self.cut).map(|link| format!("rule add {}", rule(link)));
        let remove = self.cut.difference(&links).map(|link| format!("rule del {}", rule(link)));
        let lines: String = remove.chain(add).collect();
        ip_lines(&self.router(), &lines).unwrap();
        self.cut = links;
    }

    pub fn heal(&mut self) {
        self.cut(Links::new());
    }

    /// Limits the rate of what a node sends and receives.
    pub fn limit_rate(&self, node: u64, rate: &str) {
        let shape = |namespace: &str, device: &str| {
            let words = ["netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, "root", "tbf"];
            let limits = ["rate", rate, "burst", "16kb", "latency", "50ms"];
            ip(&[&words[..], &limits[..]].concat()).unwrap();
        };
        shape(&self.router(), &format!("n{node}"));
        shape(&self.namespace(node), "eth0");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove_all(&self.name);
    }
}

pub fn address(node: u64) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, node as u8).into()
}

/// Both directions of the links between nodes for which `is_cut` holds.
pub fn both_ways(nodes: u64, is_cut: impl Fn(u64, u64) -> bool) -> Links {
    links(nodes, |a, b| is_cut(a, b) || is_cut(b, a))
}

/// The links from one node to another for which `is_cut` holds.
pub fn links(nodes: u64, is_cut: impl Fn(u64, u64) -> bool) -> Links {
    let all = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to && is_cut(*from, *to)).collect()
}

/// Whether this machine lets us make such a network. If it does not, a line says so even though the test
/// passes, and a file in the tests' temporary folder (`CARGO_TARGET_TMPDIR`) holds the reason.
fn is_allowed() -> bool {
    static IS_ALLOWED: OnceLock<bool> = OnceLock::new();
    *IS_ALLOWED.get_or_init(|| {
        remove_left_over();
        let marker = Path::new(env!("CARGO_TARGET_TMPDIR")).join("partition.skipped");
        let tried = Net::make(2).and_then(|net| {
            let rule = format!("rule add from {} to {} blackhole\n", address(1), address(2));
            ip_lines(&net.router(), &rule)
        });
        let Err(why) = tried else {
            fs::remove_file(marker).unwrap_or(());
            return true;
        };
        fs::write(&marker, format!("{why}\n")).unwrap_or(());
        // Not by a macro: what they print is not shown if a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: tests/partition.rs needs root, network namespaces and policy routing: {why}"
        );
        false
    })
}

/// Removes the namespaces of test processes that no longer run.
fn remove_left_over() {
    for name in names() {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if let Some(process) = process
            && !PathBuf::from(format!("/proc/{process}")).exists()
        {
            remove_all(&name);
        }
    }
}

fn remove_all(prefix: &str) {
    for name in names().iter().filter(|name| name.starts_with(prefix)) {
        let pids = ip(&["netns", "pids", name]).unwrap_or_default();
        let own = std::process::id();
        for pid in pids.lines().filter_map(|pid| pid.trim().parse::<i32>().ok()) {
            if pid as u32 != own
                && let Some(pid) = Pid::from_raw(pid)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = ip(&["netns", "del", name]);
    }
}

fn names() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let what = || format!("ip {}", arguments.join(" "));
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| format!("{}: {error}", what()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(format!("{}: {}", what(), text(&output.stderr)));
    }
    Ok(text(&output.stdout))
}

/// Runs commands of `ip` in a namespace, in one process.
fn ip_lines(namespace: &str, lines: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("ip: {error}"))?;
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).map_err(|error| format!("ip: {error}"))?;
    let output = child.wait_with_output().map_err(|error| format!("ip: {error}"))?;
    if !output.status.success() {
        return Err(format!("{lines:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(())
}
