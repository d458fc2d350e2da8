//! One connection as a value: bytes in, reply bytes out, proposals and waiters in between.
//!
//! **Which requests are answered.** A connection starts the way the seed specifies: an inline `PROP` is owed
//! no reply and holds up none; if it fails, one error line comes between complete replies. `CLIENT REPLY ON`
//! ends that for good, even for `PROP` lines sent before it, whose failures are no longer reported: every
//! command is answered in order. `OFF` and `SKIP` work as in Redis. Requests in array form are always
//! answered in order.
//!
//! **Bounds.** A session takes no further request (and its owner reads no further bytes) while
//! [`OUTSTANDING`] requests wait, [`SLOTS`] are taken or [`OUTPUT_BYTES`] of replies are not yet sent, so it
//! owes at most that and one reply more. Requests that take too long to arrive, replies that are not taken
//! and too long a silence end it, see [`Limits`].
//!
//! Left out: sockets and clocks (`node::clients`), and what happens to a proposal ([`Front`]).

use std::time::Duration;

use bytes::Bytes;

use super::buffer::Buffer;
use super::command::{Client, Command, CommandError, Quoted, Read};
use super::execute::{self, execute};
use super::front::{ClientProposal, Front, Outcome};
use super::pending::{Asked, Pending, Waiting};
use super::splitter::{Form, Splitter, Step};
use super::{Limits, reply};
use crate::consensus::types::{Kind, RequestId};
use crate::pipeline::waiters::Ticket;

mod complaint;
mod texts;

pub use complaint::Complaint;

/// The most requests of a connection that may wait; beyond that nothing more is read from it.
pub const OUTSTANDING: usize = 8192;

/// The most places that requests of a connection may take, including answered ones behind one that waits;
/// beyond that nothing more is read from it.
pub const SLOTS: usize = 65_536;

/// Bytes of replies that may wait for the client to take them before nothing more is read from it.
pub const OUTPUT_BYTES: usize = 256 * 1024;

/// How much of its replies a client must take within [`Limits::behind_timeout_ms`] if it does not take all.
pub const BEHIND_BYTES: usize = 16 * 1024;

/// The most requests of all connections that may wait; beyond that `PROP` and `AWAIT` are answered `-BUSY`.
pub const OUTSTANDING_OF_ALL: usize = 262_144;

/// One connection.
pub struct Session {
    connection: u64,
    limits: Limits,
    splitter: Splitter,
    /// Bytes of requests that are not complete, or for which there was no room.
    input: Buffer,
    /// Replies that are not yet written.
    output: Buffer,
    pending: Pending,
    replies: Replies,
    /// `CLIENT REPLY SKIP`: the next command is not answered.
    skip_next: bool,
    name: Bytes,
    /// When the first byte of an incomplete request came.
    incomplete_since_ms: Option<u64>,
    /// When the last complete request came, or the last one was answered.
    last_active_ms: u64,
    /// When output began to wait, or when [`BEHIND_BYTES`] of it were last taken, and how many bytes were
    /// taken since.
    behind: Option<(u64, usize)>,
    end: End,
    complaint: Option<Complaint>,
}

/// Which commands are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    /// All but inline `PROP`s.
    Seed,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Requests are taken.
    Open,
    /// No further requests are taken; replies that are owed are still sent, and requests that wait are given
    /// up at this time.
    Closing { give_up_ms: u64 },
    /// Nothing more is sent.
    Dropped,
}

/// One turn of the port: what sessions need from outside, and what they want done.
pub struct Turn<'a> {
    /// A monotonic clock.
    pub now_ms: u64,
    /// The time since 1970, for `TIME`.
    pub clock: Duration,
    /// The node.
    pub front: &'a dyn Front,
    /// Proposed at the end of the turn.
    pub proposals: Vec<ClientProposal>,
    /// Requests of all sessions that wait.
    pub outstanding: usize,
    /// The node is ending: proposals are answered `-TRYAGAIN`.
    pub ending: bool,
}

