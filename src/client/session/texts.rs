//! The exact texts of a session's errors: code, reqid, what was wrong, what to do.
//!
//! `ERR`, `BUSY`, `TOOLARGE` and `TRYAGAIN` mean that the value was certainly not proposed (or, if its reqid
//! was delivered with a different value, certainly not delivered); `TIMEOUT` means that nothing is known.

use super::OUTSTANDING_OF_ALL;
use crate::client::command::{self, Quoted};
use crate::client::splitter::{Arguments, ProtocolError};
use crate::consensus::types::{Index, NodeId};

pub(super) fn other_value(reqid: u64, index: Index) -> String {
    format!("ERR reqid={reqid} stands at index {index} with a different value; use a new reqid")
}

pub(super) fn busy(reqid: u64, why: &str) -> String {
    format!("BUSY reqid={reqid} not proposed: {why}; send it again later")
}

pub(super) fn busy_port(reqid: u64) -> String {
    busy(reqid, &format!("{OUTSTANDING_OF_ALL} requests from clients are under way here"))
}

pub(super) fn try_again(reqid: u64, leader: Option<&(NodeId, String)>) -> String {
    let whom = match leader {
        Some((node, address)) => format!("node {node} at {}, which leads", Quoted::new(address.as_bytes())),
        None => "another node".to_owned(),
    };
    format!("TRYAGAIN reqid={reqid} not proposed: this node takes no proposals now; send it to {whom}")
}

pub(super) fn timeout(reqid: u64, when: &str) -> String {
    format!(
        "TIMEOUT reqid={reqid} not known to be delivered {when}; it may be delivered later: \
         send the same reqid and value again, or ask AWAIT {reqid}"
    )
}

pub(super) fn incomplete(seconds: u64) -> String {
    format!("ERR the request was not complete after {seconds} s; closing the connection")
}

pub(super) const UNBALANCED: &str = "ERR Protocol error: unbalanced quotes in request";

/// The last reply before the connection is closed. If a value was far too long, it names the reqid.
pub(super) fn refusal(error: ProtocolError, arguments: &Arguments) -> String {
    match (error, reqid_of_prop(arguments)) {
        (ProtocolError::TooLarge(_), Some(reqid)) => {
            format!("TOOLARGE reqid={reqid} {error}; closing the connection")
        }
        (ProtocolError::TooLarge(_), None) => format!("TOOLARGE {error}; closing the connection"),
        _ => format!("ERR {error}; closing the connection"),
    }
}

/// The reqid of a `PROP` whose reqid is well-formed.
pub(super) fn reqid_of_prop(arguments: &Arguments) -> Option<u64> {
    arguments.at(1).filter(|_| is_prop(arguments)).and_then(|text| command::reqid(text).ok())
}

/// Whether the request is a `PROP`, well-formed or not.
pub(super) fn is_prop(arguments: &Arguments) -> bool {
    arguments.at(0).is_some_and(|name| name.eq_ignore_ascii_case(b"PROP"))
}
