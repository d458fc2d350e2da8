//! What a client sends: RESP2 and telnet lines, through the splitter, the commands and a whole session.

use std::time::Duration;

use crate::client::Limits;
use crate::client::command::{Command, CommandError};
use crate::client::front::{ClientProposal, Front, LogItem, Outcome};
use crate::client::session::{Session, Turn};
use crate::client::splitter::{Form, ProtocolError, Splitter, Step};
use crate::client::status::NodeStatus;
use crate::consensus::types::{self, Index, NodeId, RequestId};
use crate::pipeline::waiters::Ticket;
use crate::store::LogReadError;

use super::pieces;

/// Small, so that inputs of a few hundred bytes reach it.
const VALUE_BYTES: usize = 200;

/// A connection. The input begins with the sizes of pieces.
pub fn client(data: &[u8]) {
    let (sizes, bytes) = pieces::split(data);
    let torn = pieces::cut(sizes, bytes);
    let whole = split(&[bytes]);
    assert_eq!(whole, split(&torn), "the requests depend on how the bytes arrive");
    whole.iter().for_each(check_request);

    let answers = converse(&[bytes]);
    let (shown, shown_torn) =
        (answers.escape_ascii().to_string(), converse(&torn).escape_ascii().to_string());
    assert_eq!(shown, shown_torn, "the answers depend on how the bytes arrive");
    let mut rest = &answers[..];
    while !rest.is_empty() {
        rest =
            skip_reply(rest, 0).unwrap_or_else(|| panic!("not a reply: {} in {shown}", rest.escape_ascii()));
    }
}

/// What the splitter made of the bytes.
#[derive(Debug, PartialEq)]
enum Seen {
    Request(Form, Vec<Vec<u8>>, Result<Command, CommandError>),
    Unbalanced,
    LoneIac(Vec<Vec<u8>>),
    Refused(ProtocolError, Vec<Vec<u8>>),
}

fn split(pieces: &[&[u8]]) -> Vec<Seen> {
    let mut splitter = Splitter::new(VALUE_BYTES);
    let (mut held, mut seen) = (vec![], vec![]);
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let consumed = match splitter.next(&held) {
                Step::More => break,
                Step::Nothing(len) => len,
                Step::Unbalanced(len) => {
                    seen.push(Seen::Unbalanced);
                    len
                }
                Step::LoneIac(len, arguments) => {
                    seen.push(Seen::LoneIac(arguments.iter().map(<[u8]>::to_vec).collect()));
                    len
                }
                Step::Request { len, form, arguments } => {
                    let command = Command::parse(&arguments, VALUE_BYTES);
                    seen.push(Seen::Request(form, arguments.iter().map(<[u8]>::to_vec).collect(), command));
                    len
                }
                Step::Refused(error, arguments) => {
                    seen.push(Seen::Refused(error, arguments.iter().map(<[u8]>::to_vec).collect()));
                    return seen;
                }
            };
            assert!(consumed > 0, "a step over nothing of {}", held.escape_ascii());
            held.drain(..consumed);
        }
    }
    seen
}

fn check_request(seen: &Seen) {
    let Seen::Request(form, arguments, command) = seen else { return };
    assert!(!arguments.is_empty(), "a request of nothing");
    match command {
        Ok(Command::Prop { reqid, value }) => {
            assert!(*reqid > 0 && (1..=VALUE_BYTES).contains(&value.len()), "{seen:?}");
            assert_eq!(Some(&value[..]), arguments.get(2).map(Vec::as_slice), "the value of {seen:?}");
            assert_eq!(reqid.to_string().as_bytes(), &arguments[1][..], "the reqid of {seen:?}");
        }
        Ok(_) => {}
        Err(error) => {
            let text = error.to_string();
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{form:?}: {text:?}");
        }
    }
}

