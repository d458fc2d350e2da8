//! The benchmark's load against servers made here, whose behaviour is known.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use spaxos::cli::bench::load::{self, Spec};
use spaxos::cli::bench::record::{Outcome, Progress, Window};

/// What a server answers to the proposal that it reads as its `number`th (from 0); `None` closes.
type Behaviour = fn(number: u64) -> Option<&'static str>;

/// A reqid with its value.
type Proposal = (u64, Vec<u8>);

/// Every answer is counted once, every request is well formed, with a reqid of its own and a value of the
/// wanted size; never more than C are outstanding.
#[test]
fn counts_every_answer() {
    for (clients, connections) in [(1, 1), (64, 1), (67, 16)] {
        let (address, seen) = serve(|_| Some(":1\r\n"));
        let progress = Progress::default();
        let outcome = load_until(&spec(&[address], clients, connections), &progress, || {
            at_least(&progress.answered, 2_000)
        });
        let answered = progress.answered.into_inner();
        assert_eq!(outcome.latencies_us.len(), answered);
        assert!(outcome.errors.is_empty() && outcome.first_error.is_none(), "{outcome:?}");
        let seen: Vec<Proposal> = seen.try_iter().collect();
        assert!(seen.iter().all(|(reqid, value)| *reqid > 0 && value.len() == 128));
        let distinct: BTreeSet<u64> = seen.iter().map(|(reqid, _)| *reqid).collect();
        assert_eq!(distinct.len(), seen.len());
        let sent = seen.len() as u64;
        assert!(sent <= answered + clients as u64, "{sent} sent, {answered} answered, C={clients}");
    }
}

/// Requests larger than a socket's buffer: the loop neither stalls nor miscounts.
#[test]
fn survives_partial_writes() {
    let (address, seen) = serve(|_| Some(":123456789\r\n"));
    let progress = Progress::default();
    let spec = Spec { value_bytes: 1 << 20, ..spec(&[address], 16, 1) };
    let outcome = load_until(&spec, &progress, || at_least(&progress.answered, 64));
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    assert!(seen.try_iter().all(|(_, value)| value.len() == 1 << 20));
}

/// With one server an error answer is counted by its first word and ends its request; the others go on.
#[test]
fn counts_error_answers() {
    let (address, seen) =
        serve(|number| Some(if number % 4 == 3 { "-BUSY try again later\r\n" } else { ":1\r\n" }));
    let progress = Progress::default();
    let outcome = load_until(&spec(&[address], 8, 1), &progress, || at_least(&progress.errors, 100));
    let (answered, errors) = (progress.answered.into_inner(), progress.errors.into_inner());
    assert_eq!(outcome.errors["BUSY"], errors, "{outcome:?}");
    assert_eq!(outcome.first_error.as_deref(), Some("BUSY try again later"));
    assert_eq!(errors, (answered + errors) / 4);
    let reqids: Vec<u64> = seen.try_iter().map(|(reqid, _)| reqid).collect();
    assert_eq!(reqids.iter().collect::<BTreeSet<_>>().len(), reqids.len(), "given up, not sent again");
}

/// A server that closes, one that answers errors, one that is silent, one that talks nonsense: each time the
/// same requests go to the next server, with the same reqids and values, and none is lost.
#[test]
fn moves_on_with_the_same_requests() {
    let bad: [(&str, Behaviour); 4] = [
        ("closed", |number| (number < 3).then_some(":1\r\n")),
        ("TIMEOUT", |number| Some(if number < 3 { ":1\r\n" } else { "-TIMEOUT reqid=1 no majority\r\n" })),
        ("silence", |number| Some(if number < 3 { ":1\r\n" } else { "" })),
        ("nonsense", |number| Some(if number < 3 { ":1\r\n" } else { "HTTP/1.1 200 OK\r\n" })),
    ];
    for (kind, behaviour) in bad {
        let (bad, seen_by_bad) = serve(behaviour);
        let (good, seen_by_good) = serve(|_| Some(":1\r\n"));
        let progress = Progress::default();
        let spec = Spec { silence_ms: 200, ..spec(&[bad, good], 4, 1) };
        let outcome = load_until(&spec, &progress, || at_least(&progress.answered, 1_000));
        assert!(outcome.errors.contains_key(kind), "{kind}: {outcome:?}");
        let unanswered = seen_by_bad.try_iter().nth(3).unwrap();
        assert!(seen_by_good.try_iter().any(|again| again == unanswered), "{kind}: a request was lost");
    }
}

