//! What nodes tell each other besides the messages of their cores: services. How they become records and are
//! read from them, and what no honest node sends in them.
//!
//! A core never sees a service message, and a service never changes what a core promised or chose. Services
//! share the connections, the record, the checks and the queue of peers' messages. The kinds of cores are 1
//! to [`MAX_CORE_KIND`]; those of services follow. No number is ever used again.

use std::fmt;
use std::mem::take;

use crate::consensus::types::NodeId;

use super::check::{check_watermark, nonsense};
use super::error::MessageError;
use super::point::{MAX_POINTS, Point};
use super::record::{OwnedLists, Values};

/// The highest number of a kind that belongs to a core.
pub const MAX_CORE_KIND: u64 = 63;

/// The numbers of these kinds.
mod kind {
    pub const PING: u64 = 64;
    pub const HASHES: u64 = 65;
    pub const HEALTH: u64 = 66;
}

/// A message between the services of two members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The node that says it; the connection makes sure that this is the peer at the other end.
    pub from: NodeId,
    /// The node that it is for.
    pub to: NodeId,
    /// What it says.
    pub body: ServiceBody,
}

/// What a service message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceBody {
    /// Nothing: it shows that the connection still carries bytes. The network thread sends and takes it.
    Ping,
    /// Values of the running hash of the log that the node delivered: at its newest mark, at its last index,
    /// and at the indexes that the receiver told last.
    Hashes {
        /// Between 2 and [`ServiceBody::MAX_POINTS`].
        points: Vec<Point>,
    },
    /// How the sender is: see `pipeline/trouble.rs`.
    Health(Trouble),
}

impl ServiceBody {
    /// The most points in one message.
    pub const MAX_POINTS: usize = MAX_POINTS;
}

/// What keeps a node from serving its clients, the lesser trouble first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Nothing that it knows of.
    #[default]
    None,
    /// Its log file takes no lines: it votes, but nobody gets an answer.
    LogFile,
    /// Its disk hangs: nothing that it promises becomes durable.
    Storage,
}

impl Trouble {
    /// Its number in a message.
    fn code(self) -> u64 {
        match self {
            Trouble::None => 0,
            Trouble::LogFile => 1,
            Trouble::Storage => 2,
        }
    }

    /// A number that only a newer version knows is taken for the worst.
    fn of_code(code: u64) -> Trouble {
        match code {
            0 => Trouble::None,
            1 => Trouble::LogFile,
            _ => Trouble::Storage,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::None => "none",
            Trouble::LogFile => "log-file",
            Trouble::Storage => "storage",
        })
    }
}

impl Service {
    /// What it takes in memory and, roughly, on the wire.
    pub fn cost_bytes(&self) -> usize {
        match &self.body {
            ServiceBody::Ping | ServiceBody::Health(_) => 64,
            ServiceBody::Hashes { points } => 64 + size_of_val(&points[..]),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} {}", self.from, self.to, self.body)
    }
}

impl fmt::Display for ServiceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceBody::Ping => f.write_str("Ping"),
            ServiceBody::Hashes { points } => {
                f.write_str("Hashes")?;
                points.iter().try_for_each(|point| write!(f, " {}={:08x}", point.index, point.hash as u32))
            }
            ServiceBody::Health(trouble) => write!(f, "Health trouble={trouble}"),
        }
    }
}

/// Returns `values` with the single fields of this kind set, and its points.
pub(super) fn to_record(body: &ServiceBody, values: Values) -> (Values, &[Point]) {
    match body {
        ServiceBody::Ping => (Values { kind: kind::PING, ..values }, &[]),
        ServiceBody::Hashes { points } => (Values { kind: kind::HASHES, ..values }, points),
        ServiceBody::Health(trouble) => {
            (Values { kind: kind::HEALTH, number: trouble.code(), ..values }, &[])
        }
    }
}

/// The body that the fields of a record form, if its kind is one of these. Fields that the kind does not use
/// are ignored.
pub(super) fn to_body(values: &Values, lists: &mut OwnedLists) -> Option<ServiceBody> {
    Some(match values.kind {
        kind::PING => ServiceBody::Ping,
        kind::HASHES => ServiceBody::Hashes { points: take(&mut lists.points) },
        kind::HEALTH => ServiceBody::Health(Trouble::of_code(values.number)),
        _ => return None,
    })
}

/// Checks a whole message.
pub(super) fn check(body: &ServiceBody) -> Result<(), MessageError> {
    match body {
        ServiceBody::Ping | ServiceBody::Health(_) => Ok(()),
        ServiceBody::Hashes { points } if points.len() < 2 => {
            nonsense(format!("{} values of the log's hash where at least 2 are sent", points.len()))
        }
        ServiceBody::Hashes { points } => points.iter().try_for_each(|point| check_watermark(point.index)),
    }
}