impl Session {
    /// Returns the session of a new connection.
    pub fn new(connection: u64, limits: Limits, now_ms: u64) -> Session {
        Session {
            connection,
            limits,
            splitter: Splitter::new(limits.value_bytes),
            input: Buffer::default(),
            output: Buffer::default(),
            pending: Pending::default(),
            replies: Replies::Seed,
            skip_next: false,
            name: Bytes::new(),
            incomplete_since_ms: None,
            last_active_ms: now_ms,
            behind: None,
            end: End::Open,
            complaint: None,
        }
    }

    /// Takes bytes from the client.
    pub fn handle_bytes(&mut self, bytes: &[u8], turn: &mut Turn) {
        if self.end != End::Open {
            return;
        }
        if self.input.is_empty() {
            let taken = self.take_requests(bytes, turn);
            self.input.end().extend_from_slice(bytes.get(taken..).unwrap_or_default());
            self.note_input(taken > 0, turn.now_ms);
        } else {
            self.input.end().extend_from_slice(bytes);
            self.resume(turn);
        }
    }

    /// Takes requests that were left for lack of room. Must be called when there may be room again.
    pub fn resume(&mut self, turn: &mut Turn) {
        if self.input.is_empty() || !self.wants_input() {
            return;
        }
        let input = std::mem::take(&mut self.input);
        let taken = self.take_requests(input.as_slice(), turn);
        self.input = input;
        self.input.consume(taken);
        self.note_input(taken > 0, turn.now_ms);
    }

    /// The client will send nothing more. An incomplete request is dropped and replies that are owed are
    /// still sent, but an `AWAIT` now waits no longer than a `PROP`: the client may well be gone.
    pub fn handle_end_of_input(&mut self, now_ms: u64) {
        self.close(now_ms);
        self.input.clear();
    }

    /// Takes the outcome of a request. A request whose time ran out in the meantime is no longer known.
    pub fn handle_outcome(&mut self, sequence: u64, outcome: &Outcome, turn: &mut Turn) {
        let Some(waiting) = self.pending.find(sequence) else { return };
        let reqid = waiting.reqid;
        let error = match outcome {
            Outcome::Delivered(index) => {
                return self.finish(sequence, turn, |out| reply::integer(out, *index));
            }
            Outcome::OtherValue(index) => texts::other_value(reqid, *index),
            Outcome::Busy(why) => texts::busy(reqid, why),
            Outcome::TryAgain(leader) => texts::try_again(reqid, leader.as_ref()),
        };
        self.fail(sequence, waiting, &error, turn);
    }

    /// Lets time pass: requests whose time is up are answered, limits are enforced.
    pub fn handle_time(&mut self, turn: &mut Turn) {
        while let Some((sequence, waiting)) = self.pending.expired(turn.now_ms) {
            self.give_up(sequence, waiting, "in time", turn);
        }
        if is_due(self.incomplete_deadline_ms(), turn.now_ms) {
            let seconds = self.limits.request_timeout_ms / 1000;
            self.answer(|out| reply::error(out, &texts::incomplete(seconds)));
            self.complain(Complaint::Incomplete(seconds));
            self.close(turn.now_ms);
        }
        if is_due(self.idle_deadline_ms(), turn.now_ms) {
            self.close(turn.now_ms);
        }
        if is_due(self.give_up_deadline_ms(), turn.now_ms) {
            self.give_up_all("before the connection ended", turn);
        }
        if is_due(self.behind_deadline_ms(), turn.now_ms) {
            self.complain(Complaint::Behind(self.output.len()));
            self.end = End::Dropped;
        }
    }

    /// The node ends and will not wait any longer: requests under way are answered `-TIMEOUT`, and the
    /// session closes.
    pub fn handle_shutdown(&mut self, turn: &mut Turn) {
        self.give_up_all("before this node ended", turn);
        self.close(turn.now_ms);
    }

    /// The connection is gone: nobody waits any more.
    pub fn handle_gone(&mut self, turn: &mut Turn) {
        for (sequence, waiting) in self.pending.iter() {
            turn.front.forget(RequestId::user(waiting.reqid), self.ticket(sequence));
        }
        turn.outstanding -= self.pending.waiting();
        self.pending = Pending::default();
        self.end = End::Dropped;
    }

    /// The bytes that must be written to the client.
    pub fn output(&self) -> &[u8] {
        self.output.as_slice()
    }

