//! The chosen line: what every node writes for each delivered index. Its form never changes, since tools read
//! it.
//!
//! ```text
//! 2026-11-21T07:39:49.123456Z [INFO] chosen index=2 reqid=1 ballot=1.1 from=1 value="hello"
//! … chosen index=3 reqid=0 ballot=1.1 from=1 noop
//! … chosen index=4 reqid=0 ballot=1.1 from=1 op=NAME
//! ```
//!
//! Printable ASCII is written as it is, except that `"` and `\` become `\"` and `\\`. Newline, carriage
//! return and tab become `\n`, `\r` and `\t`; every other byte becomes `\xNN` (lower-case). A value above
//! [`VALUE_BYTES`] is cut there and followed by ` len=N crc=XXXXXXXX`: the length of the whole value and its
//! CRC-32C, in upper-case hex digits.
//!
//! Hundreds of thousands of lines are written per second, so this appends bytes without `fmt`. Left out:
//! timestamps and files (`logfile`).

use crate::consensus::types::{Ballot, Command, Index, Kind};

/// How many bytes of a value a line shows.
pub const VALUE_BYTES: usize = 128;

/// The longest chosen line, with timestamp and newline: [`VALUE_BYTES`] escapes of four bytes, and at most
/// 320 bytes around them.
pub const MAX_LINE_BYTES: usize = 320 + 4 * VALUE_BYTES;

/// The longest name of an operation.
pub const MAX_OPERATION_BYTES: usize = 64;

/// What comes before the index in every chosen line, after the timestamp. No other line has it there.
pub const MARK: &[u8] = b" [INFO] chosen index=";

/// Appends a chosen line from its word `chosen` on, without newline. `noop` is true if it was delivered as a
/// no-op, as no-ops and requests that were delivered before are. An application's operation and a membership
/// change get a general name; an application that knows better calls [`format_operation`].
pub fn format(out: &mut Vec<u8>, index: Index, command: &Command, ballot: Ballot, noop: bool) {
    if noop {
        head(out, index, 0, ballot, command);
        out.extend_from_slice(b" noop");
        return;
    }
    match command.kind {
        Kind::Value => {
            head(out, index, user_reqid(command), ballot, command);
            value(out, &command.payload);
        }
        Kind::Operation => format_operation(out, index, command, ballot, "operation"),
        Kind::Membership => format_operation(out, index, command, ballot, "membership"),
        kind @ (Kind::Noop | Kind::Unknown(_)) => {
            panic!("index {index} of kind {kind:?} can only be delivered as a no-op")
        }
    }
}

/// Appends the chosen line of an operation: `op=NAME` in place of `value="…"`. The name consists of at most
/// [`MAX_OPERATION_BYTES`] ASCII letters, digits, `.`, `_` and `-`.
pub fn format_operation(out: &mut Vec<u8>, index: Index, command: &Command, ballot: Ballot, name: &str) {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(
        !name.is_empty() && name.len() <= MAX_OPERATION_BYTES && name.bytes().all(good),
        "index {index}: {name:?} is not a name of an operation"
    );
    head(out, index, user_reqid(command), ballot, command);
    out.extend_from_slice(b" op=");
    out.extend_from_slice(name.as_bytes());
}

/// The index of a chosen line, which may be cut anywhere after ` reqid=`; `None` for any other line. It is
/// strict, so a diagnostic line cannot pass for a chosen one: `logfile` lets no diagnostic line begin with
/// the word `chosen`.
pub fn parse_index(line: &[u8]) -> Option<Index> {
    let rest = skip_timestamp(line)?.strip_prefix(MARK)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    if !rest.starts_with(b" reqid=") || number.starts_with(b"0") {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The rest of a line after `YYYY-MM-DDTHH:MM:SS.ffffffZ` (with any number of digits of a second, or none).
pub fn skip_timestamp(line: &[u8]) -> Option<&[u8]> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let (seconds, rest) = line.split_at_checked(FORM.len())?;
    let fits = |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
    if !seconds.iter().zip(FORM).all(fits) {
        return None;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => match fraction.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => return None,
            digits => &fraction[digits..],
        },
        None => rest,
    };
    rest.strip_prefix(b"Z")
}

