//! The client port on real sockets, in front of a node that delivers immediately. After each attack an honest
//! client is served as ever.
//!
//! | hostile input | here | what the port does |
//! | --- | --- | --- |
//! | 1 a line of 1 GB without newline | `a_line_without_end` (64 MB) | -TOOLARGE at the limit, closed |
//! | 2 a byte every 10 s | `a_request_that_never_becomes_complete` | closed 30 s after the first byte |
//! | 3 10 000 silent connections | `silent_connections` (400: more take another ulimit) | honest clients are served; refused above the limit |
//! | 4 NUL and invalid UTF-8 · 5 a value with a reply in it · 6 terminal escapes | `values_of_any_bytes` | kept as they are (the log's escapes: where lines are written) |
//! | 7 telnet's sequences, endless ones | `telnet_sequences` | dropped before a line, -ERR inside one; -TOOLARGE at the limit |
//! | 8 bare CR, LF, a million empty lines | `empty_lines_and_bare_ends` | mean nothing |
//! | 9 answers that are never read | `answers_that_are_never_read` | throttled, dropped |
//! | 10 half-close, reset | `a_half_close_inside_a_command`, `a_reset_inside_an_answer` | forgotten |
//! | 11 integers | `integers` | -ERR |
//! | 12 huge scans | `huge_scans`; families: with the key-value store | bounded replies |
//! | 13 administrative commands, password guesses | with AUTH | |
//! | 14 HTTP, TLS, impossible lengths, deep arrays | `other_protocols` | one error, closed |
//! | 15 the same reqid again, the maximum and one more | `the_same_reqid`, `the_longest_value` | -ERR, -TOOLARGE |

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[path = "client_port/harness.rs"]
mod harness;
use harness::{Client, HELD, Port, array, wait_until};

/// Rule: the telnet session of the README: a `PROP` line is not answered, and is delivered.
#[test]
fn a_telnet_session() {
    let port = Port::start();
    let mut client = port.client();
    client.send(b"PROP 1 hello  world\r\n");
    port.node.wait_for(1);
    client.send(b"AWAIT 1\r\nLOG 1\r\nLEADER\r\nQUIT\r\n");
    let expected = ":1\r\n*1\r\n*3\r\n:1\r\n$1\r\n1\r\n$12\r\nhello  world\r\n\
                    *2\r\n:2\r\n$14\r\n127.0.0.1:9002\r\n+OK\r\n";
    assert_eq!(client.rest(), expected);
}

/// Rule: pipelined requests of many clients are all answered, each client's in order.
#[test]
fn pipelined_requests_of_several_clients() {
    const EACH: u64 = 20_000;
    let port = Port::start();
    std::thread::scope(|scope| {
        for first in [1_000_000, 2_000_000, 3_000_000] {
            let mut client = port.client();
            let mut writer = client.stream.get_ref().try_clone().unwrap();
            scope.spawn(move || {
                for reqid in first..first + EACH {
                    let reqid = reqid.to_string();
                    writer.write_all(&array(&[b"PROP", reqid.as_bytes(), reqid.as_bytes()])).unwrap();
                }
            });
            scope.spawn(move || {
                let mut last = 0;
                for _ in 0..EACH {
                    let index: u64 = client.line().trim_start_matches(':').parse().unwrap();
                    assert!(index > last, "{index} after {last}");
                    last = index;
                }
            });
        }
    });
}

#[test]
fn a_line_without_end() {
    let port = Port::start();
    let mut client = port.client();
    let mut writer = client.stream.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || (0..64).all(|_| writer.write_all(&[b'x'; 1 << 20]).is_ok()));
    assert!(client.line().starts_with("-TOOLARGE a value is at most 1048576 bytes"));
    client.rest();
    assert!(!sender.join().unwrap(), "the port stopped reading before the end");
    port.serves();
}

#[test]
fn a_request_that_never_becomes_complete() {
    let port = Port::with(|options| options.limits.request_timeout_ms = 50);
    let mut client = port.client();
    client.send(b"PI");
    assert!(client.rest().starts_with("-ERR the request was not complete after"));
    port.serves();
}

