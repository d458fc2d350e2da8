//! A request's arguments → a [`Command`], or the exact text of an error.
//!
//! Every error here is found before anything is proposed.

use bytes::Bytes;
use thiserror::Error;

use super::catalog::{self, Spec};
use super::splitter::Arguments;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Propose a value.
    Prop {
        /// 1 … 2^64-1.
        reqid: u64,
        /// From 1 byte up to the limit.
        value: Bytes,
    },
    /// Wait for a delivery.
    Await {
        /// 1 … 2^64-1.
        reqid: u64,
        /// At most [`MAX_AWAIT_MS`]; with 0 it returns immediately. `None`: as long as a `PROP`.
        timeout_ms: Option<u64>,
    },
    /// Settings of the connection.
    Client(Client),
    /// `HELLO 2`, which may name the connection.
    Hello(Option<Bytes>),
    /// End the connection.
    Quit,
    /// A command that changes nothing.
    Read(Read),
}

/// Settings of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// Every command is answered.
    ReplyOn,
    /// No command is answered.
    ReplyOff,
    /// The next command is not answered.
    ReplySkip,
    /// Names the connection; empty: no name.
    SetName(Bytes),
    /// Its name, or nil.
    GetName,
    /// A library says what it is; this is accepted and forgotten.
    SetInfo,
    /// The connection's number.
    Id,
}

/// A command that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Delivered items.
    Log {
        /// At least 1.
        first: u64,
        /// At least 1; a reply may hold fewer.
        count: u64,
    },
    /// The leader.
    Leader,
    /// The state of the node.
    Status,
    /// The same for Redis's tools: these sections of it, in lower case; if none is named, all.
    Info(Vec<String>),
    /// `PONG`, or the message.
    Ping(Option<Bytes>),
    /// The message.
    Echo(Bytes),
    /// The clock.
    Time,
    /// The list of commands for people.
    Help,
    /// The list of commands for programs.
    Commands(Commands),
    /// Settings that Redis's tools ask for: names or patterns, in lower case.
    ConfigGet(Vec<String>),
}

/// What `COMMAND` should return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commands {
    /// Everything that is known of each command.
    All,
    /// How many there are.
    Count,
    /// Their names.
    List,
    /// Everything that is known of these commands.
    Info(Vec<Bytes>),
    /// Documentation of these commands for people; if none is named, of all.
    Docs(Vec<Bytes>),
}

/// The longest time that `AWAIT` may wait: one hour.
pub const MAX_AWAIT_MS: u64 = 3_600_000;

/// The number of items that `LOG` returns when no count is given.
pub const DEFAULT_LOG_COUNT: u64 = 100;

/// The longest name of a connection.
const MAX_NAME_BYTES: usize = 64;

/// Why a request is refused. Its text is the whole reply, code first.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No such command.
    #[error("ERR unknown command '{0}'; HELP lists the commands")]
    Unknown(Quoted),
    /// There are too few or too many arguments.
    #[error("ERR wrong number of arguments for '{}'; usage: {}", .0.name, .0.usage)]
    Arguments(&'static Spec),
    /// A subcommand or an option that does not exist.
    #[error("ERR '{what}' is not known here; usage: {}", .spec.usage)]
    Option {
        /// What was given.
        what: Quoted,
        /// The command.
        spec: &'static Spec,
    },
    /// Not a reqid.
    #[error(
        "ERR reqid '{0}' is not a number from 1 to 18446744073709551615 without sign, spaces or leading zeros"
    )]
    Reqid(Quoted),
    /// Not a number, or out of range.
    #[error("ERR {name} '{given}' is not a number from {least} to {most} without sign or leading zeros")]
    Number {
        /// Which argument.
        name: &'static str,
        /// What was given.
        given: Quoted,
        /// The lowest number that is allowed.
        least: u64,
        /// The highest number that is allowed.
        most: u64,
    },
    /// A value of no bytes.
    #[error("ERR reqid={0} the value is empty; it must have at least 1 byte")]
    EmptyValue(u64),
    /// A value above the limit.
    #[error("TOOLARGE reqid={reqid} the value has {len} bytes; at most {limit} are allowed")]
    TooLarge {
        /// The reqid of the proposal.
        reqid: u64,
        /// The value's length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A line with a byte 255 that is not doubled; its reqid, if it is a `PROP`.
    #[error(
        "ERR {}a byte 255 in a line is the start of a telnet command unless it comes twice; \
         nothing was done with this line: send the byte twice, or the request as an array",
        .0.map(|reqid| format!("reqid={reqid} ")).unwrap_or_default()
    )]
    LoneIac(Option<u64>),
    /// The name of a connection is not allowed.
    #[error("ERR a connection's name has at most {MAX_NAME_BYTES} visible characters, without spaces")]
    Name,
    /// `HELLO 3`.
    #[error("NOPROTO this server speaks RESP version 2 only; send HELLO 2")]
    Protocol,
    /// `HELLO 2 AUTH`.
    #[error("ERR this server has no users and passwords; send HELLO without AUTH")]
    Auth,
}

