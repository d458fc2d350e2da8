//! Writing, straight into a connection's out-buffer. The small fields of a record or an entry are gathered on
//! the stack, since appending them one by one to a growable buffer costs more than everything else.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::consensus::message::{Body, Message, Range};
use crate::consensus::types::{Command, Entry};
use crate::wire::frame::{FrameError, encode_frame};

use super::point::Point;
use super::record::{BorrowedLists, Values, entry_field, field, point_field};
use super::service::Service;
use super::{cluster, paxos, raft, service};

/// A key of at most 2 bytes and a varint of at most 10, for each of the 17 single fields of a record.
const MAX_VALUES_BYTES: usize = 17 * 12;

/// The 9 fields of an entry without its payload.
const MAX_ENTRY_HEAD_BYTES: usize = 9 * 11;

/// The 3 fields of a point.
const MAX_POINT_BYTES: usize = 3 * 11;

pub(super) fn encode(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let (values, lists) = to_record(message);
    encode_frame(out, |out| {
        put_values(&values, out);
        for entry in lists.entries {
            put_item(field::ENTRIES, Some(entry), &entry.command, out);
        }
        for command in lists.commands {
            put_item(field::COMMANDS, None, command, out);
        }
        put_ranges(lists.ranges, out);
    })
}

pub(super) fn encode_service(service: &Service, out: &mut BytesMut) -> Result<(), FrameError> {
    let values = Values { from: service.from, to: service.to, ..Values::default() };
    let (values, points) = service::to_record(&service.body, values);
    encode_frame(out, |out| {
        put_values(&values, out);
        points.iter().for_each(|point| put_point(point, out));
    })
}

fn to_record(message: &Message) -> (Values, BorrowedLists<'_>) {
    let values = Values { from: message.from, to: message.to, ..Values::default() };
    match &message.body {
        Body::Cluster(body) => cluster::to_record(body, values),
        Body::Paxos(body) => paxos::to_record(body, values),
        Body::Raft(body) => raft::to_record(body, values),
    }
}

fn put_values(values: &Values, out: &mut BytesMut) {
    let mut head = [0; MAX_VALUES_BYTES];
    let mut rest = &mut head[..];
    for (number, value) in [
        (field::KIND, values.kind),
        (field::FROM, values.from),
        (field::TO, values.to),
        (field::BALLOT_ROUND, values.ballot.round),
        (field::BALLOT_NODE, values.ballot.node),
        (field::PROMISED_ROUND, values.promised.round),
        (field::PROMISED_NODE, values.promised.node),
        (field::CHOSEN, values.chosen),
        (field::COMPACTED, values.compacted),
        (field::FIRST, values.first),
        (field::LAST, values.last),
        (field::SENT_MS, values.sent_ms),
        (field::MORE, u64::from(values.more)),
        (field::GRANTED, u64::from(values.granted)),
        (field::POSITION_INDEX, values.position.index),
        (field::POSITION_ROUND, values.position.round),
        (field::NUMBER, values.number),
    ] {
        put_uint(number, value, &mut rest);
    }
    let used = MAX_VALUES_BYTES - rest.len();
    out.extend_from_slice(&head[..used]);
}

/// Writes an entry, or a command alone if `entry` is `None`.
#[inline]
fn put_item(number: u32, entry: Option<&Entry>, command: &Command, out: &mut BytesMut) {
    let mut head = [0; MAX_ENTRY_HEAD_BYTES];
    let mut rest = &mut head[..];
    if let Some(entry) = entry {
        put_uint(entry_field::INDEX, entry.index, &mut rest);
        put_uint(entry_field::BALLOT_ROUND, entry.ballot.round, &mut rest);
        put_uint(entry_field::BALLOT_NODE, entry.ballot.node, &mut rest);
    }
    put_fixed(entry_field::SESSION_HIGH, (command.request.session >> 64) as u64, &mut rest);
    put_fixed(entry_field::SESSION_LOW, command.request.session as u64, &mut rest);
    put_uint(entry_field::NUMBER, command.request.number, &mut rest);
    put_uint(entry_field::FROM, command.from, &mut rest);
    put_uint(entry_field::KIND, u64::from(command.kind.code()), &mut rest);
    if !command.payload.is_empty() {
        encode_key(entry_field::PAYLOAD, WireType::LengthDelimited, &mut rest);
        encode_varint(command.payload.len() as u64, &mut rest);
    }
    let used = MAX_ENTRY_HEAD_BYTES - rest.len();
    put_length(number, used + command.payload.len(), out);
    out.extend_from_slice(&head[..used]);
    out.extend_from_slice(&command.payload);
}

fn put_ranges(ranges: &[Range], out: &mut BytesMut) {
    if ranges.is_empty() {
        return;
    }
    let numbers = || ranges.iter().flat_map(|range| [range.first, range.last]);
    put_length(field::RANGES, numbers().map(encoded_len_varint).sum(), out);
    for number in numbers() {
        encode_varint(number, out);
    }
}

fn put_point(point: &Point, out: &mut BytesMut) {
    let mut head = [0; MAX_POINT_BYTES];
    let mut rest = &mut head[..];
    put_uint(point_field::INDEX, point.index, &mut rest);
    put_fixed(point_field::HASH_HIGH, (point.hash >> 64) as u64, &mut rest);
    put_fixed(point_field::HASH_LOW, point.hash as u64, &mut rest);
    let used = MAX_POINT_BYTES - rest.len();
    put_length(field::POINTS, used, out);
    out.extend_from_slice(&head[..used]);
}

/// The key and length of something whose bytes follow.
fn put_length(number: u32, length: usize, out: &mut BytesMut) {
    let mut head = [0; 12];
    let mut rest = &mut head[..];
    encode_key(number, WireType::LengthDelimited, &mut rest);
    encode_varint(length as u64, &mut rest);
    let used = 12 - rest.len();
    out.extend_from_slice(&head[..used]);
}

/// Zero is protobuf's default and takes no bytes.
#[inline]
fn put_uint(number: u32, value: u64, rest: &mut &mut [u8]) {
    if value != 0 {
        encode_key(number, WireType::Varint, rest);
        encode_varint(value, rest);
    }
}

#[inline]
fn put_fixed(number: u32, value: u64, rest: &mut &mut [u8]) {
    if value != 0 {
        encode_key(number, WireType::SixtyFourBit, rest);
        rest.put_u64_le(value);
    }
}
