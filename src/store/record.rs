//! The layout of the log on the disk: numbered records of at most 7 KiB, packed with items.
//!
//! | bytes of a record | |
//! | --- | --- |
//! | 5 | format version, and checksum over number and content: see `seal.rs` |
//! | 1 | shape (items, first part, later part), and whether more records of the same write follow |
//! | … | items one after the other, or a part of one item that is larger than a record |
//!
//! Later records win over earlier ones, and so do later items in the same record. Reading never panics and
//! never allocates by a length that it has not checked.

use bytes::Bytes;

use crate::consensus::types::{
    Ballot, Command, Entry, HardState, Index, Kind, MAX_PAYLOAD_BYTES, NodeId, RequestId, Round,
};

use super::engine::MAX_VALUE_BYTES;
use super::seal::{Cursor, Damage, FORMAT, SEAL_BYTES, put_varint, seal_in_place, unseal};

const HEADER_BYTES: usize = SEAL_BYTES + 1;
const ROOM_BYTES: usize = MAX_VALUE_BYTES - HEADER_BYTES;
/// More than any item takes without its payload.
const ITEM_HEAD_MAX_BYTES: usize = 128;
/// What precedes a first or later part: its total length or its offset.
const PART_HEAD_MAX_BYTES: usize = 4;

const SHAPE_ITEMS: u8 = 0;
const SHAPE_FIRST_PART: u8 = 1;
const SHAPE_LATER_PART: u8 = 2;
const FLAG_MORE: u8 = 0x80;

const ITEM_ENTRY: u8 = 1;
const ITEM_HARD_STATE: u8 = 2;
const ITEM_TRUNCATE: u8 = 3;
const ITEM_CHECKPOINT: u8 = 4;
const ITEM_BINDING: u8 = 5;
const ITEM_UNBINDING: u8 = 6;

/// An item of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An entry.
    Entry(EntryRef<'a>),
    /// Replaces the hard state before it.
    HardState(HardState),
    /// Entries from this index on, in all items before this one, are void.
    Truncate(Index),
    /// Written before records are deleted, to keep what would be lost with them.
    Checkpoint {
        /// Entries up to this index are no longer kept.
        compacted: Index,
        /// The highest round ever stored.
        max_round: Round,
        /// The running hash of the log up to there.
        hash: u128,
    },
    /// A binding was put along with this record, which has a number, so that a lost binding is noticed.
    Binding(NodeId),
    /// The peer's binding was taken away along with this record: earlier items of it no longer count.
    Unbinding(NodeId),
}

/// An entry whose payload is still in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// See [`Entry`].
    pub index: Index,
    /// See [`Entry`].
    pub ballot: Ballot,
    request: RequestId,
    from: NodeId,
    kind: Kind,
    payload: &'a [u8],
}

impl EntryRef<'_> {
    /// The entry. Its payload shares the memory of `record`, from which it was read.
    pub fn to_entry(self, record: &Bytes) -> Entry {
        let payload = if self.payload.is_empty() { Bytes::new() } else { record.slice_ref(self.payload) };
        let command = Command { request: self.request, from: self.from, kind: self.kind, payload };
        Entry { index: self.index, ballot: self.ballot, command }
    }
}

/// The records of one write, built in one buffer that is kept for the next.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    /// Where each record begins.
    starts: Vec<usize>,
    /// The number of the first record.
    first: u64,
    /// Whether items may be added to the last record.
    open: bool,
    head: Vec<u8>,
}

impl Builder {
    /// Forgets the previous write, and begins one whose first record has this number.
    pub fn begin(&mut self, first: u64) {
        self.bytes.clear();
        self.starts.clear();
        self.first = first;
        self.open = false;
        // The memory of a huge write must not be held forever.
        self.bytes.shrink_to(1 << 20);
    }

    /// Adds an entry and returns the record in which it begins.
    pub fn entry(&mut self, entry: &Entry) -> u64 {
        let payload = &entry.command.payload;
        assert!(
            payload.len() <= MAX_PAYLOAD_BYTES,
            "entry {} has {} bytes, at most {MAX_PAYLOAD_BYTES} are allowed",
            entry.index,
            payload.len()
        );
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        encode_entry_head(entry, &mut head);
        let number = if head.len() + payload.len() <= ROOM_BYTES {
            let number = self.room_for(head.len() + payload.len());
            self.bytes.extend_from_slice(&head);
            self.bytes.extend_from_slice(payload);
            number
        } else {
            self.parts(&head, payload)
        };
        self.head = head;
        number
    }

