//! Warnings about clients, at most one of a kind in ten seconds: who floods the port does not flood the log.

use std::collections::BTreeMap;

const PAUSE_MS: u64 = 10_000;

#[derive(Default)]
pub(super) struct Warnings {
    /// By kind: when it was last logged, and how often it was not since.
    kinds: BTreeMap<&'static str, (u64, u64)>,
}

impl Warnings {
    /// Logs `text`, or counts it.
    pub(super) fn warn(&mut self, kind: &'static str, now_ms: u64, text: impl FnOnce() -> String) {
        if let Some(left_out) = self.admit(kind, now_ms) {
            match left_out {
                0 => log::warn!("{}", text()),
                _ => log::warn!("{} (and {left_out} like it since the last one)", text()),
            }
        }
    }

    /// Whether one may be logged now, and then how many were left out before it.
    fn admit(&mut self, kind: &'static str, now_ms: u64) -> Option<u64> {
        match self.kinds.get_mut(kind) {
            Some((last_ms, left_out)) if now_ms < last_ms.saturating_add(PAUSE_MS) => {
                *left_out += 1;
                None
            }
            _ => Some(self.kinds.insert(kind, (now_ms, 0)).map_or(0, |(_, left_out)| left_out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule: one of a kind in ten seconds, and none is left uncounted.
    #[test]
    fn a_flood_is_counted_instead_of_logged() {
        let mut warnings = Warnings::default();
        assert_eq!(warnings.admit("a", 0), Some(0));
        assert_eq!(warnings.admit("a", 9_999), None);
        assert_eq!(warnings.admit("b", 9_999), Some(0));
        assert_eq!(warnings.admit("a", 9_999), None);
        assert_eq!(warnings.admit("a", 10_000), Some(2));
        assert_eq!(warnings.admit("a", 20_000), Some(0));
    }
}
