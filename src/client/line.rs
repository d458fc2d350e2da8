//! The inline form of a request: a line, as telnet sends it.
//!
//! LF ends a line, and one CR before it belongs to the end; any other CR is part of the line. Telnet's own
//! sequences (RFC 854: IAC and what follows, sub-negotiations of any content) are dropped before a line. They
//! are not answered, so a telnet client takes the port for a terminal without options. Inside a line IAC IAC
//! stands for one byte 255, and nothing else may follow an IAC: the line is refused, for a value that lost
//! bytes without a word would be delivered for good. A value with bytes 255 has to double them, or to come as
//! an array.

use std::ops::Range;

const IAC: u8 = 255;

/// Finds the end of a line in bytes that come piece by piece. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct LineScanner {
    /// Everything before this position has been looked at.
    scanned: usize,
    telnet: Telnet,
    /// The bytes 255 that were met in this line.
    iac: Iac,
    /// Whether anything was met that is not a telnet sequence.
    has_text: bool,
}

/// The bytes 255 in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Iac {
    /// There are none.
    #[default]
    None,
    /// Each comes twice: [`undouble`] has something to do.
    Doubled,
    /// One comes alone, or begins a telnet sequence: the line is refused.
    Alone,
}

/// What [`LineScanner::scan`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// No end yet.
    More,
    /// This many bytes of telnet sequences before any text of a line: the caller drops them.
    Nothing(usize),
    /// A line.
    Line {
        /// Its length without the line end.
        end: usize,
        /// Its length including the line end.
        len: usize,
        /// Its bytes 255.
        iac: Iac,
    },
    /// The line is longer than the limit, telnet sequences included.
    TooLong,
}

impl LineScanner {
    /// Looks for a line of at most `limit` bytes, before its line end, at the start of `input`. After
    /// [`Scan::More`] it wants the same bytes again and more after them; otherwise it is ready for the next
    /// line.
    pub fn scan(&mut self, input: &[u8], limit: usize) -> Scan {
        let found = self.find(input);
        let seen = match found {
            Scan::Line { end, .. } => end,
            // What is not yet a line may still end in CR.
            Scan::More => input.len().saturating_sub(1),
            Scan::Nothing(len) => len,
            Scan::TooLong => 0,
        };
        if found != Scan::More {
            *self = LineScanner::default();
        }
        if seen > limit { Scan::TooLong } else { found }
    }

    fn find(&mut self, input: &[u8]) -> Scan {
        while let Some(rest) = input.get(self.scanned..).filter(|rest| !rest.is_empty()) {
            if self.telnet == Telnet::Text {
                let text = memchr::memchr2(b'\n', IAC, rest).unwrap_or(rest.len());
                self.has_text |= text > 0;
                self.scanned += text;
                if rest.get(text) == Some(&b'\n') {
                    return self.line(input);
                }
            }
            let Some(byte) = input.get(self.scanned).copied() else { break };
            match self.telnet.step(byte, self.has_text) {
                Some(next) => {
                    (self.telnet, self.scanned) = (next, self.scanned + 1);
                    if next == Telnet::Text {
                        return Scan::Nothing(self.scanned);
                    }
                }
                None => {
                    let met = if byte == IAC { Iac::Doubled } else { Iac::Alone };
                    // Any other byte is text, and looked at as such: it may end the line.
                    self.scanned += usize::from(byte == IAC);
                    self.iac = self.iac.max(met);
                    (self.telnet, self.has_text) = (Telnet::Text, true);
                }
            }
        }
        Scan::More
    }

    fn line(&self, input: &[u8]) -> Scan {
        let before = self.scanned;
        let end = if input[..before].ends_with(b"\r") { before - 1 } else { before };
        Scan::Line { end, len: before + 1, iac: self.iac }
    }
}

/// Where in a telnet sequence the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    Text,
    /// After IAC.
    Command,
    /// After IAC WILL, WONT, DO or DONT.
    Option,
    /// Between IAC SB and IAC SE.
    Sub,
    /// After an IAC in there.
    SubCommand,
}