#[test]
fn silent_connections() {
    let port = Port::with(|options| options.connections = 400);
    let mut silent: Vec<Client> = (0..399).map(|_| port.client()).collect();
    port.serves();
    // The place of the honest client is free again once the port has seen its end.
    let last = loop {
        let mut client = port.client();
        let _ = client.stream.get_mut().write_all(b"PING\r\n");
        match client.line().as_str() {
            "+PONG" => break client,
            other => assert_eq!(other, "-ERR max number of clients reached"),
        }
    };
    assert_eq!(port.client().rest(), "-ERR max number of clients reached\r\n");
    for client in &mut silent {
        client.send(b"PING\r\n");
        assert_eq!(client.line(), "+PONG");
    }
    drop((silent, last));
}

/// Rule: a connection that says nothing ends after the idle limit, without a word.
#[test]
fn an_idle_connection() {
    let port = Port::with(|options| options.limits.idle_timeout_ms = 50);
    assert_eq!(port.client().rest(), "");
    port.serves();
}

#[test]
fn values_of_any_bytes() {
    let port = Port::start();
    let mut client = port.client();
    let values: [&[u8]; 4] = [b"\0\xff\xfe\0", b"\r\n+OK\r\n", b"\x1b[2J\x1b]0;x\x07", b"\xff\xfa\xff\xf0"];
    for (reqid, value) in (1u64..).zip(values) {
        client.send(&array(&[b"PROP", reqid.to_string().as_bytes(), value]));
        assert_eq!(client.line(), format!(":{reqid}"));
        client.send(&array(&[b"LOG", reqid.to_string().as_bytes(), b"1"]));
        let expected = format!("*1\r\n*3\r\n:{reqid}\r\n$1\r\n{reqid}\r\n${}\r\n", value.len());
        assert_eq!(client.bytes(expected.len()), expected.as_bytes());
        assert_eq!(client.bytes(value.len() + 2), [value, b"\r\n"].concat());
    }
    client.send(b"\xc3\x28\0 x\r\n");
    assert_eq!(client.line(), r"-ERR unknown command '\xc3(\x00'; HELP lists the commands");
    port.serves();
}

#[test]
fn telnet_sequences() {
    let port = Port::start();
    let mut client = port.client();
    client.send(b"\xff\xfb\x1f\xff\xfa\x1f\x00\x50\n\x18\xff\xf0\xff\xf1ECHO a\xff\xffb\r\n");
    assert_eq!(client.line(), "$3");
    assert_eq!(client.bytes(5), b"a\xffb\r\n");
    // A byte 255 that comes alone is an error, and never a shorter value, nor the end of the next line.
    let alone = "a byte 255 in a line is the start of a telnet command unless it comes twice; nothing was done \
                 with this line: send the byte twice, or the request as an array";
    client.send(b"PROP 7 caf\xff\nPROP 8 a\xff\xf1b\r\nECHO \xff\xfa\r\nPING\r\n");
    assert_eq!(client.line(), format!("-ERR reqid=7 {alone}"));
    assert_eq!(client.line(), format!("-ERR reqid=8 {alone}"));
    assert_eq!(client.line(), format!("-ERR {alone}"));
    assert_eq!(client.line(), "+PONG");
    client.send(b"AWAIT 7 0\r\nAWAIT 8 0\r\nCLIENT REPLY OFF\r\nPROP 9 \xff\nCLIENT REPLY ON\r\n");
    assert_eq!([client.line(), client.line(), client.line()], ["$-1", "$-1", "+OK"]);
    let endless = [&b"\xff\xfa"[..], &vec![b'\n'; 2 << 20]].concat();
    client.send(&endless);
    assert!(client.rest().starts_with("-TOOLARGE "));
    port.serves();
}

#[test]
fn empty_lines_and_bare_ends() {
    let port = Port::start();
    let mut client = port.client();
    client.send(&b"\r\n".repeat(500_000));
    client.send(&b"\n".repeat(500_000));
    client.send(b"ECHO a\rb\r\n");
    assert_eq!(client.bytes(21), b"-ERR wrong number of ");
    client.line();
    client.send(&[b'\r'; 100]);
    client.send(b"\nPING\n");
    assert_eq!(client.line(), "+PONG");
    port.serves();
}

