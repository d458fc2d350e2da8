//! What `--version` says: package, commit and the formats this program reads and writes.

use std::sync::LazyLock;

/// The commit that the program was built from, or "unknown"; see `build.rs`.
pub const COMMIT: &str = env!("SPAXOS_COMMIT");

/// The format of peers' frames.
const WIRE_FORMAT: u32 = 1;
/// The format of data directories.
const STORE_FORMAT: u32 = 1;

/// `0.1.0 (commit 0123456789ab, wire format 1, store format 1)`
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (commit {COMMIT}, wire format {WIRE_FORMAT}, store format {STORE_FORMAT})",
            env!("CARGO_PKG_VERSION")
        )
    });
    &TEXT
}
