//! Remembers the id of the binary's image, so that a start does not hash some tens of megabytes to learn that nothing
//! changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ImageError, ImageSpec, argosy_image, binary_image, image_id};
use crate::files::{self, fail};
use crate::layout::Layout;

/// The binary as its file system knows it, and the id of the image that was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified_ns: i64,
    tools: Vec<String>,
    #[serde(default)]
    id: String,
}

/// The binary's image and its id, from the stamp when the binary is the one it was made for.
pub(super) async fn with_id(
    layout: &Layout,
    binary: PathBuf,
    tools: &[&str],
) -> Result<(ImageSpec, String), ImageError> {
    let meta = fs::metadata(&binary).map_err(fail("read", &binary))?;
    let spec = binary_image(&binary, tools)?;
    let now = Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size_bytes: meta.size(),
        modified_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        tools: tools.iter().map(|t| (*t).to_owned()).collect(),
        id: String::new(),
    };
    let path = layout.image_stamps_file();
    // A stamp that cannot be understood is one that is not there: the worst is a hash more.
    let kept: Option<Stamp> = files::read_optional(&path)?.and_then(|b| serde_json::from_slice(&b).ok());
    if let Some(kept) = kept
        && (Stamp { id: String::new(), ..kept.clone() }) == now
    {
        return Ok((spec, kept.id));
    }
    let hashed = spec.clone();
    let build = |source| ImageError::Build { image: argosy_image(), source };
    let id = tokio::task::spawn_blocking(move || image_id(&hashed)).await;
    let id = id.map_err(|e| build(std::io::Error::other(e)))?.map_err(build)?;
    let bytes = serde_json::to_vec(&Stamp { id: id.clone(), ..now }).unwrap_or_default();
    files::make_dir(&layout.run_dir())?;
    files::write_atomic(&path, &bytes, 0o644)?;
    Ok((spec, id))
}
