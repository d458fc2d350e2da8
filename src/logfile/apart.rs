//! Is the log file a file of its own? If `log.file` names the configuration or a file of the store, by this
//! name or another, lines would be written into it, and a rotation would take it away.
//!
//! The log writes to more names than one: the file, the new one of a rotation, and the rotated ones. Two
//! names are the same file if they lead to the same inode (symbolic and hard links), or, for what does not
//! exist yet, to the same place. Left out: names that change while the node runs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::{NEW, beside, rotated};

/// How many symbolic links are followed, one after the other.
const MAX_LINKS: u32 = 40;

/// Refuses a log file that is, or would overwrite, one of these files, each with what it is, or that lies in
/// one of them that is a folder. The error is a text for a person.
pub fn check_apart(
    file: &Path,
    keep: u32,
    taken: impl Iterator<Item = (String, PathBuf)>,
) -> Result<(), String> {
    let other = [beside(file, NEW)].into_iter().chain((1..=keep).map(|number| rotated(file, number)));
    let names: Vec<_> = [file.to_owned()].into_iter().chain(other).map(Named::look).collect();
    for (what, path) in taken {
        let taken = Named::look(path);
        if let Some(name) = names.iter().find(|name| name.is(&taken)) {
            let which = match name.path == file {
                true => "which is".to_owned(),
                false => format!("but its rotation writes to {}, which is", name.path.display()),
            };
            return Err(format!(
                "log.file is {}, {which} {what} ({}): lines would be written into it. Give log.file a name of its own",
                file.display(),
                taken.path.display()
            ));
        }
    }
    Ok(())
}

/// A name, and what it leads to.
struct Named {
    path: PathBuf,
    place: PathBuf,
    /// Device and inode, if it exists.
    inode: Option<(u64, u64)>,
}

impl Named {
    fn look(path: PathBuf) -> Named {
        let inode = fs::metadata(&path).ok().map(|found| (found.dev(), found.ino()));
        Named { place: place(&path).unwrap_or_else(|_| path.clone()), inode, path }
    }

    fn is(&self, taken: &Named) -> bool {
        self.inode.is_some() && self.inode == taken.inode || self.place.starts_with(&taken.place)
    }
}

/// Where a file is, or would be made: without symbolic links.
fn place(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let folder = folder.canonicalize()?;
        let Some(name) = path.file_name() else { break };
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(folder.join(name)),
        }
    }
    path.canonicalize()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(file: &Path, taken: &Path) -> Result<(), String> {
        check_apart(file, 3, [("the configuration".to_owned(), taken.to_owned())].into_iter())
    }

    /// Whatever name leads to the file, it is found; a file next to it is not refused.
    #[test]
    fn a_file_is_known_by_all_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("node.toml"), "").unwrap();
        fs::create_dir(at("sub")).unwrap();
        symlink("../node.toml", at("sub/link")).unwrap();
        fs::hard_link(at("node.toml"), at("sub/hard")).unwrap();
        symlink(".", at("here")).unwrap();
        for name in ["node.toml", "sub/../node.toml", "sub/link", "sub/hard", "here/node.toml"] {
            let text = check(&at(name), &at("node.toml")).unwrap_err();
            assert!(text.contains("which is the configuration"), "{name}: {text}");
        }
        for name in ["node.tom", "node.toml2", "sub/node.toml", "nowhere/node.toml"] {
            assert_eq!(check(&at(name), &at("node.toml")), Ok(()), "{name}");
        }
    }

    /// What a rotation would overwrite is refused as well, and so is a file that will be in a folder of the
    /// store, even by a link that leads nowhere yet.
    #[test]
    fn rotation_and_folders_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for taken in ["conf.1", "conf.3", "conf.new"] {
            let text = check(&at("conf"), &at(taken)).unwrap_err();
            assert!(text.contains("its rotation writes to"), "{text}");
        }
        assert_eq!(check(&at("conf"), &at("conf.4")), Ok(()));
        fs::create_dir(at("store")).unwrap();
        symlink("store/new", at("nowhere")).unwrap();
        symlink("round", at("round")).unwrap();
        for name in ["store/x", "nowhere"] {
            check(&at(name), &at("store")).unwrap_err();
        }
        assert_eq!(check(&at("round"), &at("store")), Ok(()));
    }
}
