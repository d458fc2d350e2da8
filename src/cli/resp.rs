//! A client that asks a server one thing at a time and waits: what `demo`, `bench` and tests need to find
//! the leader, read a status or propose a value.
//!
//! Blocking, with a time limit on each read and write. It leaves out pipelining (the load generator has its
//! own loop) and everything of RESP2 that this project's servers never send.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A longer line is refused: it is not an answer of ours.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// A longer bulk string is refused before it is allocated: the largest value is 1 MiB.
const MAX_BULK_BYTES: usize = 2 * 1024 * 1024;
/// A longer array is refused before it is allocated.
const MAX_ELEMENTS: usize = 65_536;
/// Arrays nest no deeper: `LOG` answers a list of lists.
const MAX_DEPTH: usize = 3;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-BUSY …`, without the dash.
    Error(String),
    /// `:1`
    Integer(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// A bulk string or an array that is nil.
    Nil,
    /// An array.
    Array(Vec<Reply>),
}

impl Reply {
    /// A simple or bulk string as text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Simple(text) => Some(text),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// A connection to a client port.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; `timeout` bounds this and each later read and write.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its answer. After an error the connection is of no further use.
    pub fn ask(&mut self, arguments: &[&[u8]]) -> io::Result<Reply> {
        let mut request = Vec::new();
        encode(&mut request, arguments);
        self.stream.get_mut().write_all(&request)?;
        read_reply(&mut self.stream, 0)
    }
}

/// Connects, asks one thing, closes.
pub fn ask(address: SocketAddr, timeout: Duration, arguments: &[&[u8]]) -> io::Result<Reply> {
    Connection::open(address, timeout)?.ask(arguments)
}

/// Appends a command as an array of bulk strings.
pub fn encode(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    encode_length(out, b'*', arguments.len());
    for argument in arguments {
        encode_length(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn encode_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn read_reply(stream: &mut impl BufRead, depth: usize) -> io::Result<Reply> {
    if depth > MAX_DEPTH {
        return Err(nonsense(format!("an array nested deeper than {MAX_DEPTH}")));
    }
    let line = read_line(stream)?;
    let mut characters = line.chars();
    let kind = characters.next();
    let rest = characters.as_str();
    match kind {
        Some('+') => Ok(Reply::Simple(rest.to_string())),
        Some('-') => Ok(Reply::Error(rest.to_string())),
        Some(':') => rest.parse().map(Reply::Integer).map_err(|_| nonsense(format!("the integer {rest:?}"))),
        Some('$') => read_bulk(stream, rest),
        Some('*') => match length(rest, MAX_ELEMENTS)? {
            Some(count) => {
                (0..count).map(|_| read_reply(stream, depth + 1)).collect::<Result<_, _>>().map(Reply::Array)
            }
            None => Ok(Reply::Nil),
        },
        _ => Err(nonsense(format!("the line {line:?}"))),
    }
}

fn read_bulk(stream: &mut impl BufRead, announced: &str) -> io::Result<Reply> {
    let Some(length) = length(announced, MAX_BULK_BYTES)? else { return Ok(Reply::Nil) };
    let mut bytes = vec![0; length];
    let mut end = [0; 2];
    stream.read_exact(&mut bytes)?;
    stream.read_exact(&mut end)?;
    if &end != b"\r\n" {
        return Err(nonsense(format!("a string of {length} bytes that does not end there")));
    }
    Ok(Reply::Bulk(bytes))
}

/// A length of at most `limit`; -1 is nil.
fn length(text: &str, limit: usize) -> io::Result<Option<usize>> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(length) => match usize::try_from(length).ok().filter(|length| *length <= limit) {
            Some(length) => Ok(Some(length)),
            None => Err(nonsense(format!("the length {length} (at most {limit})"))),
        },
        Err(_) => Err(nonsense(format!("the length {text:?}"))),
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(nonsense("a line without its end".to_string())),
    }
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server answered {what}: is it one of ours?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Reply> {
        read_reply(&mut &bytes[..], 0)
    }

    /// Every form that our servers send is read as what it says.
    #[test]
    fn reads_replies() {
        assert_eq!(read(b"+PONG\r\n").unwrap(), Reply::Simple("PONG".into()));
        assert_eq!(read(b"-BUSY later\r\n").unwrap(), Reply::Error("BUSY later".into()));
        assert_eq!(read(b":17\r\n").unwrap(), Reply::Integer(17));
        assert_eq!(read(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(read(b"*-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(read(b"$4\r\na\r\nb\r\n").unwrap(), Reply::Bulk(b"a\r\nb".to_vec()));
        let leader = read(b"*2\r\n:1\r\n$14\r\n127.0.0.1:9001\r\n").unwrap();
        assert_eq!(leader, Reply::Array(vec![Reply::Integer(1), Reply::Bulk(b"127.0.0.1:9001".to_vec())]));
    }

    /// What no server of ours sends is an error, never a panic or a large allocation.
    #[test]
    fn refuses_nonsense() {
        let deep = b"*1\r\n".repeat(10_000);
        let endless = vec![b'+'; MAX_LINE_BYTES as usize + 10];
        let cases: [&[u8]; 11] = [
            b"",
            b"+",
            b"\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$2147483647\r\n",
            b"*2147483647\r\n",
            b"$2\r\nabcd",
            &deep,
            &endless,
        ];
        for case in cases {
            assert!(read(case).is_err(), "{:?}", String::from_utf8_lossy(&case[..case.len().min(40)]));
        }
    }

    /// A command is an array of bulk strings, whatever bytes they hold.
    #[test]
    fn encodes_commands() {
        let mut out = Vec::new();
        encode(&mut out, &[b"PROP", b"1", b"a\r\nb"]);
        assert_eq!(out, b"*3\r\n$4\r\nPROP\r\n$1\r\n1\r\n$4\r\na\r\nb\r\n");
    }
}
