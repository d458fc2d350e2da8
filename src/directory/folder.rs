//! Folders and files that only this user can access and whose names are durable, and how much room the disk
//! has.
//!
//! A name is durable once its folder was synced: a file that was synced itself may still be gone after a
//! power cut if its folder was not. So each folder that is made here is followed by a sync of the one above
//! it, and [`replace_file`] by a sync of the file's folder; [`settle`] does the same for what sled made.
//!
//! An error of a sync never looks like a lack of room, even if the system says ENOSPC: after it nobody knows
//! what is on the disk, so it must not be tried again as a full disk is.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Creates a folder, and those above it, with 0700 if they do not exist. Their names are durable afterwards.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return check_folder(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(above) = folder.parent().filter(|above| *above != Path::new("")) else {
                return Err(error);
            };
            create_folder(above)?;
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(error) => return Err(error),
    }
    sync_folder(above(folder))
}

/// Opens a file to read and write, and creates it with 0600 if it does not exist.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes a file with what `write` puts into it, under another name, and then gives it its own: whenever this
/// is cut short, `path` is either missing or whole. File and name are durable afterwards.
pub fn replace_file(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let new = new_name(path);
    let file = open_file(&new)?;
    file.set_len(0)?;
    write(&file)?;
    sync_file(&file)?;
    fs::rename(&new, path)?;
    sync_folder(above(path))?;
    Ok(file)
}

/// The name under which [`replace_file`] makes a file.
pub fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Makes the files of a folder private, and makes the files, their names and the folder's own name durable.
pub fn settle(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::set_permissions(file.path(), Permissions::from_mode(0o600))?;
            sync_file(&File::open(file.path())?)?;
        }
    }
    sync_folder(folder)?;
    sync_folder(above(folder))
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    sync_file(&File::open(folder)?)
}

/// How much an ordinary user can still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An error of a flush, of a kind that is never taken for a lack of room.
pub fn flush_failed(error: &io::Error) -> io::Error {
    io::Error::other(format!("a flush failed: {error}"))
}

fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all().map_err(|error| flush_failed(&error))
}

/// The folder that a name is in.
fn above(path: &Path) -> &Path {
    path.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."))
}

/// Looks at what has the name of a folder that could not be made because the name is taken.
fn check_folder(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(ErrorKind::NotADirectory, "a file has this name")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(io::Error::new(ErrorKind::NotFound, "it is a symbolic link to something that does not exist"))
        }
        Err(error) => Err(error),
    }
}
