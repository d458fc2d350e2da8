//! The list of commands: what `HELP`, `COMMAND` and errors about a command's arguments show.

use super::reply;

/// A command as people and client libraries see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// In lower case.
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// The lowest and the highest number of arguments, including the name.
    pub arguments: (usize, usize),
    /// Redis's flags for it.
    flags: &'static [&'static str],
    /// What it does, and what it answers.
    pub summary: &'static str,
}

const FAST: &[&str] = &["readonly", "fast"];
const READ: &[&str] = &["readonly"];
const MANY: usize = usize::MAX;

/// All commands.
#[rustfmt::skip] // a table
pub const COMMANDS: &[Spec] = &[
    Spec { name: "prop", usage: "PROP reqid value", arguments: (3, 3), flags: &["write"],
        summary: "propose a value; answers its index once it is delivered" },
    Spec { name: "await", usage: "AWAIT reqid [timeout_ms]", arguments: (2, 3), flags: READ,
        summary: "wait until a reqid is delivered; answers its index, or nil when time is up (0: immediately)" },
    Spec { name: "log", usage: "LOG first [count]", arguments: (2, 3), flags: READ,
        summary: "delivered items from an index on, as many as fit into a reply: index, reqid, value" },
    Spec { name: "leader", usage: "LEADER", arguments: (1, 1), flags: FAST,
        summary: "who leads: node and client address, or nil" },
    Spec { name: "status", usage: "STATUS", arguments: (1, 1), flags: READ,
        summary: "the state of this node, as key:value lines" },
    Spec { name: "info", usage: "INFO [section ...]", arguments: (1, MANY), flags: READ,
        summary: "STATUS, and what this server is" },
    Spec { name: "ping", usage: "PING [message]", arguments: (1, 2), flags: FAST,
        summary: "answers PONG or the message" },
    Spec { name: "echo", usage: "ECHO message", arguments: (2, 2), flags: FAST,
        summary: "answers the message" },
    Spec { name: "time", usage: "TIME", arguments: (1, 1), flags: FAST,
        summary: "this node's clock: seconds since 1970 and microseconds" },
    Spec { name: "client", usage: "CLIENT REPLY ON|OFF|SKIP | SETNAME name | GETNAME | SETINFO key value | ID",
        arguments: (2, 4), flags: &["noscript"],
        summary: "settings of this connection; REPLY ON: PROP lines are answered as well" },
    Spec { name: "hello", usage: "HELLO [2 [SETNAME name]]", arguments: (1, MANY), flags: FAST,
        summary: "the version of the protocol; this server speaks version 2" },
    Spec { name: "config", usage: "CONFIG GET name [name ...]", arguments: (3, MANY), flags: READ,
        summary: "what Redis's tools ask for" },
    Spec { name: "command", usage: "COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...]]",
        arguments: (1, MANY), flags: FAST, summary: "this list, for programs" },
    Spec { name: "help", usage: "HELP", arguments: (1, 1), flags: FAST, summary: "this list" },
    Spec { name: "quit", usage: "QUIT", arguments: (1, MANY), flags: FAST,
        summary: "ends the connection after the replies it is owed" },
];

/// Returns the command of this name, in upper or lower case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The answer to `HELP`: one line per command, and notes on how a connection behaves.
pub fn help(out: &mut Vec<u8>) {
    const NOTES: [&str; 5] = [
        "reqid: 1 to 18446744073709551615; a new request takes a new one, a repeated request its own and the same value",
        "a line PROP reqid value is answered only if it fails, or after CLIENT REPLY ON;",
        "  its value is all that follows one space after the reqid",
        "-ERR -BUSY -TOOLARGE -TRYAGAIN: certainly not proposed",
        "-TIMEOUT: not known; send the same reqid and value again, or ask AWAIT reqid",
    ];
    reply::array(out, NOTES.len() + COMMANDS.len());
    for spec in COMMANDS {
        reply::simple(out, &format!("{}: {}", spec.usage, spec.summary));
    }
    for note in NOTES {
        reply::simple(out, note);
    }
}

/// `COMMAND`, `COMMAND INFO`: name, number of arguments (negative: at least), flags, places of keys.
pub fn command_info(out: &mut Vec<u8>, spec: &Spec) {
    reply::array(out, 6);
    reply::bulk(out, spec.name);
    let (least, most) = spec.arguments;
    let sign = if least == most { "" } else { "-" };
    out.extend_from_slice(format!(":{sign}{least}\r\n").as_bytes());
    reply::array(out, spec.flags.len());
    for flag in spec.flags {
        reply::simple(out, flag);
    }
    for _ in 0..3 {
        reply::integer(out, 0);
    }
}

/// An element of `COMMAND DOCS`: the name, then keys and values.
pub fn command_docs(out: &mut Vec<u8>, spec: &Spec) {
    reply::bulk(out, spec.name);
    let docs = [("summary", spec.summary), ("since", "0.1.0"), ("group", "server")];
    reply::array(out, 2 * docs.len());
    for (key, value) in docs {
        reply::bulk(out, key);
        reply::bulk(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `HELP` says of a reqid does not contradict itself: a new request has a new one, a repeated one
    /// the same.
    #[test]
    fn help_says_when_a_reqid_is_new() {
        let mut out = vec![];
        help(&mut out);
        let text = String::from_utf8(out).unwrap();
        let note = "+reqid: 1 to 18446744073709551615; a new request takes a new one, a repeated request its \
                    own and the same value\r\n";
        assert!(text.contains(note), "{text}");
    }
}