#[test]
fn answers_that_are_never_read() {
    let port = Port::with(|options| options.limits.behind_timeout_ms = 50);
    let mut client = port.client();
    let requests = array(&[b"ECHO", &[b'x'; 1000]]).repeat(100);
    let sent = (0..10_000).try_for_each(|_| client.stream.get_mut().write_all(&requests));
    let kind = sent.expect_err("1 GB was taken from a client that does not read").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    port.serves();
}

/// Rule: a client with too much under way waits; the others do not.
#[test]
fn outstanding_requests_hold_up_their_client_only() {
    const COUNT: usize = 10_000;
    let port = Port::start();
    let mut client = port.client();
    for place in 0..COUNT as u64 {
        client.send(&array(&[b"PROP", (HELD + place).to_string().as_bytes(), b"x"]));
    }
    port.node.wait_for_held(8192);
    port.serves();
    port.node.release();
    port.node.wait_for_held(COUNT - 8192);
    port.node.release();
    for _ in 0..COUNT {
        assert!(client.line().starts_with(':'));
    }
}

#[test]
fn a_half_close_inside_a_command() {
    let port = Port::start();
    let mut client = port.client();
    client.send(&array(&[b"PROP", b"7", b"x"]));
    client.send(b"PROP 8 y\r\nPROP 9 z");
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), ":1\r\n");
    port.node.wait_for(8);
    port.serves();
    let mut client = port.client();
    client.send(b"AWAIT 9 0\r\n");
    assert_eq!(client.line(), "$-1");
}

#[test]
fn a_reset_inside_an_answer() {
    let port = Port::start();
    for _ in 0..20 {
        let mut client = port.client();
        client.send(&b"HELP\r\n".repeat(1000));
        client.send(&array(&[b"PROP", HELD.to_string().as_bytes(), b"x"]));
        client.bytes(10);
        // Closing over unread bytes resets the connection.
    }
    port.serves();
}

#[test]
fn integers() {
    let port = Port::start();
    let mut client = port.client();
    for reqid in ["-1", "0", "18446744073709551616", "1e9", "007", "+7"] {
        client.send(format!("PROP {reqid} x\r\n").as_bytes());
        assert!(client.line().starts_with(&format!("-ERR reqid '{reqid}' is not a number from 1 to")));
    }
    client.send(&array(&[b"PROP", b"9223372036854775807", b"x"]));
    assert_eq!(client.line(), ":1");
    for line in ["LOG -1\r\n", "LOG 1 0\r\n", "LOG 18446744073709551616\r\n", "AWAIT 1 -1\r\n"] {
        client.send(line.as_bytes());
        assert!(client.line().starts_with("-ERR "));
    }
}

#[test]
fn huge_scans() {
    let port = Port::start();
    let mut client = port.client();
    for reqid in 1..=1500 {
        client.send(format!("PROP {reqid} x\r\n").as_bytes());
    }
    port.node.wait_for(1500);
    client.send(b"LOG 1 18446744073709551615\r\nLOG 18446744073709551615\r\nQUIT\r\n");
    assert_eq!(client.line(), "*1000");
    assert!(client.rest().ends_with("*0\r\n+OK\r\n"));
}

#[test]
fn other_protocols() {
    let port = Port::start();
    let deep = b"*1\r\n".repeat(10_000);
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "-ERR this port speaks RESP (the Redis protocol), not HTTP"),
        (b"POST / HTTP/1.1\r\n\r\n", "-ERR this port speaks RESP (the Redis protocol), not HTTP"),
        (b"\x16\x03\x01\x02\0\x01", "-ERR this port speaks RESP (the Redis protocol) without TLS"),
        (b"*2147483647\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (&deep, "-ERR Protocol error: expected '$', got '*'"),
    ];
    for (bytes, expected) in cases {
        let mut client = port.client();
        client.send(bytes);
        let rest = client.rest();
        assert!(rest.starts_with(expected) && rest.lines().count() == 1, "{rest}");
        port.serves();
    }
}

#[test]
fn the_same_reqid() {
    let port = Port::start();
    let mut client = port.client();
    client.send(b"CLIENT REPLY ON\r\nPROP 7 a\r\nPROP 7 a\r\nPROP 7 b\r\nQUIT\r\n");
    let expected = "+OK\r\n:1\r\n:1\r\n\
                    -ERR reqid=7 stands at index 1 with a different value; use a new reqid\r\n+OK\r\n";
    assert_eq!(client.rest(), expected);
}