/// More answers than requests are an error of the server, not of ours.
#[test]
fn refuses_answers_to_nothing() {
    let (address, _seen) = serve(|_| Some(":1\r\n:1\r\n:1\r\n"));
    let progress = Progress::default();
    let outcome = load_until(&spec(&[address], 1, 1), &progress, || at_least(&progress.errors, 2));
    assert!(outcome.errors.contains_key("nonsense"), "{outcome:?}");
}

/// Nobody listens: the errors are counted, the load ends when it is told.
#[test]
fn counts_refused_connections() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let progress = Progress::default();
    let outcome = load_until(&spec(&[closed], 4, 2), &progress, || at_least(&progress.errors, 4));
    assert!(outcome.errors.contains_key("connection refused"), "{outcome:?}");
    assert!(outcome.first_error.unwrap().starts_with(&closed.to_string()));
    assert!(outcome.latencies_us.is_empty());
}

/// Loads until it is `enough`, at most a minute.
fn load_until(spec: &Spec, progress: &Progress, enough: impl Fn() -> bool) -> Outcome {
    let start = Instant::now();
    let window = Window { start, stop: start + Duration::from_secs(60) };
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run(spec, window, progress));
        while !enough() && !load.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        progress.stop.store(true, Ordering::Relaxed);
        let outcome = load.join().unwrap().unwrap();
        assert!(enough(), "the window closed: {outcome:?}");
        outcome
    })
}

fn spec(servers: &[SocketAddr], clients: usize, connections: usize) -> Spec {
    Spec { servers: servers.to_vec(), clients, connections, value_bytes: 128, silence_ms: 10_000 }
}

fn at_least(count: &AtomicU64, wanted: u64) -> bool {
    count.load(Ordering::Relaxed) >= wanted
}

/// Reads `PROP reqid value` in RESP, reports reqid and value, answers in order.
fn serve(behaviour: Behaviour) -> (SocketAddr, Receiver<Proposal>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            thread::spawn(move || serve_connection(stream.unwrap(), behaviour, &sender));
        }
    });
    (address, receiver)
}

fn serve_connection(stream: TcpStream, behaviour: Behaviour, seen: &Sender<Proposal>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    for number in 0.. {
        let Some(proposal) = read_proposal(&mut reader) else { return };
        if seen.send(proposal).is_err() {
            return;
        }
        match behaviour(number) {
            Some(answer) if writer.write_all(answer.as_bytes()).is_ok() => {}
            Some(_) => return,
            None => return close_in_order(&writer, &mut reader),
        }
    }
}

/// An end of stream, never a reset: that is what a socket sends which is closed with unread bytes in it.
fn close_in_order(stream: &TcpStream, reader: &mut impl Read) {
    if stream.shutdown(Shutdown::Write).is_ok() {
        let _ = std::io::copy(reader, &mut std::io::sink());
    }
}

/// `None` at the end of the stream.
fn read_proposal(reader: &mut impl BufRead) -> Option<Proposal> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
    assert_eq!(line, "*3\r\n");
    assert_eq!(read_bulk(reader)?, b"PROP");
    let reqid = String::from_utf8(read_bulk(reader)?).unwrap();
    Some((reqid.parse().unwrap(), read_bulk(reader)?))
}

fn read_bulk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
    let length: usize = line.strip_prefix('$').unwrap().trim_end().parse().unwrap();
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).ok()?;
    assert_eq!(bytes.split_off(length), b"\r\n");
    Some(bytes)
}
