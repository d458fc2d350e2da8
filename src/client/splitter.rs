//! Bytes → requests, piece by piece: an array of bulk strings (RESP2), or a line.
//!
//! It keeps positions in its input, not copies; it neither recurses nor looks at a byte of an array twice,
//! and it checks every length before anyone waits for, or stores, what the length announces. The crates for
//! RESP either recurse into arrays of arrays or start over when more bytes come; one of them is the oracle of
//! the tests.

use std::ops::Range;

use thiserror::Error;

use super::line::{self, Iac, LineScanner, Scan};

/// The most arguments of a request; beyond that the connection is closed.
pub const MAX_ARGUMENTS: usize = 1024;

/// How much longer than the value limit a line, or one bulk string, may be: room for `PROP`, the reqid and a
/// few bytes too many, so that a value that is just too long costs an error and not the connection.
pub const LINE_SLACK_BYTES: usize = 64;

/// How much longer than the value limit the bulk strings of a request may be together.
pub const REQUEST_SLACK_BYTES: usize = 64 * 1024;

/// The longest `*count` or `$length` line, its end included.
const HEADER_BYTES: usize = 32;

/// Splits one connection's bytes. It cannot be used after an error.
#[derive(Debug)]
pub struct Splitter {
    value_bytes: usize,
    state: State,
    arguments: Vec<Range<usize>>,
    /// The text of a line that held doubled bytes 255.
    line: Vec<u8>,
    /// The words of a line that is not a `PROP`.
    words: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Start,
    Line(LineScanner),
    /// In an array: how many elements are still to come, where the next one starts, how long its bulk string
    /// is if its header was read, and how long those before it were together.
    Array {
        left: usize,
        at: usize,
        bulk: Option<usize>,
        total: usize,
    },
}

/// What is at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// No complete request: pass the same bytes again, with more after them.
    More,
    /// This many bytes mean nothing (an empty line or array, telnet's sequences before a line).
    Nothing(usize),
    /// A request.
    Request {
        /// How many bytes of the input it occupies.
        len: usize,
        /// The form in which it came.
        form: Form,
        /// At least one.
        arguments: Arguments<'a>,
    },
    /// A line of this many bytes whose quotes do not match. What follows is not affected.
    Unbalanced(usize),
    /// A line of this many bytes with a byte 255 that is not doubled, and its parts if it is a `PROP`. What
    /// follows is not affected.
    LoneIac(usize, Arguments<'a>),
    /// The connection cannot go on.
    Refused(ProtocolError, Arguments<'a>),
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An array of bulk strings.
    Array,
    /// A line.
    Line,
}

/// The arguments of a request, the command's name first.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    data: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    /// The argument at a position, counted from 0.
    pub fn at(&self, place: usize) -> Option<&'a [u8]> {
        self.data.get(self.ranges.get(place)?.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let data = self.data;
        self.ranges.iter().map(move |range| data.get(range.clone()).unwrap_or_default())
    }
}

impl PartialEq for Arguments<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Arguments<'_> {}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The count of an array is wrong.
    #[error("Protocol error: invalid multibulk length, an array has 0 to {MAX_ARGUMENTS} elements")]
    ArrayLength,
    /// An array holds something other than bulk strings.
    #[error("Protocol error: expected '$', got '{}'; a request is an array of bulk strings", char::from(*.0).escape_default())]
    ExpectedBulk(u8),
    /// The length of a bulk string is wrong.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A bulk string is not followed by CR LF.
    #[error("Protocol error: a bulk string is longer or shorter than its length says")]
    BulkEnd,
    /// More bytes than a request may have.
    #[error("a value is at most {0} bytes, and a request not much longer")]
    TooLarge(usize),
    /// The start of a TLS handshake.
    #[error("this port speaks RESP (the Redis protocol) without TLS")]
    Tls,
    /// An HTTP request.
    #[error("this port speaks RESP (the Redis protocol), not HTTP")]
    Http,
}

impl Splitter {
    /// Splits requests whose value is at most `value_bytes` long, and a little more (see
    /// [`LINE_SLACK_BYTES`]).
    pub fn new(value_bytes: usize) -> Splitter {
        let state = State::Start;
        Splitter { value_bytes, state, arguments: Vec::new(), line: Vec::new(), words: Vec::new() }
    }

