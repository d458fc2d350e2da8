//! The one way in which subcommands print: results to standard output, words for people to standard error.
//!
//! A reader that has gone away (`| head`) has seen what it wanted and is no error. Anything else that keeps
//! a result from being printed, such as a full disk, is one: a command whose result nobody can have seen
//! must not succeed. (`println!` and `eprintln!` would panic, in both cases.) Left out: the log of a server,
//! which is `logfile`'s.

use std::io::{self, ErrorKind, Write};

use super::error::Error;

/// Prints a result.
pub fn print(text: &str) -> Result<(), Error> {
    write(|out| out.write_all(text.as_bytes()))
}

/// Prints a line.
pub fn print_line(text: &str) -> Result<(), Error> {
    print(&format!("{text}\n"))
}

/// Prints a result as it is made. Once the reader has gone away, nothing more of it is made.
pub fn write(make: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let made = make(&mut out).and_then(|()| out.flush());
    unless_nobody_reads(made).map_err(Error::io("print the result to standard output"))
}

/// Takes a reader that has gone away for a success.
pub fn unless_nobody_reads(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Says something on standard error, if that takes it: there is nowhere else to say that it does not.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