impl Telnet {
    /// Takes a byte of a telnet sequence. Returns `None` if it is not: IAC was followed by another IAC or by
    /// a byte that begins no command, or it came inside a line.
    fn step(self, byte: u8, in_line: bool) -> Option<Telnet> {
        const SE: u8 = 240;
        const SB: u8 = 250;
        const WILL: u8 = 251;
        const DONT: u8 = 254;
        /// The lowest command: EOF of RFC 1184.
        const LOWEST: u8 = 236;
        Some(match (self, byte) {
            (Telnet::Text, _) => Telnet::Command,
            (Telnet::Command, _) if in_line => return None,
            (Telnet::Command, SB) => Telnet::Sub,
            (Telnet::Command, WILL..=DONT) => Telnet::Option,
            (Telnet::Command, LOWEST..SB) => Telnet::Text,
            (Telnet::Command, _) => return None,
            (Telnet::Option, _) => Telnet::Text,
            (Telnet::Sub, IAC) => Telnet::SubCommand,
            (Telnet::SubCommand, SE) => Telnet::Text,
            (Telnet::Sub | Telnet::SubCommand, _) => Telnet::Sub,
        })
    }
}

/// Replaces the contents of `into` with a line in which each byte 255 comes twice, each of them once.
pub fn undouble(line: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let mut rest = line;
    while let Some(at) = memchr::memchr(IAC, rest) {
        into.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    into.extend_from_slice(rest);
}

/// Returns whether the line is a `PROP`. If so, replaces `arguments` with its parts: one space follows
/// `PROP`, one follows the reqid, and the value is all the rest unchanged. Parts that are missing are left
/// out.
pub fn split_prop(line: &[u8], arguments: &mut Vec<Range<usize>>) -> bool {
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(line.len());
    let end = start + 4;
    let is_prop = line.get(start..end).is_some_and(|word| word.eq_ignore_ascii_case(b"PROP"));
    if !is_prop || line.get(end).is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return false;
    }
    arguments.clear();
    arguments.push(start..end);
    if line.get(end) == Some(&b' ') && line.len() > end + 1 {
        let reqid = end + 1;
        match memchr::memchr(b' ', &line[reqid..]) {
            Some(len) => arguments.extend([reqid..reqid + len, reqid + len + 1..line.len()]),
            None => arguments.push(reqid..line.len()),
        }
    }
    true
}

/// Splits a line as Redis does (`sdssplitargs`): words between white space, or in quotes: `"` with the
/// escapes `\n \r \t \a \b \xHH \\ \"`, `'` with `\'`. The words go to `words`, their positions in it to
/// `arguments`. Words beyond `most` are left out: no valid line has that many. Returns `Err` if a quote is
/// not closed, or is followed by something other than white space.
pub fn split_words(
    line: &[u8],
    most: usize,
    words: &mut Vec<u8>,
    arguments: &mut Vec<Range<usize>>,
) -> Result<(), UnbalancedQuotes> {
    words.clear();
    arguments.clear();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() || arguments.len() == most {
            return Ok(());
        }
        let start = words.len();
        rest = take_word(rest, words)?;
        arguments.push(start..words.len());
    }
}

/// The line's quotes do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Appends the first word and returns what follows it.
fn take_word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    while let Some((first, tail)) = rest.split_first() {
        match first {
            b'"' | b'\'' => {
                rest = take_quoted(*first, tail, words)?;
                return match rest.first() {
                    Some(byte) if !byte.is_ascii_whitespace() => Err(UnbalancedQuotes),
                    _ => Ok(rest),
                };
            }
            byte if byte.is_ascii_whitespace() => return Ok(rest),
            byte => words.push(*byte),
        }
        rest = tail;
    }
    Ok(rest)
}

