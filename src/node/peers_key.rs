//! The file that `peers_key` names: the secret by which the nodes of a cluster know each other.
//!
//! It holds one or two lines of 64 hexadecimal digits, and any number of blank lines and comments (`#`). A
//! node proves itself with the first key and accepts both, so that a cluster changes its key while it runs:
//! add the new key as the second line on every node and restart one node after the other; exchange the lines
//! everywhere and restart again; then remove the old key in the same way.
//!
//! If all members are on loopback addresses, the first node that starts makes the file. On several machines
//! each would make a different one, so there a missing file is an error. *Of all processes that make the same
//! file at the same time exactly one wins, and all of them use its key*: each writes a draft under a name of
//! its own and then links it to the file's name. A link, unlike a rename, never replaces a file. The draft is
//! durable before it is linked, so that the file is never there in part, and its name is durable before the
//! winner starts. A process that is killed in between leaves its draft, which nobody reads.
//!
//! Left out: what is proved with the keys (`wire::proof`). No message shows anything of what the file holds.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use log::{info, warn};

use crate::config::Config;
use crate::directory::folder;
use crate::store::is_no_room;
use crate::wire::proof::Keys;

use super::ending::ExitCode;
use super::errors::StartError;

/// The bytes of a key, twice as many digits in the file.
const KEY_BYTES: usize = 32;
/// The longest file that is read.
const MAX_BYTES: u64 = 64 << 10;

/// The keys of a node, and what its log should say about them.
pub(super) struct PeersKey {
    /// `None` if the configuration names no file.
    pub(super) keys: Option<Keys>,
    /// Whether this node made the file just now.
    is_new: bool,
    /// The mode of a file that other users can read as well.
    shared_mode: Option<u32>,
}

impl PeersKey {
    /// Reads the file that the configuration names, and makes it first if it is missing and may be made.
    pub(super) fn open(config: &Config) -> Result<PeersKey, StartError> {
        let Some(path) = &config.peers_key else {
            return Ok(PeersKey { keys: None, is_new: false, shared_mode: None });
        };
        let failed = |text| StartError::new(ExitCode::Config, text);
        let (mut file, mut is_new) = (read(path).map_err(failed)?, false);
        if file.is_none() && is_on_one_machine(config) {
            is_new = make(path).map_err(|error| cannot_make(path, &error))?;
            file = read(path).map_err(failed)?;
        }
        let KeyFile { content, shared_mode } = file.ok_or_else(|| failed(missing(path)))?;
        let (first, second) = parse(&content, path).map_err(failed)?;
        Ok(PeersKey { keys: Some(Keys::new(first, second)), is_new, shared_mode })
    }

    /// Writes to the log what a person should know.
    pub(super) fn log(&self, config: &Config, listens: SocketAddr) {
        let Some(path) = config.peers_key.as_ref().map(|path| path.display()) else {
            if !is_loopback(&listens) {
                warn!(
                    "the peer port {listens} can be reached from other machines, and there is no peers_key: anyone \
                     who reaches it can pass for a node of this cluster. Make a key with `spaxos key FILE`, copy the \
                     file to every node, and name it in every configuration"
                );
            }
            return;
        };
        if self.is_new {
            info!("made the key {path}: the other nodes on this machine read it");
        }
        if let Some(mode) = self.shared_mode {
            warn!(
                "the key {path} can be read by other users (mode {mode:03o}), and anyone who has it can pass for a \
                 node of this cluster: make it private with `chmod 600 {path}`"
            );
        }
    }
}

/// Makes a file with a new key, readable by this user only, unless a file of that name exists. Returns
/// whether this call made it.
pub(crate) fn make(path: &Path) -> io::Result<bool> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder::create_folder(parent)?;
    let suffix = getrandom::u64().map_err(io::Error::other)?;
    let draft = parent.join(format!(".{}.{suffix:016x}", name.display()));
    let linked = write_draft(&draft).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        Ok(()) => removed?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    folder::sync_folder(parent)?;
    Ok(true)
}