/// A line shows the users' reqids. A command that a server made for itself has none.
fn user_reqid(command: &Command) -> u64 {
    if command.request.session == 0 { command.request.number } else { 0 }
}

fn head(out: &mut Vec<u8>, index: Index, reqid: u64, ballot: Ballot, command: &Command) {
    out.extend_from_slice(b"chosen index=");
    decimal(out, index);
    out.extend_from_slice(b" reqid=");
    decimal(out, reqid);
    out.extend_from_slice(b" ballot=");
    decimal(out, ballot.round);
    out.push(b'.');
    decimal(out, ballot.node);
    out.extend_from_slice(b" from=");
    decimal(out, command.from);
}

fn value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(b" value=\"");
    escape(out, &value[..value.len().min(VALUE_BYTES)]);
    out.push(b'"');
    if value.len() > VALUE_BYTES {
        out.extend_from_slice(b" len=");
        decimal(out, value.len() as u64);
        out.extend_from_slice(b" crc=");
        let crc = crc32c::crc32c(value);
        out.extend((0..8).map(|place| b"0123456789ABCDEF"[(crc >> (28 - 4 * place)) as usize & 15]));
    }
}

/// Appends bytes, escaped so that they stay on the line and between the quotes, and cannot control the
/// reader's terminal.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    // Without an early exit the compiler tests many bytes at a time. Most values need no escape at all.
    if bytes.iter().fold(true, |all, byte| all & is_plain(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match byte {
            byte if is_plain(*byte) => out.push(*byte),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// Appends a number's decimal digits.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::types::RequestId;

    const BALLOT: Ballot = Ballot { round: 1, node: 1 };

    fn line(index: Index, command: &Command, noop: bool) -> String {
        let mut out = Vec::new();
        format(&mut out, index, command, BALLOT, noop);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_form_is_for_good() {
        let hello = Command::value(1, 1, "hello");
        assert_eq!(line(2, &hello, false), r#"chosen index=2 reqid=1 ballot=1.1 from=1 value="hello""#);
        assert_eq!(line(3, &Command::noop(2), true), "chosen index=3 reqid=0 ballot=1.1 from=2 noop");
        assert_eq!(line(4, &hello, true), "chosen index=4 reqid=0 ballot=1.1 from=1 noop");
        let empty = Command::value(u64::MAX, 3, "");
        assert_eq!(
            line(u64::MAX, &empty, false),
            r#"chosen index=18446744073709551615 reqid=18446744073709551615 ballot=1.1 from=3 value="""#
        );
    }

    #[test]
    fn a_servers_own_operation_has_reqid_0_and_a_name() {
        let request = RequestId { session: 7, number: 9 };
        let own = Command { request, from: 1, kind: Kind::Operation, ..Command::default() };
        assert_eq!(line(5, &own, false), "chosen index=5 reqid=0 ballot=1.1 from=1 op=operation");
        let users = Command { request: RequestId::user(9), ..own };
        let mut out = Vec::new();
        format_operation(&mut out, 6, &users, BALLOT, "kv.set");
        assert_eq!(out, b"chosen index=6 reqid=9 ballot=1.1 from=1 op=kv.set");
    }

    #[test]
    fn bytes_that_are_not_printable_ascii_are_escaped() {
        let command = Command::value(1, 1, &b"a\"b\\c\n\r\t\0\x1b\x7f\xff~ "[..]);
        assert_eq!(
            line(2, &command, false),
            r#"chosen index=2 reqid=1 ballot=1.1 from=1 value="a\"b\\c\n\r\t\x00\x1b\x7f\xff~ ""#
        );
    }

    #[test]
    fn a_value_above_128_bytes_is_cut_there() {
        let whole = Command::value(1, 1, vec![b'x'; 128]);
        assert!(line(2, &whole, false).ends_with(&format!("value=\"{}\"", "x".repeat(128))));
        // The check value of CRC-32C: "123456789" has E3069283 (RFC 3720 and others).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
        let long = vec![0; 129];
        let crc = crc32c::crc32c(&long);
        let shown = format!("value=\"{}\" len=129 crc={crc:08X}", "\\x00".repeat(128));
        assert!(line(2, &Command::value(1, 1, long), false).ends_with(&shown));
    }

    #[test]
    fn only_a_chosen_line_has_an_index() {
        let time = "2026-11-21T07:39:49.123456Z";
        assert_eq!(parse_index(format!("{time} [INFO] chosen index=12 reqid=0 …").as_bytes()), Some(12));
        assert_eq!(parse_index(b"2026-11-21T07:39:49Z [INFO] chosen index=12 reqid="), Some(12));
        for other in [
            String::new(),
            "chosen index=12 reqid=0".into(),
            format!("{time} [WARN] chosen index=12 reqid=0"),
            format!("{time} [INFO]  chosen index=12 reqid=0"),
            format!("{time} [INFO] refused: chosen index=12 reqid=0"),
            format!(" {time} [INFO] chosen index=12 reqid=0"),
            format!("{time} [INFO] chosen index=012 reqid=0"),
            format!("{time} [INFO] chosen index=0 reqid=0"),
            format!("{time} [INFO] chosen index= reqid=0"),
            format!("{time} [INFO] chosen index=-1 reqid=0"),
            format!("{time} [INFO] chosen index=18446744073709551616 reqid=0"),
            format!("{time} [INFO] chosen index=12"),
            "2026-11-21 07:39:49.123456Z [INFO] chosen index=12 reqid=0".into(),
            "2026-11-21T07:39:49.Z [INFO] chosen index=12 reqid=0".into(),
            "2026-11-21T07:39:49.123456 [INFO] chosen index=12 reqid=0".into(),
        ] {
            assert_eq!(parse_index(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_command_gives_one_bounded_printable_line_that_names_its_index(
            index in 1u64..,
            reqid in 1u64..,
            round: u64,
            node: u64,
            from: u64,
            noop: bool,
            value in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut line = b"2026-11-21T07:39:49.123456Z [INFO] ".to_vec();
            let command = Command::value(reqid, from, value);
            format(&mut line, index, &command, Ballot { round, node }, noop);
            prop_assert_eq!(parse_index(&line), Some(index));
            prop_assert!(line.len() < MAX_LINE_BYTES, "{} bytes", line.len());
            prop_assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
        }

        #[test]
        fn a_value_can_be_read_back_from_its_line(value in prop::collection::vec(any::<u8>(), 0..=128)) {
            let mut line = Vec::new();
            format(&mut line, 1, &Command::value(1, 1, value.clone()), BALLOT, false);
            let quoted = &line[line.iter().position(|byte| *byte == b'"').unwrap() + 1..line.len() - 1];
            prop_assert_eq!(unescape(quoted), value);
        }

        #[test]
        fn reading_junk_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            parse_index(&line);
        }
    }

    /// What a tool that reads the log does.
    fn unescape(quoted: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        let mut bytes = quoted.iter();
        while let Some(byte) = bytes.next() {
            value.push(match (byte, if *byte == b'\\' { bytes.next() } else { None }) {
                (_, Some(b'n')) => b'\n',
                (_, Some(b'r')) => b'\r',
                (_, Some(b't')) => b'\t',
                (_, Some(b'x')) => {
                    let digits = [*bytes.next().unwrap(), *bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                (_, Some(other)) => *other,
                (plain, None) => *plain,
            });
        }
        value
    }
}