    /// This many bytes of the output were written (0: the client takes none now).
    pub fn handle_written(&mut self, count: usize, now_ms: u64) {
        self.output.consume(count);
        let taken = self.behind.map_or(0, |(_, taken)| taken) + count;
        self.behind = match self.behind {
            _ if self.output.is_empty() => None,
            Some((since_ms, _)) if taken < BEHIND_BYTES => Some((since_ms, taken)),
            _ => Some((now_ms, 0)),
        };
    }

    /// Whether it has room for more requests.
    pub fn wants_input(&self) -> bool {
        self.end == End::Open
            && self.pending.waiting() < OUTSTANDING
            && self.pending.slots() < SLOTS
            && self.output.len() + self.pending.ready_bytes() < OUTPUT_BYTES
    }

    /// Whether there are requests that were left for lack of room.
    pub fn has_unread_requests(&self) -> bool {
        self.end == End::Open && !self.input.is_empty() && self.incomplete_since_ms.is_none()
    }

    /// Whether the connection can be closed because everything that was owed is written.
    pub fn is_finished(&self) -> bool {
        let nothing_owed = self.pending.slots() == 0 && self.output.is_empty();
        self.end != End::Open && nothing_owed || self.is_dropped()
    }

    /// Whether the connection must be closed whatever it is owed.
    pub fn is_dropped(&self) -> bool {
        self.end == End::Dropped
    }

    /// Whether no request waits and no reply is left.
    pub fn is_quiet(&self) -> bool {
        self.pending.slots() == 0 && self.output.is_empty()
    }

    /// The latest time at which [`Session::handle_time`] must be called.
    pub fn deadline_ms(&self) -> Option<u64> {
        let limits = [
            self.incomplete_deadline_ms(),
            self.idle_deadline_ms(),
            self.behind_deadline_ms(),
            self.give_up_deadline_ms(),
        ];
        limits.into_iter().chain([self.pending.deadline_ms()]).flatten().min()
    }

    /// What the log should say about this client, once.
    pub fn take_complaint(&mut self) -> Option<Complaint> {
        self.complaint.take()
    }

    /// About how many bytes it holds in memory.
    pub fn held_bytes(&self) -> usize {
        self.input.held_bytes()
            + self.output.held_bytes()
            + self.pending.held_bytes()
            + self.splitter.held_bytes()
    }

    /// The memory for all sessions is used up: frees what it keeps for the next time. If it still holds more
    /// than its share, the connection must be closed.
    pub fn handle_memory_short(&mut self, share_bytes: usize) {
        self.input.release();
        self.output.release();
        self.pending.release(0);
        if self.held_bytes() > share_bytes {
            self.complain(Complaint::Memory(self.held_bytes()));
            self.end = End::Dropped;
        }
    }

    /// Takes requests from the start of `input` while there is room. Returns how many bytes they took.
    fn take_requests(&mut self, input: &[u8], turn: &mut Turn) -> usize {
        let mut taken = 0;
        self.incomplete_since_ms = self.incomplete_since_ms.filter(|_| self.wants_input());
        while self.wants_input() {
            let rest = input.get(taken..).unwrap_or_default();
            match self.splitter.next(rest) {
                Step::More => {
                    let same = self.incomplete_since_ms.filter(|_| taken == 0);
                    self.incomplete_since_ms = (!rest.is_empty()).then(|| same.unwrap_or(turn.now_ms));
                    return taken;
                }
                Step::Nothing(len) => taken += len,
                Step::Unbalanced(len) => {
                    taken += len;
                    self.answer(|out| reply::error(out, texts::UNBALANCED));
                }
                Step::LoneIac(len, arguments) => {
                    taken += len;
                    let command = Err(CommandError::LoneIac(texts::reqid_of_prop(&arguments)));
                    let is_prop = texts::is_prop(&arguments);
                    self.handle_command(command, Form::Line, is_prop, turn);
                }
                Step::Request { len, form, arguments } => {
                    taken += len;
                    let command = Command::parse(&arguments, self.limits.value_bytes);
                    let is_prop = texts::is_prop(&arguments);
                    self.handle_command(command, form, is_prop, turn);
                }
                Step::Refused(error, arguments) => {
                    let text = texts::refusal(error, &arguments);
                    self.complain(Complaint::Protocol(error, Quoted::new(rest)));
                    self.answer(|out| reply::error(out, &text));
                    self.close(turn.now_ms);
                }
            }
            self.incomplete_since_ms = None;
        }
        taken
    }

