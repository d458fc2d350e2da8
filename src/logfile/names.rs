//! The names next to a log file under which its rotation works.

use std::path::{Path, PathBuf};

/// The end of the name under which a rotation makes the new file.
pub const NEW: &str = "new";

/// The name of a rotated file.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    beside(path, &number.to_string())
}

/// The name of a file next to this one.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
