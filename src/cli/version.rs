//! What `--version` says: package, commit and the formats this program reads and writes.

use std::sync::LazyLock;

use crate::store::FORMAT;
use crate::wire::hello::WIRE_VERSION;

/// The commit that the program was built from, or "unknown"; see `build.rs`.
pub const COMMIT: &str = env!("SPAXOS_COMMIT");

/// `0.1.0 (commit 0123456789ab, wire format 1, store format 1)`
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (commit {COMMIT}, wire format {WIRE_VERSION}, store format {FORMAT})",
            env!("CARGO_PKG_VERSION")
        )
    });
    &TEXT
}