/// All that a session answers: bytes first, then what becomes of the proposals and what was left for want of
/// room, then the end of the connection and of all waiting.
fn converse(pieces: &[&[u8]]) -> Vec<u8> {
    let limits = Limits { value_bytes: VALUE_BYTES, ..Limits::default() };
    let mut session = Session::new(7, limits, 0);
    let mut turn = Turn {
        now_ms: 0,
        clock: Duration::from_secs(1_795_246_789),
        front: &Node,
        proposals: vec![],
        outstanding: 0,
        ending: false,
    };
    let mut answers = vec![];
    for piece in pieces {
        session.handle_bytes(piece, &mut turn);
    }
    settle(&mut session, &mut turn, &mut answers);
    let held = session.held_bytes();
    let given: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert!(held <= 64 * given + 64 * 1024, "{held} bytes are held of {given}");
    session.handle_end_of_input(turn.now_ms);
    turn.now_ms = limits.propose_timeout_ms;
    session.handle_time(&mut turn);
    settle(&mut session, &mut turn, &mut answers);
    assert!(session.is_finished(), "its time is up, but it goes on: {}", answers.escape_ascii());
    assert_eq!(turn.outstanding, 0, "requests that wait forever");
    answers
}

/// Lets the node answer and the client read until nothing moves.
fn settle(session: &mut Session, turn: &mut Turn, answers: &mut Vec<u8>) {
    loop {
        let mut outcomes = vec![];
        turn.front.propose(std::mem::take(&mut turn.proposals), &mut outcomes);
        for (ticket, outcome) in outcomes {
            session.handle_outcome(ticket.sequence, &outcome, turn);
        }
        let count = session.output().len();
        answers.extend_from_slice(session.output());
        session.handle_written(count, turn.now_ms);
        session.resume(turn);
        if count == 0
            && turn.proposals.is_empty()
            && !(session.wants_input() && session.has_unread_requests())
        {
            return;
        }
    }
}

/// What follows a complete reply (RESP2) at the start of `bytes`.
fn skip_reply(bytes: &[u8], depth: u32) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    let (mark, text) = line.split_first()?;
    let number = || std::str::from_utf8(text).ok()?.parse::<i128>().ok();
    match mark {
        b'+' | b'-' if !text.is_empty() => Some(rest),
        b':' => number().map(|_| rest),
        b'$' if text == b"-1" => Some(rest),
        b'$' => rest.get(usize::try_from(number()?).ok()?..)?.strip_prefix(b"\r\n"),
        b'*' if depth < 5 => (0..number()?).try_fold(rest, |rest, _| skip_reply(rest, depth + 1)),
        _ => None,
    }
}

/// A node whose answer depends on the reqid alone.
struct Node;

impl Front for Node {
    fn propose(&self, proposals: Vec<ClientProposal>, outcomes: &mut Vec<(Ticket, Outcome)>) {
        for ClientProposal { request, ticket, .. } in proposals {
            let outcome = match request.number % 6 {
                0 => continue,
                1 => Outcome::OtherValue(request.number),
                2 => Outcome::Busy("the queue is full"),
                3 => Outcome::TryAgain(self.leader()),
                _ => Outcome::Delivered(request.number),
            };
            outcomes.push((ticket, outcome));
        }
    }

    fn wait(&self, request: RequestId, _: Ticket) -> Option<Index> {
        self.lookup(request)
    }

    fn lookup(&self, request: RequestId) -> Option<Index> {
        request.number.is_multiple_of(2).then_some(request.number)
    }

    fn forget(&self, _: RequestId, _: Ticket) {}

    fn read_log(&self, first: Index, count: usize, _: usize) -> Result<Vec<LogItem>, LogReadError> {
        let item = |index: Index| LogItem {
            index,
            command: (!index.is_multiple_of(3)).then(|| types::Command::value(index % 3, 1, "\r\n+")),
        };
        match first % 4 {
            0 => Err(LogReadError::Compacted { compacted: first }),
            _ => Ok((first..first.saturating_add(count.min(5) as u64)).map(item).collect()),
        }
    }

    fn node(&self) -> NodeId {
        1
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        Some((2, "127.0.0.1:9002".to_owned()))
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::default()
    }
}