#[test]
fn the_longest_value() {
    let port = Port::start();
    let mut client = port.client();
    let longest = vec![b'v'; 1 << 20];
    let longer = vec![b'v'; (1 << 20) + 1];
    client.send(&array(&[b"PROP", b"1", &longest]));
    assert_eq!(client.line(), ":1");
    client.send(&array(&[b"PROP", b"2", &longer]));
    let too_large =
        |reqid| format!("-TOOLARGE reqid={reqid} the value has 1048577 bytes; at most 1048576 are allowed");
    assert_eq!(client.line(), too_large(2));
    client.send(&[b"PROP 18446744073709551615 ", &longer[..], b"\r\n"].concat());
    assert_eq!(client.line(), too_large(u64::MAX));
    client.send(&[b"PROP 3 ", &longest[..], b"\r\n"].concat());
    port.node.wait_for(3);
    // The port closes over its bytes, so not all of them may find a reader.
    let _ = client.stream.get_mut().write_all(&array(&[b"PROP", b"4", &vec![b'v'; 2 << 20]]));
    assert!(client.line().starts_with("-TOOLARGE reqid=4 a value is at most 1048576 bytes"));
    port.serves();
}

/// Rule: while the buffers of all clients together hold too much, a client that holds much is closed and one
/// that holds little is served.
#[test]
fn memory_for_clients_is_bounded() {
    let port = Port::with(|options| options.memory_bytes = 1 << 20);
    let half = [b"*3\r\n$4\r\nPROP\r\n$1\r\n1\r\n$1048576\r\n", &[b'x'; 600_000][..]].concat();
    let mut first = port.client();
    first.send(&half);
    // Two of them do not fit, so one ends; which one depends on whose bytes came last.
    let mut second = port.client();
    let _ = second.stream.get_mut().write_all(&half);
    std::thread::scope(|scope| {
        let (ended, end) = std::sync::mpsc::channel();
        for client in [&mut first, &mut second] {
            let ended = ended.clone();
            scope.spawn(move || {
                assert_eq!(client.rest(), "");
                let _ = ended.send(());
            });
        }
        end.recv().unwrap();
        port.serves();
        port.stop.stop();
    });
}

/// Rule: no number of clients makes the port hold more than its memory: when it is used up, those are closed
/// that hold more than an equal share, however little that is.
#[test]
fn memory_for_many_small_clients_is_bounded() {
    const CLIENTS: usize = 60;
    const SENT: usize = 20_000;
    let port = Port::with(|options| {
        options.connections = CLIENTS + 4;
        options.memory_bytes = 1 << 20;
        // Nobody is closed for another reason.
        options.limits.request_timeout_ms = 3_600_000;
    });
    let half = [b"*3\r\n$4\r\nPROP\r\n$1\r\n1\r\n$1048576\r\n", &[b'x'; SENT][..]].concat();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| port.client()).collect();
    for client in &mut clients {
        // It may be closed before it has sent all of it.
        let _ = client.stream.get_mut().write_all(&half);
        client.stream.get_ref().set_nonblocking(true).unwrap();
    }
    let is_open = |client: &mut Client| {
        let read = std::io::Read::read(&mut client.stream, &mut [0; 1]);
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    let most = (1 << 20) / SENT;
    wait_until("most of them to be closed", || {
        clients.iter_mut().filter_map(|it| is_open(it).then_some(())).count() <= most
    });
    port.serves();
}

