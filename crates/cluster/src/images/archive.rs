//! Writes an image as an OCI layout in a tar archive: one layer, uncompressed, the same bytes from the same content.
//!
//! The layer is written twice, once to learn its digest and once into the archive, so that a large binary never lies in
//! memory or in a second file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Where a file's content comes from.
#[derive(Clone, Debug)]
pub enum Source {
    Static(&'static [u8]),
    Path(PathBuf),
}

#[derive(Clone, Debug)]
enum Kind {
    File(Source),
    Link(String),
    Dir,
}

/// One file, link or folder of an image; missing parent folders are made (0755). Paths have no leading slash.
#[derive(Clone, Debug)]
pub struct Entry {
    path: String,
    mode: u32,
    kind: Kind,
}

impl Entry {
    pub fn file(path: impl Into<String>, mode: u32, source: Source) -> Entry {
        Entry { path: path.into(), mode, kind: Kind::File(source) }
    }

    /// A symbolic link; `target` is as in `ln -s`.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Entry {
        Entry { path: path.into(), mode: 0o777, kind: Kind::Link(target.into()) }
    }

    pub fn dir(path: impl Into<String>, mode: u32) -> Entry {
        Entry { path: path.into(), mode, kind: Kind::Dir }
    }
}

/// An image to build.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// Full names with domain and tag.
    pub names: Vec<String>,
    pub entries: Vec<Entry>,
    pub entrypoint: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub labels: Vec<(String, String)>,
}

/// The image's id: `sha256:` and the digest of its configuration, as CRI names images. Reads all files.
pub fn image_id(spec: &ImageSpec) -> io::Result<String> {
    let (layer, _) = digest_layer(spec)?;
    Ok(digest(&config(spec, &layer)))
}

/// Writes the archive, which `ctr images import` and `docker load` of recent versions take.
pub fn write_archive(spec: &ImageSpec, out: impl Write) -> io::Result<()> {
    let (layer, layer_size) = digest_layer(spec)?;
    let config = config(spec, &layer);
    let manifest = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": { "mediaType": CONFIG_TYPE, "digest": digest(&config), "size": config.len() },
        "layers": [{ "mediaType": LAYER_TYPE, "digest": layer, "size": layer_size }],
    }));
    let named = |name: &String| {
        json!({
            "mediaType": MANIFEST_TYPE,
            "digest": digest(&manifest),
            "size": manifest.len(),
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
        })
    };
    let index = json!({ "schemaVersion": 2, "manifests": spec.names.iter().map(named).collect::<Vec<_>>() });
    let mut tar = Builder::new(out);
    put(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put(&mut tar, "index.json", &to_bytes(&index))?;
    for blob in [&manifest, &config] {
        put(&mut tar, &blob_path(&digest(blob)), blob)?;
    }
    let mut header = header(EntryType::Regular, 0o644, layer_size);
    header.set_path(blob_path(&layer))?;
    header.set_cksum();
    let mut inner = tar.get_mut();
    inner.write_all(header.as_bytes())?;
    write_layer(spec, &mut inner)?;
    // Files of a tar archive end on a block of 512 bytes; a layer is made of whole blocks already.
    tar.into_inner()?.flush()
}

fn config(spec: &ImageSpec, layer: &str) -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels: serde_json::Map<String, Value> =
        spec.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
    to_bytes(&json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "User": spec.user, "Env": spec.env, "Entrypoint": spec.entrypoint, "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    }))
}

/// The layer's digest and size in bytes.
fn digest_layer(spec: &ImageSpec) -> io::Result<(String, u64)> {
    struct Counter(Sha256, u64);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            self.1 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(Sha256::new(), 0);
    write_layer(spec, &mut counter)?;
    Ok((hex(&counter.0.finalize()), counter.1))
}

fn write_layer(spec: &ImageSpec, out: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(out);
    let mut folders = BTreeSet::new();
    let own = |path: &str| spec.entries.iter().any(|e| e.path == path && matches!(e.kind, Kind::Dir));
    for entry in &spec.entries {
        for (end, _) in entry.path.match_indices('/') {
            let parent = &entry.path[..end];
            if !own(parent) && folders.insert(parent.to_owned()) {
                let mut folder = header(EntryType::Directory, 0o755, 0);
                tar.append_data(&mut folder, format!("{parent}/"), io::empty())?;
            }
        }
        write_entry(&mut tar, entry)?;
    }
    tar.into_inner()?.flush()
}

fn write_entry(tar: &mut Builder<impl Write>, entry: &Entry) -> io::Result<()> {
    match &entry.kind {
        Kind::Dir => {
            let mut folder = header(EntryType::Directory, entry.mode, 0);
            tar.append_data(&mut folder, format!("{}/", entry.path), io::empty())
        }
        Kind::Link(target) => tar.append_link(&mut header(EntryType::Symlink, entry.mode, 0), &entry.path, target),
        Kind::File(Source::Static(bytes)) => {
            let mut file = header(EntryType::Regular, entry.mode, bytes.len() as u64);
            tar.append_data(&mut file, &entry.path, *bytes)
        }
        Kind::File(Source::Path(path)) => {
            let content = File::open(path)?;
            let size = content.metadata()?.len();
            // A file that grows meanwhile must not spill over its place.
            tar.append_data(&mut header(EntryType::Regular, entry.mode, size), &entry.path, content.take(size))
        }
    }
}

fn put(tar: &mut Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, 0o644, bytes.len() as u64), path, bytes)
}

/// Owner root, time zero: nothing of the machine that builds it is in an image.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ImageSpec {
        ImageSpec {
            names: vec!["localhost/test:1".into()],
            entries: vec![
                Entry::dir("tmp", 0o1777),
                Entry::file("usr/bin/tool", 0o755, Source::Static(b"content")),
                Entry::link("usr/bin/other", "tool"),
                Entry::file("tmp/x", 0o644, Source::Static(&[7; 1000])),
            ],
            entrypoint: vec!["/usr/bin/tool".into()],
            env: vec![],
            user: String::new(),
            labels: vec![],
        }
    }

    #[test]
    fn every_blob_of_the_archive_has_the_digest_of_its_name() {
        let mut bytes = Vec::new();
        write_archive(&spec(), &mut bytes).expect("written");
        let mut blobs = 0;
        for entry in tar::Archive::new(&bytes[..]).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("read");
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{name}"));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut bytes = Vec::new();
        write_layer(&spec(), &mut bytes).expect("written");
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().expect("an archive").map(|e| e.expect("an entry"));
        let listed: Vec<(String, u32)> = entries
            .map(|e| (e.path().expect("a path").to_string_lossy().into_owned(), e.header().mode().expect("a mode")))
            .collect();
        let want = [
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/bin/", 0o755),
            ("usr/bin/tool", 0o755),
            ("usr/bin/other", 0o777),
            ("tmp/x", 0o644),
        ];
        assert_eq!(listed, want.map(|(p, m)| (p.to_owned(), m)));
    }

    #[test]
    fn the_id_follows_the_content_alone() {
        let (first, mut changed) = (image_id(&spec()).expect("an id"), spec());
        assert_eq!(image_id(&spec()).expect("an id"), first);
        changed.entries[1] = Entry::file("usr/bin/tool", 0o755, Source::Static(b"Content"));
        assert_ne!(image_id(&changed).expect("an id"), first);
    }
}
