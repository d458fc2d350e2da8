//! The kinds of services: drawn and recorded.

use proptest::prelude::*;

use crate::wire::message::ServiceBody;

pub fn bodies() -> impl Strategy<Value = ServiceBody> {
    prop_oneof![Just(ServiceBody::Ping)]
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(ServiceBody, &'static str)> {
    vec![(ServiceBody::Ping, "084010011802")]
}