/// Rule: a thousand clients that connect at the same time are all served, though none is accepted before the
/// last one has come: they wait in the port's backlog.
#[test]
fn a_thousand_clients_connect_at_the_same_time() {
    const CLIENTS: usize = 1000;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let most = most.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(CLIENTS);
    if most < CLIENTS {
        eprintln!("skipped: this system keeps at most {most} connections that are not accepted yet");
        return;
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let mut clients = vec![];
    // Connects before the port runs.
    let port = Port::prepared(
        |_| {},
        |address| {
            clients.extend((0..CLIENTS).map(|_| Client::connect(address).unwrap()));
        },
    );
    for client in &mut clients {
        client.send(b"PING\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.line(), "+PONG");
    }
    port.serves();
}

/// Rule: an orderly end: no new proposals, what is under way is answered, then the connections end.
#[test]
fn an_orderly_end() {
    let mut port = Port::with(|options| options.end_grace_ms = 60_000);
    let (mut waits, mut proposes) = (port.client(), port.client());
    waits.send(&array(&[b"PROP", HELD.to_string().as_bytes(), b"x"]));
    port.node.wait_for_held(1);
    proposes.send(b"PING\r\n");
    assert_eq!(proposes.line(), "+PONG");
    port.stop.stop();
    // Until the port has seen the stop, proposals are delivered.
    let refusal = loop {
        proposes.send(&array(&[b"PROP", b"5", b"x"]));
        match proposes.line() {
            line if line.starts_with(':') => {}
            line => break line,
        }
    };
    assert_eq!(
        refusal,
        "-TRYAGAIN reqid=5 not proposed: this node takes no proposals now; \
         send it to node 2 at 127.0.0.1:9002, which leads"
    );
    port.node.release();
    assert!(waits.rest().starts_with(':'));
    assert_eq!(proposes.rest(), "");
    port.join();
    assert!(Client::connect(port.address).is_err(), "nobody listens any more");
}

/// Rule: what is not answered when a node's patience ends is answered `-TIMEOUT`: its outcome is not known.
#[test]
fn an_end_that_cannot_wait() {
    let mut port = Port::with(|options| options.end_grace_ms = 1);
    let mut client = port.client();
    client.send(&array(&[b"PROP", HELD.to_string().as_bytes(), b"x"]));
    port.node.wait_for_held(1);
    port.stop.stop();
    assert!(client.rest().starts_with(&format!("-TIMEOUT reqid={HELD} not known to be delivered")));
    port.join();
}

/// Rule: out of file handles, the port goes on with the clients it has, and takes others when there are
/// handles again. In a process of its own, since the limit is the process's.
#[test]
fn out_of_file_handles() {
    let exe = std::env::current_exe().unwrap();
    let inner = "ulimit -n 64; exec \"$0\" --exact --ignored out_of_file_handles_inner";
    let output = Command::new("sh").args(["-c", inner]).arg(exe).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "out_of_file_handles runs it in a process with few handles"]
fn out_of_file_handles_inner() {
    let port = Port::start();
    let mut clients = vec![];
    // Clients and their ends at the port share the handles: many of these are connected, not accepted.
    while let Ok(client) = Client::connect(port.address) {
        clients.push(client);
        assert!(clients.len() < 1000, "the limit is in force");
    }
    // Each leaves when it was served, which makes room for the next.
    for mut client in clients.into_iter().skip(10) {
        client.send(b"PING\r\n");
        assert_eq!(client.line(), "+PONG");
    }
}

/// Runs one of Redis's tools, if it is installed, and returns what it printed, errors included.
fn redis_tool(tool: &str, port: &Port, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new(tool);
    command.args(["-h", "127.0.0.1", "-p", &port.address.port().to_string()]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: {tool} is not installed here ({error})");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.to_ascii_lowercase().contains("warning"), "{text}");
    Some(text)
}

/// Rule: redis-cli connects without a warning, and speaks with the port.
#[test]
fn redis_cli() {
    let port = Port::start();
    let input =
        "PING\nPROP 7 \"a b\"\nAWAIT 7\nLOG 1\nLEADER\nHELLO 2\nCOMMAND DOCS\nHELP\nSTATUS\nPROP 7 c\n";
    let Some(text) = redis_tool("redis-cli", &port, &[], input) else { return };
    for expected in ["PONG\n1\n1\n1\n7\na b\n2\n127.0.0.1:9002\n", "role:follower", "stands at index 1"] {
        assert!(text.contains(expected), "{text}");
    }
}

/// Rule: redis-benchmark runs without a warning or an error.
#[test]
fn redis_benchmark() {
    let port = Port::start();
    let run = ["-n", "2000", "-c", "20", "-P", "10", "-q", "-r", "100000"];
    let prop = [&run[..], &["PROP", "7__rand_int__", "value"]].concat();
    let Some(text) = redis_tool("redis-benchmark", &port, &prop, "") else { return };
    assert!(text.contains("requests per second") && !text.to_ascii_lowercase().contains("error"), "{text}");
    let ping = [&run[..], &["-t", "ping"]].concat();
    redis_tool("redis-benchmark", &port, &ping, "");
}
