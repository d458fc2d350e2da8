//! Reading, in one pass over the frame. Each item is checked as it is read, so that input that is refused in
//! the end has not cost much memory.

use std::mem::size_of;

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::consensus::message::{Body, Message, Range};
use crate::consensus::types::{Ballot, Command, Entry, Index, Kind, MAX_PAYLOAD_BYTES};

use super::check::{check_command, check_entry};
use super::error::MessageError;
use super::point::{MAX_POINTS, Point};
use super::record::{OwnedLists, Values, entry_field, field, point_field};
use super::service::Service;
use super::{PeerMessage, cluster, paxos, raft, service};

/// The most entries, commands or ranges in one message, since no window is larger. More are refused.
pub const MAX_ITEMS: usize = 65_536;

/// A decoded message, or a kind that only a newer version understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The decoded message, as sane as one message can be judged by itself.
    Message(PeerMessage),
    /// A message of this kind, which must be ignored and counted.
    UnknownKind(u64),
}

pub(super) fn decode(frame: Bytes) -> Result<Decoded, MessageError> {
    let mut values = Values::default();
    let mut lists = OwnedLists::default();
    let mut rest = &frame[..];
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest)?;
        match number {
            field::ENTRIES => {
                let item = Item::read(take_bytes(wire_type, &mut rest)?, &frame)?;
                push(&mut lists.entries, item.into_entry()?, |read| items_left(&frame, rest, read))?;
            }
            field::COMMANDS => {
                let item = Item::read(take_bytes(wire_type, &mut rest)?, &frame)?;
                push(&mut lists.commands, item.into_command()?, |read| items_left(&frame, rest, read))?;
            }
            field::RANGES => read_ranges(take_bytes(wire_type, &mut rest)?, &mut lists.ranges)?,
            field::POINTS => read_point(take_bytes(wire_type, &mut rest)?, &mut lists.points)?,
            _ => read_value(number, wire_type, &mut rest, &mut values)?,
        }
    }
    let (from, to) = (values.from, values.to);
    if let Some(body) = service::to_body(&values, &mut lists) {
        service::check(&body)?;
        return Ok(Decoded::Message(Service { from, to, body }.into()));
    }
    let Some(body) = to_body(&values, &mut lists) else { return Ok(Decoded::UnknownKind(values.kind)) };
    check_body(&body)?;
    Ok(Decoded::Message(Message { from, to, body }.into()))
}

/// The body that the fields of a record form; `None` for an unknown kind.
fn to_body(values: &Values, lists: &mut OwnedLists) -> Option<Body> {
    let cluster = cluster::to_body(values, lists).map(Body::Cluster);
    let paxos = || paxos::to_body(values, lists).map(Body::Paxos);
    cluster.or_else(paxos).or_else(|| raft::to_body(values, lists).map(Body::Raft))
}

fn check_body(body: &Body) -> Result<(), MessageError> {
    match body {
        Body::Cluster(body) => cluster::check(body),
        Body::Paxos(body) => paxos::check(body),
        Body::Raft(body) => raft::check(body),
    }
}

fn read_value(
    number: u32,
    wire_type: WireType,
    rest: &mut &[u8],
    values: &mut Values,
) -> Result<(), MessageError> {
    let place = match number {
        field::KIND => &mut values.kind,
        field::FROM => &mut values.from,
        field::TO => &mut values.to,
        field::BALLOT_ROUND => &mut values.ballot.round,
        field::BALLOT_NODE => &mut values.ballot.node,
        field::PROMISED_ROUND => &mut values.promised.round,
        field::PROMISED_NODE => &mut values.promised.node,
        field::CHOSEN => &mut values.chosen,
        field::COMPACTED => &mut values.compacted,
        field::FIRST => &mut values.first,
        field::LAST => &mut values.last,
        field::SENT_MS => &mut values.sent_ms,
        field::POSITION_INDEX => &mut values.position.index,
        field::POSITION_ROUND => &mut values.position.round,
        field::NUMBER => &mut values.number,
        field::MORE => {
            values.more = take_uint(wire_type, rest)? != 0;
            return Ok(());
        }
        field::GRANTED => {
            values.granted = take_uint(wire_type, rest)? != 0;
            return Ok(());
        }
        _ => return Ok(skip_field(wire_type, number, rest, DecodeContext::default())?),
    };
    *place = take_uint(wire_type, rest)?;
    Ok(())
}

/// An entry, or a forwarded command without index and ballot.
#[derive(Default)]
struct Item {
    index: Index,
    ballot: Ballot,
    command: Command,
}

impl Item {
    fn read(mut rest: &[u8], frame: &Bytes) -> Result<Item, MessageError> {
        let mut item = Item::default();
        let (mut session_high, mut session_low) = (0, 0);
        while rest.has_remaining() {
            let (field_number, wire_type) = decode_key(&mut rest)?;
            match field_number {
                entry_field::INDEX => item.index = take_uint(wire_type, &mut rest)?,
                entry_field::BALLOT_ROUND => item.ballot.round = take_uint(wire_type, &mut rest)?,
                entry_field::BALLOT_NODE => item.ballot.node = take_uint(wire_type, &mut rest)?,
                entry_field::SESSION_HIGH => session_high = take_fixed(wire_type, &mut rest)?,
                entry_field::SESSION_LOW => session_low = take_fixed(wire_type, &mut rest)?,
                entry_field::NUMBER => item.command.request.number = take_uint(wire_type, &mut rest)?,
                entry_field::FROM => item.command.from = take_uint(wire_type, &mut rest)?,
                entry_field::KIND => item.command.kind = take_kind(wire_type, &mut rest)?,
                entry_field::PAYLOAD => {
                    item.command.payload = take_payload(take_bytes(wire_type, &mut rest)?, frame)?;
                }
                _ => skip_field(wire_type, field_number, &mut rest, DecodeContext::default())?,
            }
        }
        item.command.request.session = (u128::from(session_high) << 64) | u128::from(session_low);
        Ok(item)
    }

