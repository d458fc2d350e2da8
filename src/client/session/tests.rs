//! Tests of `session`: see the first line of each.

use super::*;
use crate::client::testing::FakeNode;

/// A session, and a node for whose proposals the test supplies the outcomes.
struct Bench {
    session: Session,
    node: FakeNode,
    now_ms: u64,
    outstanding: usize,
    ending: bool,
    proposals: Vec<ClientProposal>,
}

impl Bench {
    fn new() -> Bench {
        let limits = Limits { value_bytes: 1000, ..Limits::default() };
        let session = Session::new(1, limits, 0);
        let (node, proposals) = (FakeNode::default(), vec![]);
        Bench { session, node, now_ms: 0, outstanding: 0, ending: false, proposals }
    }

    fn turn(&mut self, act: impl FnOnce(&mut Session, &mut Turn)) {
        let mut turn = Turn {
            now_ms: self.now_ms,
            clock: Duration::from_micros(1_700_000_000_000_005),
            front: &self.node,
            proposals: vec![],
            outstanding: self.outstanding,
            ending: self.ending,
        };
        act(&mut self.session, &mut turn);
        let Turn { proposals, outstanding, .. } = turn;
        self.outstanding = outstanding;
        self.node.propose(proposals.clone(), &mut vec![]);
        self.proposals.extend(proposals);
        assert_eq!(self.outstanding, self.session.pending.waiting(), "each waiting request counts once");
        assert!(
            self.session.output.len() <= 3 * OUTPUT_BYTES,
            "{} bytes of output",
            self.session.output.len()
        );
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Bench {
        self.turn(|session, turn| session.handle_bytes(bytes.as_ref(), turn));
        self
    }

    /// Supplies the outcome of the proposal that came at this place.
    fn outcome(&mut self, place: usize, outcome: Outcome) -> &mut Bench {
        let sequence = self.proposals[place].ticket.sequence;
        self.turn(|session, turn| session.handle_outcome(sequence, &outcome, turn));
        self
    }

    fn at(&mut self, now_ms: u64) -> &mut Bench {
        self.now_ms = now_ms;
        self.turn(|session, turn| session.handle_time(turn));
        self
    }

    /// What the client reads now.
    fn read(&mut self) -> String {
        let text = String::from_utf8_lossy(self.session.output()).into_owned();
        let now_ms = self.now_ms;
        self.session.handle_written(self.session.output().len(), now_ms);
        text
    }
}

fn resp(arguments: &[&str]) -> String {
    let bulk = |argument: &&str| format!("${}\r\n{argument}\r\n", argument.len());
    format!("*{}\r\n{}", arguments.len(), arguments.iter().map(bulk).collect::<String>())
}

/// Contract: an inline PROP of a new connection is owed no reply and holds up none; if it fails, one line
/// comes between complete replies.
#[test]
fn a_prop_line_is_answered_only_if_it_fails() {
    let mut bench = Bench::new();
    bench.send("PROP 1 a\r\nPROP 2  b \r\nPROP 3 c\r\nPING\r\n");
    assert_eq!(bench.read(), "+PONG\r\n");
    assert_eq!(bench.proposals[1].payload, " b ");
    assert_eq!(bench.outcome(1, Outcome::Delivered(2)).read(), "");
    let busy = "-BUSY reqid=3 not proposed: the queue is full; send it again later\r\n";
    assert_eq!(bench.outcome(2, Outcome::Busy("the queue is full")).read(), busy);
    assert_eq!(bench.at(4999).read(), "");
    assert!(bench.at(5000).read().starts_with("-TIMEOUT reqid=1 "));
    assert!(bench.session.is_quiet());
    assert!(bench.send("PROP 0 a\r\n").read().starts_with("-ERR reqid '0'"));
    assert!(bench.send("PROP 4 \r\n").read().starts_with("-ERR reqid=4 "));
}

/// Contract: the error of a PROP line never comes in the middle of another reply, and does not wait behind
/// one that waits.
#[test]
fn a_failed_prop_line_does_not_wait_for_its_turn() {
    let mut bench = Bench::new();
    bench.send("AWAIT 9 60000\r\nPROP 1 a\r\nPING\r\n");
    assert_eq!(bench.read(), "");
    assert!(bench.outcome(0, Outcome::OtherValue(4)).read().starts_with("-ERR reqid=1 stands at index 4"));
    assert_eq!(bench.at(60_000).read(), "$-1\r\n+PONG\r\n");
}

/// Contract: RESP requests are always answered in order, in whatever order their outcomes come.
#[test]
fn arrays_are_answered_in_order() {
    let mut bench = Bench::new();
    bench.send(resp(&["PROP", "1", "a"]) + &resp(&["PROP", "2", "b"]) + &resp(&["PING"]) + "PROP 3 c\r\n");
    assert_eq!(bench.outcome(2, Outcome::Delivered(1)).read(), "");
    assert_eq!(bench.outcome(1, Outcome::Delivered(2)).read(), "");
    assert_eq!(bench.outcome(0, Outcome::Delivered(3)).read(), ":3\r\n:2\r\n+PONG\r\n");
    assert!(bench.session.is_quiet());
}

/// Contract: CLIENT REPLY ON ends the seed's behaviour for good, even for lines that were sent before.
#[test]
fn reply_on_answers_prop_lines_in_order() {
    let mut bench = Bench::new();
    bench.send("PROP 1 a\r\nCLIENT REPLY ON\r\nPROP 2 b\r\nPROP 0 c\r\n");
    assert_eq!(bench.read(), "+OK\r\n");
    assert_eq!(bench.outcome(0, Outcome::Busy("full")).read(), "");
    let replies = bench.outcome(1, Outcome::Delivered(5)).read();
    assert!(replies.starts_with(":5\r\n-ERR reqid '0'"), "{replies}");
    bench.send("CLIENT REPLY OFF\r\nPING\r\nPROP 4 d\r\n");
    bench.outcome(2, Outcome::Busy("full"));
    assert_eq!(bench.read(), "");
    assert_eq!(bench.send("CLIENT REPLY ON\r\nPROP 5 e\r\n").read(), "+OK\r\n");
    assert_eq!(bench.outcome(3, Outcome::Delivered(6)).read(), ":6\r\n");
}

/// Rule: SKIP is for the next command only, and leaves the seed's behaviour as it was.
#[test]
fn reply_skip_mutes_one_command() {
    let mut bench = Bench::new();
    bench.send("CLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY SKIP\r\nPROP 1 a\r\nPROP 2 b\r\n");
    assert_eq!(bench.read(), "+PONG\r\n");
    bench.outcome(0, Outcome::Busy("full"));
    assert_eq!(bench.read(), "");
    assert!(
        bench.outcome(1, Outcome::TryAgain(Some((2, "h:1".to_owned())))).read().contains("node 2 at h:1")
    );
}

/// Rule: (hostile 15) each outcome of a PROP has its text, and a request that timed out is no longer known.
#[test]
fn outcomes_and_what_comes_late() {
    let mut bench = Bench::new();
    bench.send(resp(&["PROP", "7", "a"]));
    let timeout = bench.at(5000).read();
    assert_eq!(
        timeout,
        "-TIMEOUT reqid=7 not known to be delivered in time; it may be delivered later: \
         send the same reqid and value again, or ask AWAIT 7\r\n"
    );
    assert!(bench.node.waiters.lock().is_empty());
    assert_eq!(bench.outcome(0, Outcome::Delivered(1)).read(), "");
    bench.send(resp(&["PROP", "7", "b"])).outcome(1, Outcome::OtherValue(1));
    assert_eq!(bench.read(), "-ERR reqid=7 stands at index 1 with a different value; use a new reqid\r\n");
    bench.send(resp(&["PROP", "8", "b"])).outcome(2, Outcome::TryAgain(None));
    assert_eq!(
        bench.read(),
        "-TRYAGAIN reqid=8 not proposed: this node takes no proposals now; send it to another node\r\n"
    );
}

/// Rule: AWAIT answers the index, immediately or once it is delivered, or nil when its own time is up.
#[test]
fn await_answers_index_or_nil() {
    let mut bench = Bench::new();
    bench.node.delivered.lock().insert(7, 70);
    assert_eq!(bench.send("AWAIT 7\r\nAWAIT 7 0\r\nAWAIT 8 0\r\n").read(), ":70\r\n:70\r\n$-1\r\n");
    bench.send("AWAIT 8 100\r\nPING\r\nAWAIT 9 50\r\n");
    assert_eq!(bench.at(99).read(), "");
    assert_eq!(bench.at(100).read(), "$-1\r\n+PONG\r\n$-1\r\n");
    bench.send("AWAIT 8 100\r\n");
    let (_, ticket) = bench.node.waiters.lock()[0];
    bench.turn(|session, turn| session.handle_outcome(ticket.sequence, &Outcome::Delivered(80), turn));
    assert_eq!(bench.read(), ":80\r\n");
    assert_eq!(bench.session.deadline_ms(), Some(3_600_100), "only the idle limit is left");
}

/// Rule: (hostile 5) a value holding a reply is one bulk string; a no-op has reqid 0 and nil.
#[test]
fn log_answers_items() {
    let mut bench = Bench::new();
    let items = [FakeNode::item(5, 0, ""), FakeNode::item(6, u64::MAX, "\r\n+OK\r\n")];
    bench.node.log.lock().extend(items);
    let expected = "*2\r\n*3\r\n:5\r\n$1\r\n0\r\n$-1\r\n*3\r\n:6\r\n$20\r\n18446744073709551615\r\n$7\r\n\r\n+OK\r\n\r\n";
    assert_eq!(bench.send("LOG 5\r\n").read(), expected);
    assert_eq!(bench.send("LOG 7 18446744073709551615\r\n").read(), "*0\r\n");
    assert_eq!(bench.send("LOG 4\r\n").read(), "-ERR entries up to index 4 are no longer kept\r\n");
}

/// Rule: the small commands answer as Redis does.
#[test]
fn small_commands() {
    let mut bench = Bench::new();
    let mut ask = |line: &str| bench.send(format!("{line}\r\n")).read();
    assert_eq!(ask("PING"), "+PONG\r\n");
    assert_eq!(ask("ping \"a b\""), "$3\r\na b\r\n");
    assert_eq!(ask("ECHO x"), "$1\r\nx\r\n");
    assert_eq!(ask("TIME"), "*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n");
    assert_eq!(ask("LEADER"), "*2\r\n:2\r\n$14\r\n127.0.0.1:9002\r\n");
    assert_eq!(ask("INFO log"), "$49\r\n# Log\r\ncompacted:0\r\napplied:0\r\nchosen:0\r\nlast:0\r\n\r\n");
    let status = ask("STATUS");
    let (len, text) = status.split_once("\r\n").unwrap();
    assert_eq!(len, format!("${}", text.len() - 2));
    let node = "# Node\r\ncluster:\r\nnode:0\r\nrole:follower\r\nballot:0.0\r\nleader:none\r\nleader_address:none\r\n\
                uptime_ms:0\r\naccepts_proposals:yes\r\nfork:none\r\ntrouble:none\r\n";
    let log = "# Log\r\ncompacted:0\r\napplied:0\r\nchosen:0\r\nlast:0\r\n";
    assert!(
        text.starts_with(&format!("{node}\r\n{log}\r\n# Peers\r\n\r\n# Queues\r\nproposing:0\r\n")),
        "{text}"
    );
    assert!(text.ends_with("log_rotations:0\r\nlog_stuck:no\r\n\r\n"), "{text}");
    assert!(ask("INFO").contains("# Server\r\nredis_version:7.0.0\r\n"));
    assert_eq!(ask("CLIENT GETNAME"), "$-1\r\n");
    assert_eq!(ask("CLIENT SETNAME me"), "+OK\r\n");
    assert_eq!(ask("CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(ask("CLIENT SETINFO lib-name x"), "+OK\r\n");
    assert_eq!(ask("CLIENT ID"), ":1\r\n");
    assert_eq!(
        ask("CONFIG GET save appendonly"),
        "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"
    );
    assert_eq!(ask("CONFIG GET nothing"), "*0\r\n");
    assert!(ask("HELLO 2 SETNAME you").starts_with("*14\r\n$6\r\nserver\r\n$6\r\nspaxos\r\n"));
    assert_eq!(ask("CLIENT GETNAME"), "$3\r\nyou\r\n");
    assert!(ask("HELLO 3").starts_with("-NOPROTO "));
    assert!(ask("HELP").contains("+PROP reqid value: "));
    assert_eq!(ask("COMMAND COUNT"), ":15\r\n");
    assert!(ask("COMMAND INFO prop nothing").ends_with("*-1\r\n"));
    assert!(ask("nonsense").starts_with("-ERR unknown command"));
    assert_eq!(ask("ECHO \"x"), "-ERR Protocol error: unbalanced quotes in request\r\n");
}

/// Rule: QUIT ends the connection after the replies it is owed; what comes after it is not read.
#[test]
fn quit_waits_for_what_is_owed() {
    let mut bench = Bench::new();
    bench.send(resp(&["PROP", "1", "a"]) + "QUIT\r\nPROP 2 b\r\n");
    assert_eq!(bench.proposals.len(), 1);
    assert!(!bench.session.is_finished());
    bench.outcome(0, Outcome::Delivered(1));
    assert_eq!(bench.read(), ":1\r\n+OK\r\n");
    assert!(bench.session.is_finished());
}

/// Rule: (hostile 10) a half-close inside a command drops that command, answers those before it, and does
/// not keep a long AWAIT waiting for a client that may be gone.
#[test]
fn a_half_close_inside_a_command() {
    let mut bench = Bench::new();
    bench.send("AWAIT 1 3600000\r\nPROP 2 a\r\nPROP 3 b");
    bench.session.handle_end_of_input(0);
    assert_eq!(bench.proposals.len(), 1);
    assert_eq!(bench.session.deadline_ms(), Some(5000));
    assert!(bench.at(5000).read().contains("$-1\r\n"));
    assert!(bench.session.is_finished());
}

/// Rule: (hostile 10) when the connection is gone, nobody waits any more.
#[test]
fn waiters_of_a_lost_connection_are_forgotten() {
    let mut bench = Bench::new();
    bench.send(resp(&["PROP", "1", "a"]) + "PROP 2 b\r\nAWAIT 3\r\n");
    assert_eq!(bench.node.waiters.lock().len(), 3);
    bench.turn(|session, turn| session.handle_gone(turn));
    assert_eq!(bench.node.waiters.lock().len(), 0);
    assert!(bench.session.is_dropped());
}

/// Rule: (hostile 2) a request must be complete 30 s after its first byte, however steadily bytes come.
#[test]
fn a_request_that_takes_too_long_ends_the_connection() {
    let mut bench = Bench::new();
    bench.at(1000).send("P");
    for now_ms in [11_000, 21_000, 30_999] {
        assert_eq!(bench.at(now_ms).send("I").read(), "");
    }
    assert_eq!(bench.session.deadline_ms(), Some(31_000));
    assert!(bench.at(31_000).read().starts_with("-ERR the request was not complete after 30 s"));
    assert!(bench.session.is_finished());
    assert_eq!(bench.session.take_complaint(), Some(Complaint::Incomplete(30)));
}

/// Rule: the time of a request runs from its own first byte, not from that of those before.
#[test]
fn the_next_request_has_its_own_time() {
    let mut bench = Bench::new();
    bench.send("PI").at(29_000).send("NG\r\nPI");
    assert_eq!(bench.session.deadline_ms(), Some(59_000));
    bench.send(b"NG\r\n\xff\xfb\x1f");
    assert_eq!(bench.session.incomplete_since_ms, None, "telnet's greeting is not a half-sent request");
}

/// Rule: (hostile 3) a silent connection is closed after the idle limit; one that waits is not idle.
#[test]
fn silence_ends_a_connection() {
    let mut bench = Bench::new();
    bench.send("AWAIT 1 3600000\r\n").at(3_599_999);
    assert!(!bench.session.is_finished());
    assert_eq!(bench.at(3_600_000).read(), "$-1\r\n");
    bench.at(7_199_999);
    assert!(!bench.session.is_finished());
    bench.at(7_200_000);
    assert!(bench.session.is_finished());
    assert_eq!(bench.session.take_complaint(), None);
}

/// Rule: (hostile 1, 7, 14) what is not a request is answered with one error, and the connection ends.
#[test]
fn nonsense_is_answered_and_ends_the_connection() {
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "-ERR this port speaks RESP (the Redis protocol), not HTTP"),
        (b"\x16\x03\x01", "-ERR this port speaks RESP (the Redis protocol) without TLS"),
        (b"*2147483647\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (&[b'x'; 1100], "-TOOLARGE a value is at most 1000 bytes"),
        (b"*3\r\n$4\r\nPROP\r\n$1\r\n7\r\n$9999\r\n", "-TOOLARGE reqid=7 a value is at most 1000 bytes"),
    ];
    for (bytes, expected) in cases {
        let mut bench = Bench::new();
        bench.send(bytes).send("PING\r\n");
        let replies = bench.read();
        assert!(replies.starts_with(expected) && replies.lines().count() == 1, "{replies}");
        assert!(bench.session.is_finished());
        assert!(matches!(bench.session.take_complaint(), Some(Complaint::Protocol(..))));
    }
}

/// Rule: (hostile 9) requests beyond the limit are not taken before there is room, and none is lost.
#[test]
fn outstanding_requests_are_bounded() {
    let mut bench = Bench::new();
    let count = OUTSTANDING + 100;
    let lines: String = (1..=count).map(|reqid| format!("PROP {reqid} x\r\n")).collect();
    bench.send(&lines);
    assert_eq!(bench.proposals.len(), OUTSTANDING);
    assert!(!bench.session.wants_input() && bench.session.has_unread_requests());
    for place in 0..100 {
        bench.outcome(place, Outcome::Delivered(1));
    }
    bench.turn(|session, turn| session.resume(turn));
    assert_eq!(bench.proposals.len(), count);
    assert_eq!(bench.proposals.last().map(|last| last.request), Some(RequestId::user(count as u64)));
    assert!(!bench.session.has_unread_requests());
}

/// Rule: (hostile 9) a client that does not read is throttled, then dropped; what it is owed stays bounded,
/// even behind a reply that waits.
#[test]
fn a_client_that_does_not_read_is_throttled_then_dropped() {
    for first in ["", "AWAIT 1 3600000\r\n"] {
        let mut bench = Bench::new();
        bench.send(first);
        let pings = "PING aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000);
        while bench.session.wants_input() {
            bench.send(&pings);
        }
        assert!(bench.session.held_bytes() < 8 * OUTPUT_BYTES, "{}", bench.session.held_bytes());
    }
    let mut bench = Bench::new();
    while bench.session.wants_input() {
        bench.send("HELP\r\n");
    }
    bench.session.handle_written(10, 0);
    assert_eq!(bench.session.deadline_ms(), Some(30_000));
    bench.now_ms = 20_000;
    bench.session.handle_written(BEHIND_BYTES, 20_000);
    bench.at(49_999);
    assert!(!bench.session.is_dropped());
    bench.session.handle_written(BEHIND_BYTES - 1, 49_999);
    bench.at(50_000);
    assert!(bench.session.is_dropped());
    assert!(matches!(bench.session.take_complaint(), Some(Complaint::Behind(_))));
}

/// Rule: a node that ends proposes nothing more, and reports what it cannot wait for.
#[test]
fn a_node_that_ends() {
    let mut bench = Bench::new();
    bench.send(resp(&["PROP", "1", "a"]));
    bench.ending = true;
    bench.send(resp(&["PROP", "2", "b"]) + "PING\r\n");
    assert_eq!(bench.proposals.len(), 1);
    bench.turn(|session, turn| session.handle_shutdown(turn));
    let replies = bench.read();
    assert!(
        replies.starts_with("-TIMEOUT reqid=1 not known to be delivered before this node ended"),
        "{replies}"
    );
    assert!(
        replies
            .contains("-TRYAGAIN reqid=2 not proposed: this node takes no proposals now; send it to node 2")
    );
    assert!(replies.ends_with("+PONG\r\n") && bench.session.is_finished());
}

/// Rule: when all clients together have too much under way, requests are refused, not queued.
#[test]
fn requests_of_all_clients_are_bounded() {
    let mut bench = Bench::new();
    bench.session.pending = Pending::default();
    let mut turn = Turn {
        now_ms: 0,
        clock: Duration::ZERO,
        front: &bench.node,
        proposals: vec![],
        outstanding: OUTSTANDING_OF_ALL,
        ending: false,
    };
    bench.session.handle_bytes(b"PROP 7 a\r\nAWAIT 8\r\n", &mut turn);
    assert_eq!((turn.proposals.len(), turn.outstanding), (0, OUTSTANDING_OF_ALL));
    let replies = bench.read();
    assert!(replies.starts_with("-BUSY reqid=7 not proposed: 262144 requests"), "{replies}");
    assert!(replies.contains("-BUSY reqid=8 "), "{replies}");
}