/// Appends what comes before the closing quote and returns what follows it.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match (quote, rest) {
            (_, [first, tail @ ..]) if *first == quote => return Ok(tail),
            (b'\'', [b'\\', b'\'', tail @ ..]) => {
                words.push(b'\'');
                tail
            }
            (b'"', [b'\\', b'x', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                words.push(hex_digit(*high) << 4 | hex_digit(*low));
                tail
            }
            (b'"', [b'\\', escaped, tail @ ..]) => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            (_, [byte, tail @ ..]) => {
                words.push(*byte);
                tail
            }
            (_, []) => return Err(UnbalancedQuotes),
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(input: &[u8]) -> Scan {
        LineScanner::default().scan(input, 100)
    }

    fn prop(line: &[u8]) -> Option<Vec<&[u8]>> {
        let mut arguments = vec![];
        let is_prop = split_prop(line, &mut arguments);
        is_prop.then(|| arguments.iter().map(|range| &line[range.clone()]).collect())
    }

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
        let (mut words, mut arguments) = (vec![], vec![]);
        split_words(line, usize::MAX, &mut words, &mut arguments)?;
        Ok(arguments.iter().map(|range| words[range.clone()].to_vec()).collect())
    }

    /// Rule: LF or CR LF ends a line; any other CR is part of it.
    #[test]
    fn finds_the_end_of_a_line() {
        assert_eq!(scan(b"PING\r\nx"), Scan::Line { end: 4, len: 6, iac: Iac::None });
        assert_eq!(scan(b"PING\nx"), Scan::Line { end: 4, len: 5, iac: Iac::None });
        assert_eq!(scan(b"a\rb\r\r\n"), Scan::Line { end: 4, len: 6, iac: Iac::None });
        assert_eq!(scan(b"\n"), Scan::Line { end: 0, len: 1, iac: Iac::None });
        assert_eq!(scan(b"a\r"), Scan::More);
        assert_eq!(scan(b""), Scan::More);
    }

    /// Rule: the limit counts what comes before the line end, in whatever pieces it arrives.
    #[test]
    fn a_line_is_as_long_as_the_limit_and_no_longer() {
        let line = |len: usize, end: &str| format!("{}{end}", "x".repeat(len)).into_bytes();
        for end in ["\n", "\r\n"] {
            assert!(matches!(scan(&line(100, end)), Scan::Line { end: 100, .. }));
            assert_eq!(scan(&line(101, end)), Scan::TooLong);
        }
        assert_eq!(scan(&line(101, "")), Scan::More);
        assert_eq!(scan(&line(102, "")), Scan::TooLong);
    }

    /// Rule: telnet sequences before a line are dropped immediately, and a line end inside a sub-negotiation
    /// ends nothing.
    #[test]
    fn drops_telnet_sequences_before_a_line() {
        assert_eq!(scan(b"\xff\xfb\x1fPING\r\n"), Scan::Nothing(3));
        assert_eq!(scan(b"\xff\xf1PING\r\n"), Scan::Nothing(2));
        assert_eq!(scan(b"\xff\xecPING\r\n"), Scan::Nothing(2));
        assert_eq!(scan(b"\xff\xfa\x18\n\xff\xff\xff\xf0PING"), Scan::Nothing(8));
        assert_eq!(scan(b"\xff\xfb"), Scan::More);
        assert_eq!(scan(b"\xff"), Scan::More);
    }

    /// Rule: in a line IAC IAC is one byte 255.
    #[test]
    fn a_doubled_byte_255_is_text() {
        for (line, expected) in [
            (&b"PROP 1 \xff\xffx"[..], &b"PROP 1 \xffx"[..]),
            (b"\xff\xff", b"\xff"),
            (b"\xff\xff\xff\xff\xf1\xff\xff", b"\xff\xff\xf1\xff"),
        ] {
            let full = [line, b"\r\n"].concat();
            assert_eq!(scan(&full), Scan::Line { end: line.len(), len: full.len(), iac: Iac::Doubled });
            let mut text = vec![];
            undouble(line, &mut text);
            assert_eq!(text, expected);
        }
    }

    /// Rule: a line in which IAC is followed by anything else is refused, and ends where it ends: no byte
    /// vanishes, and no line is taken for the end of the one before.
    #[test]
    fn a_byte_255_that_comes_alone_is_noticed() {
        for line in [
            &b"PROP 1 caf\xff"[..],
            b"PROP 1 \xffx",
            b"PROP 1 a\xff\xf1b",
            b"PROP 1 a\xff\xfb",
            b"PROP 1 a\xff\xfa",
            b"PROP 1 \xff\xff\xff",
            b"\xffPROP 1 x",
            b"\xff\x00",
        ] {
            for end in ["\n", "\r\n"] {
                let full = [line, end.as_bytes(), b"PING\r\n"].concat();
                let len = line.len() + end.len();
                assert_eq!(scan(&full), Scan::Line { end: line.len(), len, iac: Iac::Alone }, "{line:?}");
                // Piece by piece it is the same line.
                let mut scanner = LineScanner::default();
                let found = (1..=full.len()).map(|count| scanner.scan(&full[..count], 100));
                let found = found.into_iter().find(|found| *found != Scan::More);
                assert_eq!(found, Some(Scan::Line { end: line.len(), len, iac: Iac::Alone }), "{line:?}");
            }
        }
    }

    /// Rule: an endless sub-negotiation meets the line limit.
    #[test]
    fn an_endless_sub_negotiation_is_too_long() {
        let mut input = b"\xff\xfa".to_vec();
        input.resize(102, b'\n');
        assert_eq!(scan(&input), Scan::TooLong);
        input.extend_from_slice(b"\xff\xf0");
        assert_eq!(scan(&input), Scan::TooLong);
    }

    /// Rule: one space follows PROP, one follows the reqid, and the rest of the line is the value unchanged.
    #[test]
    fn a_value_is_the_rest_of_the_line() {
        let parts = |parts: &[&'static str]| Some(parts.iter().map(|part| part.as_bytes()).collect());
        assert_eq!(prop(b"PROP 1 hello"), parts(&["PROP", "1", "hello"]));
        assert_eq!(prop(b"prop 1  a \"b c "), parts(&["prop", "1", " a \"b c "]));
        assert_eq!(prop(b" Prop 1 x\r"), parts(&["Prop", "1", "x\r"]));
        assert_eq!(prop(b"PROP  1 x"), parts(&["PROP", "", "1 x"]));
        assert_eq!(prop(b"PROP 1 "), parts(&["PROP", "1", ""]));
        assert_eq!(prop(b"PROP 1"), parts(&["PROP", "1"]));
        assert_eq!(prop(b"PROP "), parts(&["PROP"]));
        assert_eq!(prop(b"PROP\t1 x"), parts(&["PROP"]));
        assert_eq!(prop(b"PROPS 1 x"), None);
        assert_eq!(prop(b"PRO"), None);
        assert_eq!(prop(b""), None);
    }

    /// Rule: other lines split as `sdssplitargs` of Redis does (cases of its own unit test).
    #[test]
    fn words_split_as_in_redis() {
        let ok = |words: &[&[u8]]| Ok(words.iter().map(|word| word.to_vec()).collect::<Vec<_>>());
        assert_eq!(words(b"Testing one two three"), ok(&[b"Testing", b"one", b"two", b"three"]));
        assert_eq!(words(b""), ok(&[]));
        assert_eq!(words(b"  \t "), ok(&[]));
        assert_eq!(words(br#""Testing split strings""#), ok(&[b"Testing split strings"]));
        assert_eq!(words(br#"'Testing split strings'"#), ok(&[b"Testing split strings"]));
        assert_eq!(words(br#""Testing" split "strings""#), ok(&[b"Testing", b"split", b"strings"]));
        assert_eq!(words(br#"a "\x00\xfG\n\q""#), ok(&[b"a", b"\0xfG\nq"]));
        assert_eq!(words(br#"'it\'s' """#), ok(&[b"it's", b""]));
        assert_eq!(words(br#""unterminated"#), Err(UnbalancedQuotes));
        assert_eq!(words(br#""closed"wrong"#), Err(UnbalancedQuotes));
        assert_eq!(words(br#""\"#), Err(UnbalancedQuotes));
    }
}