    fn into_entry(self) -> Result<Entry, MessageError> {
        let entry = Entry { index: self.index, ballot: self.ballot, command: self.command };
        check_entry(&entry)?;
        Ok(entry)
    }

    fn into_command(self) -> Result<Command, MessageError> {
        check_command(&self.command)?;
        Ok(self.command)
    }
}

fn read_ranges(mut rest: &[u8], ranges: &mut Vec<Range>) -> Result<(), MessageError> {
    while rest.has_remaining() {
        let first = decode_varint(&mut rest)?;
        if !rest.has_remaining() {
            return Err(MessageError::Nonsense(format!("a range from {first} without an end")));
        }
        let range = Range { first, last: decode_varint(&mut rest)? };
        push(ranges, range, |_| rest.len() / 2)?;
    }
    Ok(())
}

fn read_point(mut rest: &[u8], points: &mut Vec<Point>) -> Result<(), MessageError> {
    if points.len() == MAX_POINTS {
        return Err(MessageError::Nonsense(format!("more than {MAX_POINTS} points in one message")));
    }
    let (mut index, mut high, mut low) = (0, 0, 0);
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest)?;
        match number {
            point_field::INDEX => index = take_uint(wire_type, &mut rest)?,
            point_field::HASH_HIGH => high = take_fixed(wire_type, &mut rest)?,
            point_field::HASH_LOW => low = take_fixed(wire_type, &mut rest)?,
            _ => skip_field(wire_type, number, &mut rest, DecodeContext::default())?,
        }
    }
    points.push(Point { index, hash: (u128::from(high) << 64) | u128::from(low) });
    Ok(())
}

/// Adds to a list of at most [`MAX_ITEMS`]. When it is full, `items_left` estimates how many items will
/// follow, given how many were read including this one. Room is made for those, and at least for half of the
/// list's length.
fn push<T>(list: &mut Vec<T>, item: T, items_left: impl FnOnce(usize) -> usize) -> Result<(), MessageError> {
    let len = list.len();
    if len == MAX_ITEMS {
        return Err(MessageError::Nonsense(format!("more than {MAX_ITEMS} items in one message")));
    }
    if len == list.capacity() {
        let wanted = items_left(len + 1).max(len / 2).saturating_add(1);
        list.reserve_exact(wanted.min(MAX_ITEMS - len));
    }
    list.push(item);
    Ok(())
}

/// How many items the list will still get, when the first `count` items of `frame` were read and `rest`
/// follows: as many of their mean size as fit. After the first item alone, no more than take twice the
/// frame's own memory.
fn items_left(frame: &Bytes, rest: &[u8], count: usize) -> usize {
    let mean = (frame.len() - rest.len()) / count;
    let least = if count == 1 { size_of::<Entry>() / 2 } else { 1 };
    rest.len() / mean.max(least)
}

fn take_kind(wire_type: WireType, rest: &mut &[u8]) -> Result<Kind, MessageError> {
    let code = take_uint(wire_type, rest)?;
    match u8::try_from(code) {
        Ok(code) => Ok(Kind::from_code(code)),
        Err(_) => {
            Err(MessageError::Nonsense(format!("a command of kind {code} where at most 255 is allowed")))
        }
    }
}

/// The payload, which shares the frame's memory.
fn take_payload(payload: &[u8], frame: &Bytes) -> Result<Bytes, MessageError> {
    match payload.len() {
        0 => Ok(Bytes::new()),
        len if len > MAX_PAYLOAD_BYTES => Err(MessageError::Nonsense(format!(
            "a payload of {len} bytes where at most {MAX_PAYLOAD_BYTES} are allowed"
        ))),
        _ => Ok(frame.slice_ref(payload)),
    }
}

fn take_bytes<'a>(wire_type: WireType, rest: &mut &'a [u8]) -> Result<&'a [u8], MessageError> {
    expect_type(wire_type, WireType::LengthDelimited)?;
    let length = decode_varint(rest)?;
    match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
        Some((bytes, later)) => {
            *rest = later;
            Ok(bytes)
        }
        None => Err(too_short(length, rest.len())),
    }
}

#[inline]
fn take_uint(wire_type: WireType, rest: &mut &[u8]) -> Result<u64, MessageError> {
    expect_type(wire_type, WireType::Varint)?;
    Ok(decode_varint(rest)?)
}

fn take_fixed(wire_type: WireType, rest: &mut &[u8]) -> Result<u64, MessageError> {
    expect_type(wire_type, WireType::SixtyFourBit)?;
    rest.try_get_u64_le().map_err(|_| too_short(8, rest.len()))
}

fn expect_type(found: WireType, expected: WireType) -> Result<(), MessageError> {
    if found != expected {
        let what = format!("a field of wire type {found:?} instead of {expected:?}");
        return Err(MessageError::Nonsense(what));
    }
    Ok(())
}

fn too_short(length: u64, left: usize) -> MessageError {
    MessageError::Nonsense(format!("a field of {length} bytes where {left} are left"))
}
