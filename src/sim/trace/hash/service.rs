//! The name and the digest of the kinds of service messages.

use super::numbers::Numbers;
use crate::wire::message::ServiceBody;

pub(super) fn name(body: &ServiceBody) -> &'static str {
    match body {
        ServiceBody::Ping => "Ping",
        ServiceBody::Hashes { .. } => "Hashes",
        ServiceBody::Health(_) => "Health",
    }
}

/// All fields, in an order that never changes.
pub(super) fn feed(body: &ServiceBody, out: &mut Numbers) {
    match body {
        ServiceBody::Ping => {}
        ServiceBody::Hashes { points } => {
            for point in points {
                out.numbers(&[point.index, (point.hash >> 64) as u64, point.hash as u64]);
            }
        }
        ServiceBody::Health(trouble) => out.number(*trouble as u64),
    }
}