/// What a client sent, made harmless for a reply or a log: escaped, and cut after 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Quotes `bytes`.
    pub fn new(bytes: &[u8]) -> Quoted {
        const SHOWN_BYTES: usize = 64;
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
        let more = if shown.len() < bytes.len() { "..." } else { "" };
        Quoted(format!("{}{more}", shown.escape_ascii()))
    }
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Command {
    /// Parses a request whose value may have up to `value_bytes`.
    pub fn parse(arguments: &Arguments, value_bytes: usize) -> Result<Command, CommandError> {
        let name = arguments.at(0).unwrap_or_default();
        let spec = catalog::find(name).ok_or_else(|| CommandError::Unknown(Quoted::new(name)))?;
        let (least, most) = spec.arguments;
        if arguments.len() < least || arguments.len() > most {
            return Err(CommandError::Arguments(spec));
        }
        let at = |place| arguments.at(place).unwrap_or_default();
        let optional = |place| arguments.at(place);
        Ok(match spec.name {
            "prop" => prop(at(1), at(2), value_bytes)?,
            "await" => Command::Await {
                reqid: reqid(at(1))?,
                timeout_ms: optional(2)
                    .map(|text| number("timeout_ms", text, 0, MAX_AWAIT_MS))
                    .transpose()?,
            },
            "client" => Command::Client(client(arguments, spec)?),
            "hello" => Command::Hello(hello(arguments, spec)?),
            "quit" => Command::Quit,
            "log" => Command::Read(Read::Log {
                first: number("first", at(1), 1, u64::MAX)?,
                count: match optional(2) {
                    Some(text) => number("count", text, 1, u64::MAX)?,
                    None => DEFAULT_LOG_COUNT,
                },
            }),
            "leader" => Command::Read(Read::Leader),
            "status" => Command::Read(Read::Status),
            "info" => Command::Read(Read::Info(lower_case(arguments, 1))),
            "ping" => Command::Read(Read::Ping(optional(1).map(Bytes::copy_from_slice))),
            "echo" => Command::Read(Read::Echo(Bytes::copy_from_slice(at(1)))),
            "time" => Command::Read(Read::Time),
            "help" => Command::Read(Read::Help),
            "command" => Command::Read(Read::Commands(commands(arguments, spec)?)),
            "config" if at(1).eq_ignore_ascii_case(b"GET") => {
                Command::Read(Read::ConfigGet(lower_case(arguments, 2)))
            }
            "config" => return Err(CommandError::Option { what: Quoted::new(at(1)), spec }),
            other => unreachable!("the catalog lists {other}, which nothing here understands"),
        })
    }
}

/// A user's reqid: its decimal digits and nothing else, so that no two spellings name the same request.
pub fn reqid(text: &[u8]) -> Result<u64, CommandError> {
    decimal(text).filter(|reqid| *reqid > 0).ok_or_else(|| CommandError::Reqid(Quoted::new(text)))
}

