//! Ranks as processes, seen from outside: leadership goes round, and over kill -9 the logs keep all three
//! rules.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use common::outside::{own_address, wait_for};

const RANKS: usize = 3;

/// Three ranks in a folder; killed when dropped.
struct Ranks {
    folder: TempDir,
    children: Vec<Option<Child>>,
}

impl Ranks {
    /// Their configurations; none runs yet.
    fn prepare() -> Ranks {
        let folder = tempfile::tempdir().unwrap();
        let address = own_address(&[7001, 7002, 7003]);
        let peer =
            |node: usize| format!("[[peers]]\nnode = {node}\naddress = \"{address}:{}\"\n", 7000 + node);
        let peers: String = (1..=RANKS).map(peer).collect();
        for rank in 0..RANKS {
            let data = folder.path().join(format!("node{rank}"));
            let node = rank + 1;
            let head = format!("cluster = \"test\"\nnode = {node}\nprotocol = \"paxos\"\ndata = {data:?}\n");
            let config = format!("{head}{peers}[log]\nterminal = \"off\"\n");
            fs::write(folder.path().join(format!("node{rank}.toml")), config).unwrap();
        }
        Ranks { folder, children: (0..RANKS).map(|_| None).collect() }
    }

    fn start_rank(&mut self, rank: usize) {
        let child = Command::new(env!("CARGO_BIN_EXE_spaxos"))
            .args(["rank", "-o", "0.2", "-l", "40", "-t", "1000", "-i", &rank.to_string(), "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn();
        self.children[rank] = Some(child.unwrap());
    }

    fn kill(&mut self, rank: usize) {
        let mut child = self.children[rank].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends all in order.
    fn end(&mut self) {
        for child in self.children.iter().flatten() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        for child in &mut self.children {
            let status = child.take().unwrap().wait().unwrap();
            assert!(status.success(), "a rank ended with {status}");
        }
    }

    fn log(&self, rank: usize) -> PathBuf {
        self.folder.path().join(format!("log/instancelog{rank}.log"))
    }

    /// The lines of a rank with this word, as they are so far.
    fn lines(&self, rank: usize, word: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log(rank)).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
    }

    fn commits(&self, rank: usize) -> usize {
        self.lines(rank, "commit").len()
    }

    /// Waits until every rank committed `more` beyond the most so far.
    fn wait_for_commits(&self, more: usize) {
        let most = (0..RANKS).map(|rank| self.commits(rank)).max().unwrap();
        wait_for("commits on all ranks", || {
            (0..RANKS).all(|rank| self.commits(rank) >= most + more).then_some(())
        });
    }

    /// The rank that made the latest value.
    fn leader(&self) -> usize {
        let latest = |rank: &usize| {
            let lines = self.lines(*rank, "generate");
            lines.last().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap_or(0))
        };
        (0..RANKS).max_by_key(latest).unwrap()
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Validity and safety over two kills of the leader: no seq is committed twice or left out, whatever was
/// committed was generated; and every rank leads in its turn.
#[test]
fn all_rules_hold_over_kills() {
    let mut ranks = Ranks::prepare();
    (0..RANKS).for_each(|rank| ranks.start_rank(rank));
    wait_for("every rank to have led", || {
        (0..RANKS).all(|rank| !ranks.lines(rank, "generate").is_empty()).then_some(())
    });
    for _ in 0..2 {
        let leader = ranks.leader();
        ranks.kill(leader);
        let other = (leader + 1) % RANKS;
        let before = ranks.commits(other);
        wait_for("another leader's values", || (ranks.commits(other) > before + 20).then_some(()));
        ranks.start_rank(leader);
        ranks.wait_for_commits(20);
    }
    ranks.end();
    let logs = (0..RANKS).map(|rank| ranks.log(rank));
    let checked = Command::new(env!("CARGO_BIN_EXE_spaxos")).arg("check").args(logs).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{text}");
    for rank in 0..RANKS {
        assert!(text.contains(&format!("node {rank} commits {} times", ranks.commits(rank))), "{text}");
    }
}

/// A rank is the node of its number, and says so.
#[test]
fn anothers_configuration_is_refused() {
    let ranks = Ranks::prepare();
    let config = ranks.folder.path().join("node1.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spaxos"));
    let output = command.args(["rank", "-i", "0", "--config"]).arg(config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is for node 2, but rank 0 is node 1"), "{text}");
}
