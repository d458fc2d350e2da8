//! The load: a closed loop that keeps C proposals outstanding over K connections, in one thread with one
//! poll.
//!
//! An answer makes room for the next request. A connection that fails, or whose server is silent for too
//! long, dials the next of its servers and sends what is outstanding again with the same reqids: such a
//! proposal is chosen at most once.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::Connection;
use super::record::{Outcome, Progress, Record, Trouble, Window};
use super::requests::Requests;

/// How often connections are looked at for silence and for dialling again.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The most bytes that one `read` takes: some thousand answers.
const READ_BYTES: usize = 64 * 1024;

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Connections are spread over them round-robin. With several of them an error answer also makes a
    /// connection send its requests again elsewhere; with one, an error ends the request.
    pub servers: Vec<SocketAddr>,
    /// C: requests outstanding at any time, at least `connections`.
    pub clients: usize,
    /// K, at least 1.
    pub connections: usize,
    /// Length of each value.
    pub value_bytes: usize,
    /// A server that owes an answer and sends nothing for this long is given up.
    pub silence_ms: u64,
}

/// Loads until the window closes. Fails only if the system provides no poll or no random numbers.
pub fn run(spec: &Spec, window: Window, progress: &Progress) -> io::Result<Outcome> {
    assert!(spec.connections >= 1 && spec.clients >= spec.connections, "C >= K >= 1 in {spec:?}");
    assert!(!spec.servers.is_empty(), "a server in {spec:?}");
    let mut requests = Requests::new(spec.value_bytes)?;
    let connections =
        (0..spec.connections).map(|position| new_connection(spec, position, &mut requests)).collect();
    let record = Record::new(window, progress);
    Load { spec, poll: Poll::new()?, connections, requests, record }.run()
}

fn new_connection(spec: &Spec, position: usize, requests: &mut Requests) -> Connection {
    let (clients, connections) = (spec.clients, spec.connections);
    let depth = clients / connections + usize::from(position < clients % connections);
    let outstanding = (0..depth).map(|_| requests.make()).collect();
    Connection::new(Token(position), position % spec.servers.len(), outstanding)
}

struct Load<'a> {
    spec: &'a Spec,
    poll: Poll,
    connections: Vec<Connection>,
    requests: Requests,
    record: Record<'a>,
}

impl Load<'_> {
    fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let mut next_check = Instant::now();
        loop {
            let now = Instant::now();
            if self.record.is_over(now) {
                return Ok(self.record.finish());
            }
            if now >= next_check {
                self.check_all(now);
                next_check = now + CHECK_INTERVAL;
            }
            match self.poll.poll(&mut events, Some(CHECK_INTERVAL)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let Token(position) = event.token();
                let fail_over = self.spec.servers.len() > 1;
                let connection = &mut self.connections[position];
                let result = connection.handle_event(
                    event,
                    &mut buffer,
                    fail_over,
                    &mut self.requests,
                    &mut self.record,
                );
                self.handle_result(position, result);
            }
        }
    }

    /// Dials for connections that are due, and gives up those whose server is silent.
    fn check_all(&mut self, now: Instant) {
        let silence = Duration::from_millis(self.spec.silence_ms);
        for position in 0..self.connections.len() {
            let connection = &mut self.connections[position];
            if connection.is_due(now) {
                let server = self.spec.servers[connection.server()];
                let result = connection.dial(server, self.poll.registry(), &self.requests, now);
                self.handle_result(position, result);
            } else if connection.is_silent(now, silence) {
                self.handle_result(position, Err(Trouble::Silence));
            }
        }
    }

    fn handle_result(&mut self, position: usize, result: Result<(), Trouble>) {
        let Err(trouble) = result else { return };
        let connection = &mut self.connections[position];
        self.record.add_error(&trouble, self.spec.servers[connection.server()]);
        connection.move_on(self.spec.servers.len(), Instant::now());
    }
}
