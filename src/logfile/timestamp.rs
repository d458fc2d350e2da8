//! The timestamp of chosen lines: RFC 3339, UTC, with microseconds, at a few nanoseconds each.
//!
//! Formatting a date costs more than the rest of a line, so it is done once a second and only the
//! microseconds are written each time.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes timestamps, and keeps the text of the last second.
#[derive(Default)]
pub struct Timestamp {
    second: Option<u64>,
    /// As in `2026-11-21T07:39:49.`
    text: String,
}

/// The last second of the year 9999, after which RFC 3339 has no form.
const LAST_SECOND: u64 = 253_402_300_799;

impl Timestamp {
    /// Appends `2026-11-21T07:39:49.123456Z`. A clock before 1970 counts as 1970, one after 9999 as 9999.
    pub fn append(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let second = since_1970.as_secs().min(LAST_SECOND);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = text_of(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut micros = since_1970.subsec_micros();
        let mut digits = *b"000000Z";
        for digit in digits[..6].iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

fn text_of(second: u64) -> String {
    let date = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second);
    let mut text = date.format(&Rfc3339).expect("every second from 1970 to 9999 has a form");
    assert_eq!(text.pop(), Some('Z'), "UTC without a fraction ends in Z: {text}");
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_rfc_3339_with_six_digits() {
        let mut stamp = Timestamp::default();
        let mut text = |secs, micros| {
            let mut out = Vec::new();
            let since = Duration::from_secs(secs) + Duration::from_micros(micros);
            stamp.append(&mut out, SystemTime::UNIX_EPOCH + since);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_795_246_789, 123_456), "2026-11-21T07:39:49.123456Z");
        assert_eq!(text(1_795_246_789, 7), "2026-11-21T07:39:49.000007Z");
        assert_eq!(text(LAST_SECOND + 5, 999_999), "9999-12-31T23:59:59.999999Z");
        assert_eq!(text(1_795_246_790, 0), "2026-11-21T07:39:50.000000Z");
    }
}
