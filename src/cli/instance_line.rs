//! The two lines that a rank writes into its instance log, written and found:
//!
//! ```text
//! generate Instance[NAME] in seq N at T      when a leader makes a value
//! commit Instance[NAME] in seq N at T        when a rank delivers it
//! ```
//!
//! They may be anywhere in a line. NAME stands for the value and holds no `]`; N is the position among
//! values; T is a time as a number (`spaxos rank`: milliseconds since 1970).

use std::io::Write;

use memchr::memmem;

/// What a rank did with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Generate,
    Commit,
}

impl Verb {
    fn opening(self) -> &'static str {
        match self {
            Verb::Generate => "generate Instance[",
            Verb::Commit => "commit Instance[",
        }
    }
}

/// One such line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InstanceLine<'a> {
    pub(super) verb: Verb,
    pub(super) name: &'a [u8],
    pub(super) seq: u64,
}

/// Appends a line.
pub(super) fn write(out: &mut Vec<u8>, verb: Verb, name: &str, seq: u64, at_ms: u64) {
    let opening = verb.opening();
    writeln!(out, "{opening}{name}] in seq {seq} at {at_ms}").expect("writing to memory does not fail");
}

/// The instance line in a line of text, if there is one: `VERB Instance\[(.*?)\] in seq (\d+) at \d`.
pub(super) fn find(line: &[u8]) -> Option<InstanceLine<'_>> {
    find_verb(line, Verb::Commit).or_else(|| find_verb(line, Verb::Generate))
}

fn find_verb(line: &[u8], verb: Verb) -> Option<InstanceLine<'_>> {
    let opening = verb.opening().as_bytes();
    let start = memmem::find(line, opening)? + opening.len();
    let text = &line[start..];
    // The shortest name after which the rest fits, as the expression has it.
    memmem::find_iter(text, "] in seq ").find_map(|end| {
        let seq = parse_seq(&text[end + "] in seq ".len()..])?;
        Some(InstanceLine { verb, name: &text[..end], seq })
    })
}

fn parse_seq(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let time = rest.strip_prefix(b" at ")?;
    let seq = std::str::from_utf8(number).ok()?.parse().ok()?;
    time.first().is_some_and(u8::is_ascii_digit).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is found, even behind a prefix.
    #[test]
    fn lines_are_found_as_written() {
        for verb in [Verb::Generate, Verb::Commit] {
            let mut line = b"2026/11/21 08:00:00 node 1: ".to_vec();
            write(&mut line, verb, "ab12", 7, 99);
            assert!(line.ends_with(b" Instance[ab12] in seq 7 at 99\n"));
            assert_eq!(find(&line), Some(InstanceLine { verb, name: b"ab12", seq: 7 }));
        }
    }

    /// The form is strict from the word on: what is torn or malformed is not an instance line.
    #[test]
    fn other_lines_are_none() {
        for (line, found) in [
            ("commit Instance[a] in seq 1 at 5", Some(("a", 1))),
            ("commit Instance[] in seq 1 at 5", Some(("", 1))),
            ("commit Instance[a] in seq x] in seq 2 at 5", Some(("a] in seq x", 2))),
            ("commit Instance[a] in seq 1 at ", None),
            ("commit Instance[a] in seq 1", None),
            ("commit Instance[a] in seq  1 at 5", None),
            ("commit Instance[a] in seq 18446744073709551616 at 5", None),
            ("commit Instance(a) in seq 1 at 5", None),
            ("Commit Instance[a] in seq 1 at 5", None),
            ("", None),
        ] {
            let parsed = find(line.as_bytes()).map(|line| (line.name, line.seq));
            assert_eq!(parsed, found.map(|(name, seq)| (name.as_bytes(), seq)), "{line}");
        }
    }
}