    /// Looks at the start of `input`. After anything but [`Step::More`] the caller must drop as many bytes as
    /// the step says before it calls again.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Step<'a> {
        if let State::Start = self.state {
            self.state = match input {
                [] => return Step::More,
                [b'*', ..] => match header(input, 0) {
                    Header::More => return Step::More,
                    Header::Number(count, len) if count <= 0 => return Step::Nothing(len),
                    Header::Number(count, at) if count <= MAX_ARGUMENTS as i64 => {
                        self.arguments.clear();
                        State::Array { left: count as usize, at, bulk: None, total: 0 }
                    }
                    Header::Number(..) | Header::Bad => return self.refuse(ProtocolError::ArrayLength),
                },
                // A handshake record: its type, then version 3.x.
                [0x16] => return Step::More,
                [0x16, 3, ..] => return self.refuse(ProtocolError::Tls),
                _ => State::Line(LineScanner::default()),
            };
        }
        match &self.state {
            State::Array { .. } => self.next_array(input),
            _ => self.next_line(input),
        }
    }

    /// How many bytes it holds in memory.
    pub fn held_bytes(&self) -> usize {
        self.line.capacity() + self.words.capacity() + self.arguments.capacity() * size_of::<Range<usize>>()
    }

    /// Frees memory that a long line took. Call it when the input is empty.
    pub fn release(&mut self) {
        for scratch in [&mut self.line, &mut self.words] {
            scratch.clear();
            scratch.shrink_to(1024);
        }
    }

    fn next_array<'a>(&'a mut self, input: &'a [u8]) -> Step<'a> {
        match self.fill_array(input) {
            Ok(Some(len)) => {
                self.state = State::Start;
                let arguments = Arguments { data: input, ranges: &self.arguments };
                Step::Request { len, form: Form::Array, arguments }
            }
            Ok(None) => Step::More,
            Err(error) => Step::Refused(error, Arguments { data: input, ranges: &self.arguments }),
        }
    }

    /// Adds the elements that have arrived. Returns the array's length if it is complete.
    fn fill_array(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let State::Array { left, at, bulk, total } = &mut self.state else { return Ok(None) };
        while *left > 0 {
            let Some(first) = input.get(*at) else { return Ok(None) };
            let len = match *bulk {
                Some(len) => len,
                None if *first != b'$' => return Err(ProtocolError::ExpectedBulk(*first)),
                None => match header(input, *at) {
                    Header::More => return Ok(None),
                    Header::Bad => return Err(ProtocolError::BulkLength),
                    Header::Number(number, next) => {
                        let len = usize::try_from(number).map_err(|_| ProtocolError::BulkLength)?;
                        *total = total.saturating_add(len);
                        if len > self.value_bytes + LINE_SLACK_BYTES
                            || *total > self.value_bytes + REQUEST_SLACK_BYTES
                        {
                            return Err(ProtocolError::TooLarge(self.value_bytes));
                        }
                        (*at, *bulk) = (next, Some(len));
                        len
                    }
                },
            };
            match input.get(*at + len..) {
                Some([b'\r', b'\n', ..]) => {
                    self.arguments.push(*at..*at + len);
                    (*at, *bulk) = (*at + len + 2, None);
                    *left -= 1;
                }
                None | Some([] | [b'\r']) => return Ok(None),
                Some(_) => return Err(ProtocolError::BulkEnd),
            }
        }
        Ok(Some(*at))
    }

    fn next_line<'a>(&'a mut self, input: &'a [u8]) -> Step<'a> {
        let State::Line(scanner) = &mut self.state else { return Step::More };
        match scanner.scan(input, self.value_bytes + LINE_SLACK_BYTES) {
            Scan::More => Step::More,
            Scan::Nothing(len) => {
                self.state = State::Start;
                Step::Nothing(len)
            }
            Scan::Line { end, len, iac } => {
                self.state = State::Start;
                self.split_line(&input[..end], len, iac)
            }
            Scan::TooLong => {
                self.arguments.clear();
                let head = &input[..input.len().min(LINE_SLACK_BYTES)];
                line::split_prop(head, &mut self.arguments);
                let arguments = Arguments { data: input, ranges: &self.arguments };
                Step::Refused(ProtocolError::TooLarge(self.value_bytes), arguments)
            }
        }
    }

    fn split_line<'a>(&'a mut self, raw: &'a [u8], len: usize, iac: Iac) -> Step<'a> {
        if iac == Iac::Doubled {
            line::undouble(raw, &mut self.line);
        }
        let text = if iac == Iac::Doubled { &self.line } else { raw };
        self.arguments.clear();
        let is_prop = line::split_prop(text, &mut self.arguments);
        if iac == Iac::Alone {
            return Step::LoneIac(len, Arguments { data: text, ranges: &self.arguments });
        }
        let data = if is_prop {
            text
        } else {
            match line::split_words(text, MAX_ARGUMENTS + 1, &mut self.words, &mut self.arguments) {
                Ok(()) => &self.words,
                Err(line::UnbalancedQuotes) => return Step::Unbalanced(len),
            }
        };
        let arguments = Arguments { data, ranges: &self.arguments };
        if arguments.is_empty() {
            return Step::Nothing(len);
        }
        if arguments.len() > MAX_ARGUMENTS {
            return Step::Refused(ProtocolError::ArrayLength, arguments);
        }
        if is_http(&arguments) {
            return Step::Refused(ProtocolError::Http, arguments);
        }
        Step::Request { len, form: Form::Line, arguments }
    }

    fn refuse(&mut self, error: ProtocolError) -> Step<'_> {
        self.arguments.clear();
        Step::Refused(error, Arguments { data: &[], ranges: &self.arguments })
    }
}

/// A browser, or a web page that makes one talk to this port (Redis watches for the same words).
fn is_http(arguments: &Arguments) -> bool {
    let name = arguments.at(0).unwrap_or_default();
    let is_request_line = arguments.len() == 3
        && !name.eq_ignore_ascii_case(b"PROP")
        && arguments.at(2).is_some_and(|version| version.starts_with(b"HTTP/"));
    is_request_line || name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

enum Header {
    More,
    Bad,
    /// The number and where the next line starts.
    Number(i64, usize),
}

/// Reads a mark, a decimal number and CR LF.
fn header(input: &[u8], at: usize) -> Header {
    let line = input.get(at + 1..).unwrap_or_default();
    let line = &line[..line.len().min(HEADER_BYTES)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < HEADER_BYTES { Header::More } else { Header::Bad };
    };
    let digits = line[..end].strip_suffix(b"\r").and_then(|text| std::str::from_utf8(text).ok());
    // `parse` would accept a plus sign as well.
    match digits.filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok()) {
        Some(number) => Header::Number(number, at + 1 + end + 1),
        None => Header::Bad,
    }
}

#[cfg(test)]
mod tests;
