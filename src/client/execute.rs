//! The commands that change nothing: each appends one reply.
//!
//! A read is answered as of the moment it arrives, whatever proposals of the connection are under way then.

use std::time::Duration;

use super::command::{Commands, Read};
use super::front::Front;
use super::status::Lines;
use super::{Limits, catalog, reply};

/// The most items in one `LOG` reply: ask again from the last index + 1.
pub const LOG_COUNT: usize = 1000;

/// The most bytes of values in one `LOG` reply, unless the first value alone is longer.
pub const LOG_BYTES: usize = 1024 * 1024;

/// Executes `read`. `clock` is the time since 1970.
pub fn execute(read: &Read, front: &dyn Front, limits: &Limits, clock: Duration, out: &mut Vec<u8>) {
    match read {
        Read::Log { first, count } => log(*first, *count, front, out),
        Read::Leader => leader(front, out),
        Read::Status => reply::bulk(out, render(&front.status().lines())),
        Read::Info(sections) => info(sections, front, out),
        Read::Ping(None) => reply::simple(out, "PONG"),
        Read::Ping(Some(message)) | Read::Echo(message) => reply::bulk(out, message),
        Read::Time => {
            reply::array(out, 2);
            reply::bulk(out, clock.as_secs().to_string());
            reply::bulk(out, clock.subsec_micros().to_string());
        }
        Read::Help => catalog::help(out),
        Read::Commands(what) => commands(what, out),
        Read::ConfigGet(names) => config_get(names, limits, out),
    }
}

/// The answer to `HELLO 2`.
pub fn hello(connection: u64, out: &mut Vec<u8>) {
    reply::array(out, 14);
    for (key, value) in [("server", "spaxos"), ("version", env!("CARGO_PKG_VERSION"))] {
        reply::bulk(out, key);
        reply::bulk(out, value);
    }
    for (key, value) in [("proto", 2), ("id", connection)] {
        reply::bulk(out, key);
        reply::integer(out, value);
    }
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply::bulk(out, key);
        reply::bulk(out, value);
    }
    reply::bulk(out, "modules");
    reply::array(out, 0);
}

fn log(first: u64, count: u64, front: &dyn Front, out: &mut Vec<u8>) {
    let count = usize::try_from(count).map_or(LOG_COUNT, |count| count.min(LOG_COUNT));
    let items = match front.read_log(first, count, LOG_BYTES) {
        Ok(items) => items,
        Err(why) => return reply::error(out, &format!("ERR {why}")),
    };
    reply::array(out, items.len());
    for item in items {
        reply::array(out, 3);
        reply::integer(out, item.index);
        // Only users have reqids: requests that a server made for itself have none.
        let users = item.command.as_ref().filter(|command| command.request.session == 0);
        reply::bulk(out, users.map_or(0, |command| command.request.number).to_string());
        match item.command {
            Some(command) => reply::bulk(out, command.payload),
            None => reply::nil(out),
        }
    }
}

fn leader(front: &dyn Front, out: &mut Vec<u8>) {
    match front.leader() {
        Some((node, address)) => {
            reply::array(out, 2);
            reply::integer(out, node);
            reply::bulk(out, address);
        }
        None => reply::nil_array(out),
    }
}

fn info(wanted: &[String], front: &dyn Front, out: &mut Vec<u8>) {
    let server = [
        // What Redis's tools look for; the port understands what a client of that version sends.
        ("redis_version", "7.0.0".to_owned()),
        ("redis_mode", "standalone".to_owned()),
        ("spaxos_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("node", front.node().to_string()),
    ];
    let server = server.map(|(key, value)| (key.to_owned(), value)).to_vec();
    let mut sections = vec![("Server", server)];
    sections.extend(front.status().lines());
    let is_wanted = |name: &str| {
        let name = name.to_ascii_lowercase();
        wanted.is_empty()
            || wanted
                .iter()
                .any(|word| *word == name || ["all", "everything", "default"].contains(&word.as_str()))
    };
    sections.retain(|(name, _)| is_wanted(name));
    reply::bulk(out, render(&sections));
}

fn render(sections: &[Lines]) -> String {
    let mut text = String::new();
    for (name, lines) in sections {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        for (key, value) in lines {
            text.push_str(&format!("{key}:{value}\r\n"));
        }
    }
    text
}

fn commands(what: &Commands, out: &mut Vec<u8>) {
    let all = || catalog::COMMANDS.iter();
    match what {
        Commands::Count => reply::integer(out, catalog::COMMANDS.len() as u64),
        Commands::All => {
            reply::array(out, all().count());
            all().for_each(|spec| catalog::command_info(out, spec));
        }
        Commands::List => {
            reply::array(out, all().count());
            all().for_each(|spec| reply::bulk(out, spec.name));
        }
        Commands::Info(names) => {
            reply::array(out, names.len());
            for name in names {
                match catalog::find(name) {
                    Some(spec) => catalog::command_info(out, spec),
                    None => reply::nil_array(out),
                }
            }
        }
        Commands::Docs(names) => {
            let wanted = |name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name.as_bytes()));
            let specs: Vec<_> = all().filter(|spec| names.is_empty() || wanted(spec.name)).collect();
            reply::array(out, 2 * specs.len());
            specs.iter().for_each(|spec| catalog::command_docs(out, spec));
        }
    }
}

fn config_get(names: &[String], limits: &Limits, out: &mut Vec<u8>) {
    let settings = [
        ("save", String::new()), // no snapshots by time
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "always".to_owned()),
        ("maxmemory", "0".to_owned()),
        ("databases", "1".to_owned()),
        ("timeout", (limits.idle_timeout_ms / 1000).to_string()),
        ("proto-max-bulk-len", limits.value_bytes.to_string()),
    ];
    let found: Vec<_> =
        settings.iter().filter(|(key, _)| names.iter().any(|name| matches(name, key))).collect();
    reply::array(out, 2 * found.len());
    for (key, value) in found {
        reply::bulk(out, key);
        reply::bulk(out, value);
    }
}

/// Whether the pattern is the name itself, or a beginning of it followed by `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}