fn write_draft(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    write!(
        file,
        "# The secret by which the nodes of a cluster know each other, the same on all of them.\n{digits}\n"
    )?;
    file.sync_all()
}

/// What was read.
struct KeyFile {
    content: Vec<u8>,
    /// Its mode, if other users can read it as well.
    shared_mode: Option<u32>,
}

/// Reads the file; `None` if there is none.
fn read(path: &Path) -> Result<Option<KeyFile>, String> {
    let name = path.display();
    let failed = |error| format!("cannot read the key {name} (peers_key): {error}");
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(failed)?,
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(format!(
            "{name} (peers_key) is not a key file: it must be a regular file of at most {MAX_BYTES} bytes{HINT}"
        ));
    }
    let mut content = vec![];
    File::open(path).map_err(failed)?.take(MAX_BYTES).read_to_end(&mut content).map_err(failed)?;
    // Only root is in root's group. systemd hands out its credentials with that group.
    let others = if metadata.gid() == 0 { 0o007 } else { 0o077 };
    let mode = metadata.mode() & 0o777;
    Ok(Some(KeyFile { content, shared_mode: Some(mode).filter(|mode| mode & others != 0) }))
}

/// The one or two keys in a file; the error names the line.
fn parse(content: &[u8], path: &Path) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let mut keys = vec![];
    for (line, text) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        let text = text.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue;
        }
        let key = if keys.len() < 2 { decode(text) } else { Err("there is a third key".into()) };
        keys.push(key.map_err(|what| format!("{}:{line}: {what}{HINT}", path.display()))?);
    }
    let mut keys = keys.into_iter();
    match keys.next() {
        Some(first) => Ok((first, keys.next())),
        None => Err(format!("there is no key in {} (peers_key){HINT}", path.display())),
    }
}

const HINT: &str =
    "; it must hold one or two lines of 64 hexadecimal digits, and `spaxos key FILE` makes such a file";

fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let digits: Vec<u8> = text.iter().map_while(digit).collect();
    if digits.len() < text.len() {
        return Err(format!("the character {} of the key is not a hexadecimal digit", digits.len() + 1));
    }
    if digits.len() != 2 * KEY_BYTES {
        return Err(format!("the key has {} digits", digits.len()));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn is_on_one_machine(config: &Config) -> bool {
    config.peers.values().all(is_loopback)
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn missing(path: &Path) -> String {
    let path = path.display();
    format!(
        "there is no key {path} (peers_key): make it on one node with `spaxos key {path}`, or write the output of \
         `openssl rand -hex 32` into it, and copy it to every node of the cluster"
    )
}

fn cannot_make(path: &Path, error: &io::Error) -> StartError {
    let path = path.display();
    let text = format!(
        "cannot make the key {path} (peers_key): {error}; correct the folder or its permissions, or write the output \
         of `openssl rand -hex 32` into that file yourself"
    );
    if is_no_room(error) { StartError::no_room(text) } else { StartError::new(ExitCode::Config, text) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use proptest::prelude::*;

    use super::*;

    fn digits(digit: char) -> String {
        std::iter::repeat_n(digit, 64).collect()
    }

    fn parsed(content: &str) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
        parse(content.as_bytes(), Path::new("a.key"))
    }

    #[test]
    fn one_or_two_keys_are_read() {
        let (first, second) = (vec![0xaa; 32], vec![0x1f; 32]);
        let (one, other) = (digits('a'), "1F".repeat(32));
        let content = format!("# a comment\n\n  {one}  # the new one\r\n\t\n{other}");
        assert_eq!(parsed(&one), Ok((first.clone(), None)));
        assert_eq!(parsed(&content), Ok((first, Some(second))));
    }

    /// An error names file and line and what to do, and nothing of the key.
    #[test]
    fn anything_else_is_told_with_its_line() {
        let good = digits('a');
        let (short, long, odd) = (&good[1..], digits('a') + "aa", good.replacen("aa", "ag", 1));
        for (content, said) in [
            (String::new(), "there is no key in a.key (peers_key); it must hold one or two lines"),
            ("# nothing\n\n".into(), "there is no key in a.key"),
            (format!("{good}\n\n{good}\n{good}\n"), "a.key:4: there is a third key; it must hold"),
            (short.into(), "a.key:1: the key has 63 digits; it must hold"),
            (format!("#\n{long}"), "a.key:2: the key has 66 digits"),
            (format!("{good}\n{odd}\n"), "a.key:2: the character 2 of the key is not a hexadecimal digit"),
            (format!("{good} {good}"), "a.key:1: the character 65 of the key is not a hexadecimal digit"),
            ("\u{e9}".into(), "a.key:1: the character 1 of the key is not"),
        ] {
            let Err(error) = parsed(&content) else { panic!("{content:?} was read") };
            assert!(error.starts_with(said) && error.contains("`spaxos key FILE`"), "{content:?}: {error}");
            assert!(!error.contains("aaaa"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&content, Path::new("a.key"));
        }
    }

    /// Many that start at the same moment agree on the key of the one that made the file.
    #[test]
    fn all_that_make_the_file_at_the_same_time_have_one_key() {
        const PROCESSES: usize = 8;
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data/peers.key");
            let barrier = Barrier::new(PROCESSES);
            let start = || {
                barrier.wait();
                let made = make(&path).unwrap();
                (made, read(&path).unwrap().unwrap().content)
            };
            let ends: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(ends.iter().filter(|(made, _)| *made).count(), 1);
            assert!(ends.iter().all(|(_, content)| *content == ends[0].1), "they have different keys");
            let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
            assert_eq!(files.len(), 1, "{files:?}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            parse(&ends[0].1, &path).map(drop).unwrap();
        }
    }

    fn config(address: &str, key: &Path) -> Config {
        let peers = [(1, "127.0.0.1:1".parse().unwrap()), (2, address.parse().unwrap())];
        Config { peers_key: Some(key.to_path_buf()), ..Config::new("test", 1, peers, "unused").unwrap() }
    }

    fn refused(address: &str, key: &Path) -> String {
        let error = PeersKey::open(&config(address, key)).err().expect("it is refused");
        assert_eq!(error.code, ExitCode::Config, "{error}");
        error.text
    }

    /// A missing file is made on one machine only, and what exists is never replaced.
    #[test]
    fn only_a_cluster_on_one_machine_makes_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("peers.key");
        let text = refused("10.0.0.2:1", &key);
        assert!(text.contains("`spaxos key ") && text.contains("copy it to every node"), "{text}");
        assert!(!key.exists());
        let [made, found] = [(); 2].map(|()| PeersKey::open(&config("127.0.0.2:1", &key)).unwrap());
        assert!(made.is_new && !found.is_new);
        let elsewhere = PeersKey::open(&config("10.0.0.2:1", &key)).unwrap();
        let proof = made.keys.unwrap().first().prove(b"text");
        for other in [found, elsewhere] {
            assert!(other.keys.unwrap().find(b"text", &proof).is_some());
        }
        fs::write(&key, "x").unwrap();
        assert!(refused("127.0.0.2:1", &key).contains("peers.key:1: the character 1 "));
        assert!(refused("127.0.0.2:1", folder.path()).contains("it must be a regular file of at most"));
        assert!(refused("127.0.0.2:1", &key.join("x")).contains("cannot read the key"));
        fs::remove_file(&key).unwrap();
        std::os::unix::fs::symlink("/nowhere", &key).unwrap();
        assert!(refused("127.0.0.2:1", &key).contains("there is no key"));
    }

    #[test]
    fn a_key_that_others_can_read_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("peers.key");
        let open = || PeersKey::open(&config("127.0.0.2:1", &key)).unwrap();
        assert_eq!(open().shared_mode, None);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(open().shared_mode, Some(0o604));
    }
}
