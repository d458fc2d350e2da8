//! `spaxos key FILE`: makes the secret by which the nodes of a cluster know each other.

use std::io::Write;
use std::path::Path;

use crate::node::peers_key;

use super::error::Error;

/// Makes the file, and says what to do with it. A file that exists is never replaced.
pub fn run(file: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let path = file.display();
    if !peers_key::make(file).map_err(Error::io(format!("make {path}")))? {
        return Err(Error::Message(format!("{path} exists, and was left as it is: give a different name")));
    }
    writeln!(
        out,
        "made {path}: copy it to every node of the cluster, keep it private, and name it in every configuration:\n\
         peers_key = \"{path}\""
    )
    .and_then(|()| out.flush())
    .map_err(Error::io(format!("say that {path} was made")))
}
