//! Whose data directory it is. This is written once, when the directory is founded, and compared at every
//! later start.

use std::collections::BTreeMap;
use std::path::Path;

use crate::consensus::types::NodeId;

use super::error::OpenError;
use super::seal::{Cursor, Damage, FORMAT, FORMAT_LOWEST, put_varint};
use super::types::{DirectoryId, Founding};

/// The longest name, address or list in an identity.
const MAX_BYTES: usize = 4096;

/// What a data directory records about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format it was founded with.
    pub format: u64,
    /// The lowest format whose versions can read it.
    pub lowest: u64,
    /// The random id made with the directory.
    pub directory: DirectoryId,
    /// What it was founded with.
    pub founding: Founding,
}

impl Identity {
    /// The identity of a directory that is founded now.
    pub fn new(directory: DirectoryId, founding: Founding) -> Identity {
        Identity { format: u64::from(FORMAT), lowest: u64::from(FORMAT_LOWEST), directory, founding }
    }

    /// Checks that this version can read the directory, and that it is the one the configuration describes.
    pub fn check(&self, path: &Path, configured: &Founding) -> Result<(), OpenError> {
        let (recorded, directory) = (&self.founding, path.to_path_buf());
        if self.lowest > u64::from(FORMAT) {
            let (format, lowest) = (self.format, self.lowest);
            return Err(OpenError::Newer { directory, format, lowest, ours: u64::from(FORMAT) });
        }
        let pairs = [
            ("cluster", recorded.cluster.clone(), configured.cluster.clone()),
            ("node", recorded.node.to_string(), configured.node.to_string()),
            ("protocol", recorded.protocol.clone(), configured.protocol.clone()),
            ("delivery window", recorded.delivery_window.to_string(), configured.delivery_window.to_string()),
        ];
        if let Some((what, recorded, configured)) = pairs.into_iter().find(|(_, old, new)| old != new) {
            return Err(OpenError::Foreign { directory, what, recorded, configured });
        }
        if !recorded.members.keys().eq(configured.members.keys()) {
            let (recorded, configured) = (show(&recorded.members), show(&configured.members));
            return Err(OpenError::Voters { directory, recorded, configured });
        }
        Ok(())
    }

    /// The identity as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let Founding { cluster, node, protocol, members, delivery_window } = &self.founding;
        let mut out = vec![];
        put_varint(&mut out, self.format);
        put_varint(&mut out, self.lowest);
        out.extend_from_slice(&self.directory.to_le_bytes());
        put_text(&mut out, cluster);
        put_varint(&mut out, *node);
        put_text(&mut out, protocol);
        put_varint(&mut out, *delivery_window);
        put_varint(&mut out, members.len() as u64);
        for (node, address) in members {
            put_varint(&mut out, *node);
            put_text(&mut out, address);
        }
        assert!(
            out.len() <= MAX_BYTES,
            "an identity of {} bytes: see `Founding` for how large it may be",
            out.len()
        );
        out
    }

    /// Reads what [`Identity::encode`] made, and skips what newer versions add at the end.
    pub fn decode(bytes: &[u8]) -> Result<Identity, Damage> {
        let mut input = Cursor(bytes);
        let (format, lowest) = (input.varint()?, input.varint()?);
        let directory = DirectoryId::from_le_bytes(input.array()?);
        let cluster = text(&mut input)?;
        let node = input.varint()?;
        let protocol = text(&mut input)?;
        let delivery_window = input.varint()?;
        let mut members = BTreeMap::new();
        for _ in 0..input.length(MAX_BYTES)? {
            members.insert(input.varint()?, text(&mut input)?);
        }
        let founding = Founding { cluster, node, protocol, members, delivery_window };
        Ok(Identity { format, lowest, directory, founding })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn text(input: &mut Cursor<'_>) -> Result<String, Damage> {
    let length = input.length(MAX_BYTES)?;
    let bytes = input.take(length)?.to_vec();
    String::from_utf8(bytes).map_err(|_| Damage::Malformed("a name is not UTF-8"))
}

fn show(members: &BTreeMap<NodeId, String>) -> String {
    let members: Vec<_> = members.iter().map(|(node, address)| format!("{node} {address}")).collect();
    members.join(", ")
}