fn prop(reqid_text: &[u8], value: &[u8], limit: usize) -> Result<Command, CommandError> {
    let reqid = reqid(reqid_text)?;
    match value.len() {
        0 => Err(CommandError::EmptyValue(reqid)),
        len if len > limit => Err(CommandError::TooLarge { reqid, len, limit }),
        // A copy, so that a small value never keeps a large read buffer alive.
        _ => Ok(Command::Prop { reqid, value: Bytes::copy_from_slice(value) }),
    }
}

fn client(arguments: &Arguments, spec: &'static Spec) -> Result<Client, CommandError> {
    let upper: Vec<Vec<u8>> = arguments.iter().skip(1).take(2).map(<[u8]>::to_ascii_uppercase).collect();
    let words: Vec<&[u8]> = upper.iter().map(Vec::as_slice).collect();
    Ok(match (words.as_slice(), arguments.len()) {
        ([b"REPLY", b"ON"], 3) => Client::ReplyOn,
        ([b"REPLY", b"OFF"], 3) => Client::ReplyOff,
        ([b"REPLY", b"SKIP"], 3) => Client::ReplySkip,
        ([b"SETNAME", _], 3) => Client::SetName(connection_name(arguments.at(2).unwrap_or_default())?),
        ([b"GETNAME"], 2) => Client::GetName,
        ([b"SETINFO", b"LIB-NAME" | b"LIB-VER"], 4) => Client::SetInfo,
        ([b"ID"], 2) => Client::Id,
        ([b"REPLY" | b"SETNAME" | b"GETNAME" | b"SETINFO" | b"ID", ..], _) => {
            return Err(CommandError::Arguments(spec));
        }
        (words, _) => {
            let what = Quoted::new(words.first().copied().unwrap_or_default());
            return Err(CommandError::Option { what, spec });
        }
    })
}

/// `HELLO [2 [AUTH user password] [SETNAME name]]`.
fn hello(arguments: &Arguments, spec: &'static Spec) -> Result<Option<Bytes>, CommandError> {
    let mut rest = arguments.iter().skip(1);
    match rest.next() {
        None | Some(b"2") => {}
        Some(_) => return Err(CommandError::Protocol),
    }
    let mut name = None;
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"AUTH") {
            return Err(CommandError::Auth);
        }
        if !option.eq_ignore_ascii_case(b"SETNAME") {
            return Err(CommandError::Option { what: Quoted::new(option), spec });
        }
        name = Some(connection_name(rest.next().ok_or(CommandError::Arguments(spec))?)?);
    }
    Ok(name)
}

fn connection_name(text: &[u8]) -> Result<Bytes, CommandError> {
    let is_visible = text.iter().all(u8::is_ascii_graphic);
    if !is_visible || text.len() > MAX_NAME_BYTES {
        return Err(CommandError::Name);
    }
    Ok(Bytes::copy_from_slice(text))
}

fn commands(arguments: &Arguments, spec: &'static Spec) -> Result<Commands, CommandError> {
    let Some(what) = arguments.at(1) else { return Ok(Commands::All) };
    let names = || arguments.iter().skip(2).map(Bytes::copy_from_slice).collect();
    Ok(match what.to_ascii_uppercase().as_slice() {
        b"COUNT" => Commands::Count,
        b"LIST" => Commands::List,
        b"INFO" if arguments.len() == 2 => Commands::All,
        b"INFO" => Commands::Info(names()),
        b"DOCS" => Commands::Docs(names()),
        _ => return Err(CommandError::Option { what: Quoted::new(what), spec }),
    })
}

fn lower_case(arguments: &Arguments, from: usize) -> Vec<String> {
    arguments.iter().skip(from).map(|text| String::from_utf8_lossy(text).to_ascii_lowercase()).collect()
}

fn number(name: &'static str, text: &[u8], least: u64, most: u64) -> Result<u64, CommandError> {
    let number = decimal(text).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| CommandError::Number { name, given: Quoted::new(text), least, most })
}

/// Decimal digits without sign or leading zeros, at most 2^64-1.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with(b"0")) {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
