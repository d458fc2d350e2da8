//! The kinds of services: drawn and recorded.

use proptest::prelude::*;

use super::samples::watermarks;
use crate::wire::message::{Point, ServiceBody, Trouble};

pub fn bodies() -> impl Strategy<Value = ServiceBody> {
    let point = (watermarks(), any::<u128>()).prop_map(|(index, hash)| Point { index, hash });
    let troubles = vec![Trouble::None, Trouble::LogFile, Trouble::Storage];
    prop_oneof![
        Just(ServiceBody::Ping),
        prop::collection::vec(point, 2..=ServiceBody::MAX_POINTS)
            .prop_map(|points| ServiceBody::Hashes { points }),
        prop::sample::select(troubles).prop_map(ServiceBody::Health),
    ]
}

/// Each kind, and the frame that nodes have written for it since it was introduced, in hexadecimal digits.
pub fn recorded() -> Vec<(ServiceBody, &'static str)> {
    let points = vec![Point { index: 4096, hash: 0x11 << 64 | 0x22 }, Point { index: 5000, hash: 7 }];
    vec![
        (ServiceBody::Ping, "084010011802"),
        (
            ServiceBody::Hashes { points },
            "084110011802aa0115088020111100000000000000192200000000000000aa010c088827190700000000000000",
        ),
        (ServiceBody::Health(Trouble::Storage), "084210011802a00102"),
    ]
}