    /// Adds a hard state and returns the record that holds it.
    pub fn hard_state(&mut self, state: &HardState) -> u64 {
        self.small(ITEM_HARD_STATE, &[state.promised.round, state.promised.node, state.chosen])
    }

    /// Adds [`Item::Truncate`].
    pub fn truncate(&mut self, from: Index) -> u64 {
        self.small(ITEM_TRUNCATE, &[from])
    }

    /// Adds [`Item::Checkpoint`].
    pub fn checkpoint(&mut self, compacted: Index, max_round: Round, hash: u128) -> u64 {
        self.small(ITEM_CHECKPOINT, &[compacted, max_round, (hash >> 64) as u64, hash as u64])
    }

    /// Adds [`Item::Binding`].
    pub fn binding(&mut self, node: NodeId) -> u64 {
        self.small(ITEM_BINDING, &[node])
    }

    /// Adds [`Item::Unbinding`].
    pub fn unbinding(&mut self, node: NodeId) -> u64 {
        self.small(ITEM_UNBINDING, &[node])
    }

    /// Seals the records.
    pub fn finish(&mut self) {
        for at in 0..self.starts.len() {
            let range = self.range(at);
            let more = at + 1 < self.starts.len();
            let record = &mut self.bytes[range];
            record[SEAL_BYTES] |= if more { FLAG_MORE } else { 0 };
            seal_in_place(&(self.first + at as u64).to_be_bytes(), record);
        }
    }

    /// The sealed records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.starts.len()).map(|at| &self.bytes[self.range(at)])
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.starts.len() as u64
    }

    fn small(&mut self, item: u8, numbers: &[u64]) -> u64 {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        head.push(item);
        for number in numbers {
            put_varint(&mut head, *number);
        }
        let number = self.room_for(head.len());
        self.bytes.extend_from_slice(&head);
        self.head = head;
        number
    }

    /// Makes sure that the last record has room for an item, and returns its number.
    fn room_for(&mut self, item_bytes: usize) -> u64 {
        let used = self.starts.last().map_or(0, |start| self.bytes.len() - start);
        if !self.open || used + item_bytes > MAX_VALUE_BYTES {
            self.start_record(SHAPE_ITEMS);
            self.open = true;
        }
        self.first + self.len() - 1
    }

    /// Adds an item that is larger than a record, in parts.
    fn parts(&mut self, head: &[u8], payload: &[u8]) -> u64 {
        let total = head.len() + payload.len();
        let number = self.first + self.len();
        self.start_record(SHAPE_FIRST_PART);
        put_varint(&mut self.bytes, total as u64);
        self.bytes.extend_from_slice(head);
        let mut done = ROOM_BYTES - PART_HEAD_MAX_BYTES - head.len();
        self.bytes.extend_from_slice(&payload[..done]);
        while done < payload.len() {
            let length = (payload.len() - done).min(ROOM_BYTES - PART_HEAD_MAX_BYTES);
            self.start_record(SHAPE_LATER_PART);
            put_varint(&mut self.bytes, (head.len() + done) as u64);
            self.bytes.extend_from_slice(&payload[done..done + length]);
            done += length;
        }
        self.open = false;
        number
    }

    fn start_record(&mut self, shape: u8) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[FORMAT, 0, 0, 0, 0, shape]);
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        self.starts[at]..self.starts.get(at + 1).copied().unwrap_or(self.bytes.len())
    }
}

