//! Records of the log and small values, as they lie on the disk.

use bytes::Bytes;

use crate::consensus::types::Index;
use crate::store::Identity;
use crate::store::record::{Builder, Item, Items, Record, Shape, entry_of_first_part};
use crate::store::seal::{Damage, seal};

/// One value: as it is, and once more under a correct checksum, since no fuzzer finds that. The first byte
/// says what its content is.
pub fn store_record(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else { return };
    let _ = Record::open(1, data);
    match kind % 3 {
        0 => check_record(content),
        1 => check_items(content),
        _ => check_identity(content),
    }
}

fn check_record(content: &[u8]) {
    let value = seal(&9u64.to_be_bytes(), content);
    assert_eq!(Record::open(8, &value), Err(Damage::Checksum), "under another number");
    let Ok(record) = Record::open(9, &value) else { return };
    match record.shape {
        Shape::Items(_) => check_decoded(content, 1),
        Shape::FirstPart { total, bytes } => {
            if let Ok(entry) = entry_of_first_part(total, bytes) {
                assert!(entry.index > 0 && entry.index < Index::MAX, "an entry at {}", entry.index);
            }
        }
        Shape::LaterPart { offset, bytes } => {
            assert!(offset <= 2 << 20 && bytes.len() <= content.len(), "{} bytes at {offset}", bytes.len());
        }
    }
}

fn check_items(content: &[u8]) {
    check_decoded(content, 0);
    let _ = entry_of_first_part(content.len(), content);
}

/// What can be read is built into records that say the same.
fn check_decoded(content: &[u8], start: usize) {
    let record = Bytes::copy_from_slice(content);
    let (read, _) = read_all(Items::of(&record[start..]));
    let mut builder = Builder::default();
    builder.begin(3);
    for item in &read {
        match *item {
            Item::Entry(entry) => drop(builder.entry(&entry.to_entry(&record))),
            Item::HardState(state) => drop(builder.hard_state(&state)),
            Item::Truncate(from) => drop(builder.truncate(from)),
            Item::Checkpoint { compacted, max_round, hash } => {
                builder.checkpoint(compacted, max_round, hash);
            }
            Item::Binding(node) => drop(builder.binding(node)),
            Item::Unbinding(node) => drop(builder.unbinding(node)),
        }
    }
    builder.finish();
    let mut built = vec![];
    for (number, value) in (3..).zip(builder.records()) {
        let record = Record::open(number, value).expect("it was just built");
        // Only an input of several records' size has an entry that is cut.
        let Shape::Items(items) = record.shape else { return };
        let (items, error) = read_all(items);
        assert_eq!(error, None, "a built record");
        built.extend(items);
    }
    assert_eq!(built, read, "what is built is not what was read");
}

/// The items up to the end or the first that cannot be read, and why.
fn read_all(mut items: Items<'_>) -> (Vec<Item<'_>>, Option<Damage>) {
    let mut read = vec![];
    loop {
        match items.next() {
            Ok(Some(item)) => read.push(item),
            Ok(None) => return (read, None),
            Err(damage) => return (read, Some(damage)),
        }
    }
}

fn check_identity(content: &[u8]) {
    let Ok(identity) = Identity::decode(content) else { return };
    // A founded identity is shorter: the configuration ensures that.
    if content.len() <= 4096 {
        let encoded = identity.encode();
        assert!(encoded.len() <= content.len(), "{} bytes become {}", content.len(), encoded.len());
        assert_eq!(Identity::decode(&encoded), Ok(identity), "an identity is not what is read again");
    }
}
