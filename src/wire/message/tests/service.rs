//! The kinds of services: drawn and recorded.

use proptest::prelude::*;

use crate::wire::message::{ServiceBody, Trouble};

pub fn bodies() -> impl Strategy<Value = ServiceBody> {
    let troubles = vec![Trouble::None, Trouble::LogFile, Trouble::Storage];
    prop_oneof![Just(ServiceBody::Ping), prop::sample::select(troubles).prop_map(ServiceBody::Health)]
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(ServiceBody, &'static str)> {
    vec![(ServiceBody::Ping, "084010011802"), (ServiceBody::Health(Trouble::Storage), "084210011802a00102")]
}
