//! A line of a log file: the index of a chosen line is read, whatever is around it.

use crate::consensus::types::{Ballot, Command, Index, Kind, RequestId};
use crate::pipeline::chosen_line::{MARK, MAX_LINE_BYTES, VALUE_BYTES, format, parse_index, skip_timestamp};

use super::pieces::Script;

/// Any bytes as a line; and a command made from them, whose line must be read back, whole or cut.
pub fn chosen_line(data: &[u8]) {
    check_parsed(data);
    for line in data.split(|byte| *byte == b'\n') {
        check_parsed(line);
    }
    check_written(Script(data));
}

fn check_parsed(line: &[u8]) {
    let Some(index) = parse_index(line) else { return };
    let rest = skip_timestamp(line).unwrap_or_default();
    let head = [MARK, index.to_string().as_bytes(), b" reqid="].concat();
    let shown = line.escape_ascii();
    assert!(index > 0 && rest.starts_with(&head), "{shown} was taken for the chosen line of index {index}");
}

fn check_written(mut script: Script) {
    let mut number = || u64::from_le_bytes([0; 8].map(|_: u8| script.byte()));
    let (index, round, node, from, reqid): (Index, _, _, _, _) =
        (number().max(1), number(), number(), number(), number());
    let session = u128::from(script.byte());
    let kind = [Kind::Value, Kind::Operation, Kind::Membership][usize::from(script.byte()) % 3];
    let noop = script.byte().is_multiple_of(4);
    let payload = script.0.to_vec();
    let command =
        Command { request: RequestId { session, number: reqid }, from, kind, payload: payload.into() };
    const TIME: &[u8] = b"2026-11-21T07:39:49.123456Z [INFO] ";
    let mut line = TIME.to_vec();
    format(&mut line, index, &command, Ballot { round, node }, noop);
    let shown = line.escape_ascii();
    assert!(line.len() < MAX_LINE_BYTES, "{} bytes: {shown}", line.len());
    assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{shown} is not printable");
    let head = TIME.len() + b"chosen index= reqid=".len() + index.to_string().len();
    for end in 0..=line.len() {
        let expected = (end >= head).then_some(index);
        assert_eq!(parse_index(&line[..end]), expected, "{shown} cut after {end} bytes");
    }
    if kind == Kind::Value && !noop {
        let value = &command.payload[..command.payload.len().min(VALUE_BYTES)];
        assert_eq!(unescape(&line), value, "the value of {shown}");
    }
}

/// The bytes between the quotes, as a tool that reads the log understands them.
fn unescape(line: &[u8]) -> Vec<u8> {
    let start = line.iter().position(|byte| *byte == b'"').expect("a value is quoted") + 1;
    let mut bytes = line[start..].iter().copied();
    let mut value = vec![];
    loop {
        match bytes.next().expect("the quotes are closed") {
            b'"' => return value,
            b'\\' => value.push(match bytes.next().expect("an escape goes on") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("two hex digits")
                }
                other => other,
            }),
            byte => value.push(byte),
        }
    }
}
