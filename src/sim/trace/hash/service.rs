//! The name and the digest of the kinds of service messages.

use super::numbers::Numbers;
use crate::wire::message::ServiceBody;

pub(super) fn name(body: &ServiceBody) -> &'static str {
    match body {
        ServiceBody::Ping => "Ping",
    }
}

/// All fields, in an order that never changes.
pub(super) fn feed(body: &ServiceBody, _out: &mut Numbers) {
    match body {
        ServiceBody::Ping => {}
    }
}