/// An opened record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it holds.
    pub shape: Shape<'a>,
    /// Whether the next record belongs to the same write.
    pub more: bool,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Whole items.
    Items(Items<'a>),
    /// The beginning of an item.
    FirstPart {
        /// How long the whole item is.
        total: usize,
        /// Its first bytes.
        bytes: &'a [u8],
    },
    /// More of the item that began in an earlier record.
    LaterPart {
        /// The offset in the item at which this part begins.
        offset: usize,
        /// Its bytes from there on.
        bytes: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// Checks and opens the record of this number.
    pub fn open(number: u64, value: &'a [u8]) -> Result<Record<'a>, Damage> {
        let mut input = Cursor(unseal(&number.to_be_bytes(), value)?);
        let shape = input.byte()?;
        let more = shape & FLAG_MORE != 0;
        let shape = match shape & !FLAG_MORE {
            SHAPE_ITEMS => Shape::Items(Items(input)),
            SHAPE_FIRST_PART => {
                let total = input.length(ITEM_HEAD_MAX_BYTES + MAX_PAYLOAD_BYTES)?;
                Shape::FirstPart { total, bytes: input.0 }
            }
            SHAPE_LATER_PART => {
                let offset = input.length(ITEM_HEAD_MAX_BYTES + MAX_PAYLOAD_BYTES)?;
                Shape::LaterPart { offset, bytes: input.0 }
            }
            _ => return Err(Damage::Malformed("it is neither items nor a part of one")),
        };
        Ok(Record { shape, more })
    }
}

/// The items of a record, or of the parts of one put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items<'a>(Cursor<'a>);

impl<'a> Items<'a> {
    /// The items in these bytes.
    pub fn of(bytes: &'a [u8]) -> Items<'a> {
        Items(Cursor(bytes))
    }

    /// The next item, `None` at the end.
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Damage> {
        if self.0.0.is_empty() {
            return Ok(None);
        }
        let input = &mut self.0;
        Ok(Some(match input.byte()? {
            ITEM_ENTRY => {
                let (mut entry, length) = decode_entry_head(input)?;
                entry.payload = input.take(length)?;
                Item::Entry(entry)
            }
            ITEM_HARD_STATE => {
                let promised = Ballot { round: input.varint()?, node: input.varint()? };
                Item::HardState(HardState { promised, chosen: input.varint()? })
            }
            ITEM_TRUNCATE => Item::Truncate(input.varint()?),
            ITEM_CHECKPOINT => {
                let (compacted, max_round) = (input.varint()?, input.varint()?);
                let hash = (u128::from(input.varint()?) << 64) | u128::from(input.varint()?);
                Item::Checkpoint { compacted, max_round, hash }
            }
            ITEM_BINDING => Item::Binding(input.varint()?),
            ITEM_UNBINDING => Item::Unbinding(input.varint()?),
            _ => return Err(Damage::Malformed("it holds an item of unknown kind")),
        }))
    }
}

/// The entry that begins in a first part, without its payload. The head of an entry is never cut.
pub fn entry_of_first_part(total: usize, bytes: &[u8]) -> Result<EntryRef<'static>, Damage> {
    let mut input = Cursor(bytes);
    if input.byte()? != ITEM_ENTRY {
        return Err(Damage::Malformed("an item other than an entry is cut into parts"));
    }
    let (entry, length) = decode_entry_head(&mut input)?;
    if bytes.len() - input.0.len() + length != total {
        return Err(Damage::Malformed("the parts of an entry do not add up to its length"));
    }
    Ok(entry)
}

fn encode_entry_head(entry: &Entry, out: &mut Vec<u8>) {
    let Command { request, from, kind, payload } = &entry.command;
    let has_session = request.session != 0;
    out.extend_from_slice(&[ITEM_ENTRY, u8::from(has_session), kind.code()]);
    for number in [entry.index, entry.ballot.round, entry.ballot.node, *from, request.number] {
        put_varint(out, number);
    }
    if has_session {
        out.extend_from_slice(&request.session.to_le_bytes());
    }
    put_varint(out, payload.len() as u64);
    assert!(out.len() <= ITEM_HEAD_MAX_BYTES, "the head of an entry takes {} bytes", out.len());
}

/// An entry without its payload, and the length of the payload.
fn decode_entry_head(input: &mut Cursor<'_>) -> Result<(EntryRef<'static>, usize), Damage> {
    let has_session = match input.byte()? {
        0 => false,
        1 => true,
        _ => return Err(Damage::Malformed("an entry has unknown flags")),
    };
    let kind = Kind::from_code(input.byte()?);
    let index = input.varint()?;
    let ballot = Ballot { round: input.varint()?, node: input.varint()? };
    let from = input.varint()?;
    let number = input.varint()?;
    let session = if has_session { u128::from_le_bytes(input.array()?) } else { 0 };
    let length = input.length(MAX_PAYLOAD_BYTES)?;
    if index == 0 || index == Index::MAX {
        return Err(Damage::Malformed("an entry has an impossible index"));
    }
    let request = RequestId { session, number };
    Ok((EntryRef { index, ballot, request, from, kind, payload: &[] }, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(index: Index, session: u128, payload: Vec<u8>) -> Entry {
        let request = RequestId { session, number: u64::MAX };
        let command = Command { request, from: 3, kind: Kind::Value, payload: payload.into() };
        Entry { index, ballot: Ballot { round: 1 << 40, node: 2 }, command }
    }

    /// All items of a write, reassembled.
    fn read_back(builder: &Builder) -> Vec<Result<Entry, Item<'static>>> {
        let mut out = vec![];
        let mut parts: Vec<u8> = vec![];
        let mut total_bytes = 0;
        for (number, value) in (builder.first..).zip(builder.records()) {
            assert!(value.len() <= MAX_VALUE_BYTES, "a record of {} bytes", value.len());
            let record = Record::open(number, value).unwrap();
            match record.shape {
                Shape::Items(items) => collect(items, &Bytes::copy_from_slice(value), &mut out),
                Shape::FirstPart { total, bytes } => {
                    entry_of_first_part(total, bytes).unwrap();
                    (parts, total_bytes) = (bytes.to_vec(), total);
                }
                Shape::LaterPart { offset, bytes } => {
                    assert_eq!(offset, parts.len());
                    parts.extend_from_slice(bytes);
                }
            }
            if total_bytes > 0 && parts.len() == total_bytes {
                let whole = Bytes::from(std::mem::take(&mut parts));
                total_bytes = 0;
                collect(Items::of(&whole.clone()), &whole, &mut out);
            }
        }
        out
    }

    fn collect(items: Items<'_>, record: &Bytes, out: &mut Vec<Result<Entry, Item<'static>>>) {
        // These are the same bytes, but in `record`.
        let at = record.len() - items.0.0.len();
        let mut items = Items::of(&record[at..]);
        while let Some(item) = items.next().unwrap() {
            out.push(match item {
                Item::Entry(entry) => Ok(entry.to_entry(record)),
                Item::HardState(state) => Err(Item::HardState(state)),
                Item::Truncate(from) => Err(Item::Truncate(from)),
                Item::Checkpoint { compacted, max_round, hash } => {
                    Err(Item::Checkpoint { compacted, max_round, hash })
                }
                Item::Binding(node) => Err(Item::Binding(node)),
                Item::Unbinding(node) => Err(Item::Unbinding(node)),
            });
        }
    }

    proptest! {
        /// What is built is read back, in order, from records of at most 7 KiB, whatever the payloads.
        #[test]
        fn what_is_built_is_read_back(
            sizes in prop::collection::vec(prop_oneof![0usize..300, 6900usize..7300, 0usize..40_000], 1..40),
            session: u128,
            first in 1u64..1 << 60,
        ) {
            let mut builder = Builder::default();
            builder.begin(first);
            let state = HardState { promised: Ballot { round: u64::MAX, node: 1 }, chosen: 7 };
            let mut expected = vec![Err(Item::HardState(state)), Err(Item::Truncate(5))];
            builder.hard_state(&state);
            builder.truncate(5);
            for (at, size) in sizes.iter().enumerate() {
                let entry = entry(at as u64 + 1, session, vec![at as u8; *size]);
                builder.entry(&entry);
                expected.push(Ok(entry));
            }
            builder.checkpoint(3, 9, session);
            expected.push(Err(Item::Checkpoint { compacted: 3, max_round: 9, hash: session }));
            builder.binding(2);
            builder.unbinding(u64::MAX);
            expected.extend([Err(Item::Binding(2)), Err(Item::Unbinding(u64::MAX))]);
            builder.finish();
            prop_assert_eq!(read_back(&builder), expected);
        }

        /// Arbitrary bytes are refused or read, without a panic. A flipped bit is always refused.
        #[test]
        fn damage_is_found(bytes in prop::collection::vec(any::<u8>(), 0..200), bit: usize, size in 0usize..600) {
            let _ = Record::open(1, &bytes);
            let mut items = Items::of(&bytes);
            while let Ok(Some(_)) = items.next() {}
            let _ = entry_of_first_part(bytes.len(), &bytes);

            let mut builder = Builder::default();
            builder.begin(4);
            builder.entry(&entry(1, 0, vec![7; size]));
            builder.finish();
            let value = builder.records().next().unwrap();
            prop_assert!(Record::open(4, value).is_ok());
            prop_assert_eq!(Record::open(5, value), Err(Damage::Checksum));
            let mut flipped = value.to_vec();
            let bit = bit % (flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::open(4, &flipped), Err(Damage::Checksum));
        }
    }

    #[test]
    fn a_payload_of_the_maximum_passes() {
        let mut builder = Builder::default();
        builder.begin(1);
        let entry = entry(1, 1, vec![5; MAX_PAYLOAD_BYTES]);
        assert_eq!(builder.entry(&entry), 1);
        builder.finish();
        assert_eq!(read_back(&builder), [Ok(entry)]);
    }
}
