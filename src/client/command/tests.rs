//! Tests of `command`: see the first line of each.

use super::*;
use crate::client::splitter::{Splitter, Step};

fn parse(line: &str) -> Result<Command, CommandError> {
    let line = format!("{line}\n");
    match Splitter::new(1000).next(line.as_bytes()) {
        Step::Request { arguments, .. } => Command::parse(&arguments, 1000),
        other => panic!("{line:?} is not a request but {other:?}"),
    }
}

fn text(line: &str) -> String {
    parse(line).expect_err(line).to_string()
}

/// Rule: names and subcommands are understood in any case.
#[test]
fn case_does_not_matter() {
    let prop = Command::Prop { reqid: 7, value: Bytes::from_static(b"x") };
    assert_eq!(parse("pRoP 7 x"), Ok(prop));
    assert_eq!(parse("client reply On"), Ok(Command::Client(Client::ReplyOn)));
    assert_eq!(parse("config get SAVE"), Ok(Command::Read(Read::ConfigGet(vec!["save".to_owned()]))));
    assert_eq!(parse("Quit"), Ok(Command::Quit));
}

/// Rule: (hostile 11) a reqid has one spelling, from 1 to 2^64-1.
#[test]
fn a_reqid_is_its_digits() {
    for (given, number) in [("1", 1), ("9223372036854775808", 1 << 63), ("18446744073709551615", u64::MAX)] {
        assert_eq!(reqid(given.as_bytes()), Ok(number));
    }
    for given in ["0", "-1", "+1", "18446744073709551616", "1e9", "007", "", "1 ", "0x1", "\u{0661}"] {
        assert_eq!(reqid(given.as_bytes()), Err(CommandError::Reqid(Quoted::new(given.as_bytes()))));
    }
    assert_eq!(
        text("AWAIT 007"),
        "ERR reqid '007' is not a number from 1 to 18446744073709551615 without sign, spaces or leading zeros"
    );
    assert_eq!(
        text("LOG 1 1e9"),
        "ERR count '1e9' is not a number from 1 to 18446744073709551615 without sign or leading zeros"
    );
    assert_eq!(
        text("AWAIT 1 3600001"),
        "ERR timeout_ms '3600001' is not a number from 0 to 3600000 without sign or leading zeros"
    );
}

/// Rule: a value has from 1 byte up to the limit; the errors name the reqid.
#[test]
fn a_value_has_its_limits() {
    assert!(parse(&format!("PROP 7 {}", "v".repeat(1000))).is_ok());
    assert_eq!(
        text(&format!("PROP 7 {}", "v".repeat(1001))),
        "TOOLARGE reqid=7 the value has 1001 bytes; at most 1000 are allowed"
    );
    assert_eq!(text("PROP 7 "), "ERR reqid=7 the value is empty; it must have at least 1 byte");
    assert_eq!(text("PROP 7"), "ERR wrong number of arguments for 'prop'; usage: PROP reqid value");
}

/// Rule: (hostile 4) an error shows what a client sent escaped and cut.
#[test]
fn errors_quote_what_was_sent() {
    assert_eq!(
        text("G\u{1b}[2J\u{e9}T x"),
        r"ERR unknown command 'G\x1b[2J\xc3\xa9T'; HELP lists the commands"
    );
    assert!(text(&"x".repeat(900)).len() < 200);
    assert_eq!(text("HELLO 3"), "NOPROTO this server speaks RESP version 2 only; send HELLO 2");
    assert!(text("CLIENT KILL").starts_with("ERR 'KILL' is not known here; usage: CLIENT REPLY"));
    assert!(text("CLIENT REPLY").starts_with("ERR wrong number of arguments for 'client'"));
    assert!(text("CONFIG SET a").starts_with("ERR 'SET' is not known here"));
    assert!(text("HELLO 2 AUTH a b").starts_with("ERR this server has no users"));
    assert!(text("CLIENT SETNAME 'a b'").starts_with("ERR a connection's name"));
}

/// Rule: every command of the catalog is understood (none is listed that could not be sent).
#[test]
fn the_catalog_lists_what_is_understood() {
    for spec in catalog::COMMANDS {
        let arguments = ["1", "GET", "x"];
        for count in 0..3 {
            let line = format!("{} {}", spec.name, arguments[..count].join(" "));
            if let Err(error) = parse(&line) {
                assert!(!error.to_string().contains("unknown command"), "{line}: {error}");
            }
        }
    }
}