    fn note_input(&mut self, took_requests: bool, now_ms: u64) {
        if took_requests {
            self.last_active_ms = now_ms;
        }
        if self.end != End::Open {
            self.input.clear();
        }
        if self.input.is_empty() {
            self.splitter.release();
        }
    }

    fn handle_command(
        &mut self,
        command: Result<Command, CommandError>,
        form: Form,
        is_prop: bool,
        turn: &mut Turn,
    ) {
        let is_muted = std::mem::take(&mut self.skip_next) || self.replies == Replies::Off;
        // As in the seed: it is owed no reply, and a failure is reported immediately, not in order.
        let is_quiet = is_prop && form == Form::Line && self.replies == Replies::Seed;
        match command {
            Ok(Command::Prop { reqid, value }) => {
                let asked = match (is_muted, is_quiet) {
                    (true, _) => Asked::MutedProp,
                    (false, true) => Asked::QuietProp,
                    (false, false) => Asked::Prop,
                };
                self.handle_prop(reqid, value, asked, turn);
            }
            Ok(Command::Client(setting)) => self.handle_setting(setting, is_muted),
            Ok(Command::Quit) => {
                if !is_muted {
                    self.answer(|out| reply::simple(out, "OK"));
                }
                self.close(turn.now_ms);
            }
            Ok(Command::Hello(name)) => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                if !is_muted {
                    let connection = self.connection;
                    self.answer(|out| execute::hello(connection, out));
                }
            }
            _ if is_muted => {}
            Ok(Command::Await { reqid, timeout_ms }) => self.handle_await(reqid, timeout_ms, turn),
            Ok(Command::Read(read)) => self.handle_read(&read, turn),
            Err(error) if is_quiet => reply::error(self.output.end(), &error.to_string()),
            Err(error) => self.answer(|out| reply::error(out, &error.to_string())),
        }
    }

    fn handle_prop(&mut self, reqid: u64, value: Bytes, asked: Asked, turn: &mut Turn) {
        let timeout_ms = self.limits.propose_timeout_ms;
        let refused = self.refuse_now(reqid, turn);
        let waiting = Waiting { reqid, asked, deadline_ms: turn.now_ms.saturating_add(timeout_ms) };
        let sequence = self.pending.begin(waiting);
        turn.outstanding += 1;
        match refused {
            Some(error) => self.fail(sequence, waiting, &error, turn),
            None => {
                turn.proposals.push(ClientProposal {
                    request: RequestId::user(reqid),
                    kind: Kind::Value,
                    payload: value,
                    ticket: self.ticket(sequence),
                    timeout_ms,
                });
            }
        }
    }

    /// Why a proposal is refused before the node sees it.
    fn refuse_now(&self, reqid: u64, turn: &Turn) -> Option<String> {
        if turn.ending {
            let leader = turn.front.leader().filter(|(node, _)| *node != turn.front.node());
            return Some(texts::try_again(reqid, leader.as_ref()));
        }
        (turn.outstanding >= OUTSTANDING_OF_ALL).then(|| texts::busy_port(reqid))
    }

    fn handle_await(&mut self, reqid: u64, timeout_ms: Option<u64>, turn: &mut Turn) {
        let timeout_ms = timeout_ms.unwrap_or(self.limits.propose_timeout_ms);
        if timeout_ms == 0 {
            let index = turn.front.lookup(RequestId::user(reqid));
            return self.answer(|out| match index {
                Some(index) => reply::integer(out, index),
                None => reply::nil(out),
            });
        }
        if turn.outstanding >= OUTSTANDING_OF_ALL {
            return self.answer(|out| reply::error(out, &texts::busy_port(reqid)));
        }
        let sequence = self.pending.next_sequence(Asked::Await);
        match turn.front.wait(RequestId::user(reqid), self.ticket(sequence)) {
            Some(index) => self.answer(|out| reply::integer(out, index)),
            None => {
                let deadline_ms = turn.now_ms.saturating_add(timeout_ms);
                self.pending.begin(Waiting { reqid, asked: Asked::Await, deadline_ms });
                turn.outstanding += 1;
            }
        }
    }

    fn handle_read(&mut self, read: &Read, turn: &mut Turn) {
        let (limits, front, clock) = (self.limits, turn.front, turn.clock);
        self.answer(|out| execute(read, front, &limits, clock, out));
    }

    fn handle_setting(&mut self, setting: Client, is_muted: bool) {
        match setting {
            Client::ReplyOn => {
                self.replies = Replies::On;
                return self.answer(|out| reply::simple(out, "OK"));
            }
            Client::ReplyOff => return self.replies = Replies::Off,
            Client::ReplySkip => return self.skip_next = self.replies != Replies::Off,
            Client::SetName(ref name) => self.name = name.clone(),
            Client::GetName | Client::SetInfo | Client::Id => {}
        }
        if is_muted {
            return;
        }
        let (name, connection) = (self.name.clone(), self.connection);
        self.answer(|out| match setting {
            Client::Id => reply::integer(out, connection),
            Client::GetName if name.is_empty() => reply::nil(out),
            Client::GetName => reply::bulk(out, name),
            _ => reply::simple(out, "OK"),
        });
    }

    fn give_up_all(&mut self, when: &str, turn: &mut Turn) {
        let waiting: Vec<_> = self.pending.iter().collect();
        for (sequence, waiting) in waiting {
            self.give_up(sequence, waiting, when, turn);
        }
    }

    /// Ends the wait of a request whose time is up.
    fn give_up(&mut self, sequence: u64, waiting: Waiting, when: &str, turn: &mut Turn) {
        let reqid = waiting.reqid;
        turn.front.forget(RequestId::user(reqid), self.ticket(sequence));
        if waiting.asked == Asked::Await {
            return self.finish(sequence, turn, reply::nil);
        }
        self.fail(sequence, waiting, &texts::timeout(reqid, when), turn);
    }

    /// Answers a request with an error, if it is owed one.
    fn fail(&mut self, sequence: u64, waiting: Waiting, text: &str, turn: &mut Turn) {
        if waiting.asked == Asked::QuietProp && self.replies == Replies::Seed {
            reply::error(self.output.end(), text);
        }
        self.finish(sequence, turn, |out| reply::error(out, text));
    }

    fn finish(&mut self, sequence: u64, turn: &mut Turn, reply: impl FnOnce(&mut Vec<u8>)) {
        self.pending.finish(sequence, reply, self.output.end());
        self.last_active_ms = turn.now_ms;
        turn.outstanding -= 1;
    }

    /// Adds a reply, in order.
    fn answer(&mut self, reply: impl FnOnce(&mut Vec<u8>)) {
        self.pending.reply(reply, self.output.end());
    }

    fn ticket(&self, sequence: u64) -> Ticket {
        Ticket { connection: self.connection, sequence }
    }

    fn close(&mut self, now_ms: u64) {
        if self.end == End::Open {
            let give_up_ms = now_ms.saturating_add(self.limits.propose_timeout_ms);
            self.end = End::Closing { give_up_ms };
        }
        self.incomplete_since_ms = None;
    }

    fn complain(&mut self, complaint: Complaint) {
        self.complaint.get_or_insert(complaint);
    }

    fn incomplete_deadline_ms(&self) -> Option<u64> {
        self.incomplete_since_ms.map(|since_ms| since_ms.saturating_add(self.limits.request_timeout_ms))
    }

    fn idle_deadline_ms(&self) -> Option<u64> {
        let may_idle = self.limits.idle_timeout_ms == 0 || self.end != End::Open || !self.is_quiet();
        (!may_idle).then(|| self.last_active_ms.saturating_add(self.limits.idle_timeout_ms))
    }

    fn give_up_deadline_ms(&self) -> Option<u64> {
        match self.end {
            End::Closing { give_up_ms } if self.pending.waiting() > 0 => Some(give_up_ms),
            _ => None,
        }
    }

    fn behind_deadline_ms(&self) -> Option<u64> {
        let (since_ms, _) = self.behind.filter(|_| self.end != End::Dropped)?;
        Some(since_ms.saturating_add(self.limits.behind_timeout_ms))
    }
}

fn is_due(deadline_ms: Option<u64>, now_ms: u64) -> bool {
    deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
}

#[cfg(test)]
mod tests;
