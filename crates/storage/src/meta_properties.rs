//! `meta.properties`: which node of which cluster a log directory belongs to (KIP-631, KIP-858).

use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::{BrokerId, Uuid, format_uuid, parse_uuid};
use thiserror::Error;

const FILE_NAME: &str = "meta.properties";
const VERSION: &str = "1";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) node_id: BrokerId,
    pub(crate) directory_id: Uuid,
}

/// A directory that must not be touched.
#[derive(Debug, Error)]
pub enum MetaPropertiesError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a file of version 1.
    #[error("{} has no valid {key}; restore the file, or empty the directory", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key at fault.
        key: &'static str,
    },
}

/// Reads the file; `None` if the directory is not formatted.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Option<MetaProperties>, MetaPropertiesError> {
    let path = dir.join(FILE_NAME);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let invalid = |key| MetaPropertiesError::Invalid { path: path.clone(), key };
    let value = |key: &'static str| property(&text, key).ok_or_else(|| invalid(key));
    if value("version")? != VERSION {
        return Err(invalid("version"));
    }
    let node_id = value("node.id")?.parse().map_err(|_| invalid("node.id"))?;
    let directory_id = parse_uuid(&value("directory.id")?).map_err(|_| invalid("directory.id"))?;
    let cluster_id = value("cluster.id")?;
    Ok(Some(MetaProperties { cluster_id, node_id: BrokerId(node_id), directory_id }))
}

/// The cluster that one of `dirs` belongs to, if any of them is formatted and can be read. Blocks on the disk.
pub fn known_cluster_id(disk: &dyn Disk, dirs: &[PathBuf]) -> Option<String> {
    dirs.iter().find_map(|dir| Some(read(disk, dir).ok()??.cluster_id))
}

/// Writes the file.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, properties: &MetaProperties) -> io::Result<()> {
    disk.write_atomic(&dir.join(FILE_NAME), format(properties).as_bytes())
}

fn format(properties: &MetaProperties) -> String {
    let MetaProperties { cluster_id, node_id, directory_id } = properties;
    let directory_id = format_uuid(*directory_id);
    format!(
        "cluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion={VERSION}\n"
    )
}

/// The value of `key` in a Java properties file of plain `key=value` lines. A backslash before a
/// character, which Java writes before `:` and `=`, is dropped.
fn property(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?;
        Some(value.trim().replace('\\', ""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_by_kafka_is_read() {
        let text = "#\n#Fri Nov 20 10:00:00 UTC 2026\nnode.id=7\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\nversion=1\ncluster.id=a\\:b\n";
        assert_eq!(property(text, "node.id").as_deref(), Some("7"));
        assert_eq!(property(text, "cluster.id").as_deref(), Some("a:b"));
        assert_eq!(property(text, "id"), None);
    }
}
