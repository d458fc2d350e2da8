//! What the simulator imports, directly or not, runs wherever its code is compiled to, a browser included: it
//! has no files, threads, sockets, processes or clock of its own.

use super::imports::Imports;
use super::source::Source;

/// What such a file must not name: modules of the standard library, and packages that call the system.
const REFUSED: [&str; 13] = [
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "getrandom",
    "mio",
    "rustix",
    "signal_hook",
    "sled",
    "tempfile",
];

/// Each name of [`REFUSED`] in a file that the simulator imports, in words.
pub fn impure(sources: &[Source]) -> Vec<String> {
    let imports = Imports::of(sources);
    let mut found = Vec::new();
    for file in imports.reached_from("sim") {
        let name = file.path.to_str().expect("a path in UTF-8");
        let paths = file.outside_paths(&REFUSED);
        found.extend(paths.into_iter().map(|path| format!("{name}: {path}")));
    }
    found.dedup();
    found
}
