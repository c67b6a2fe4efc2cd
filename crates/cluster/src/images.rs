//! The images that a node has without any registry: `pause`, and the running binary itself. Built as archives in memory's
//! margin, streamed into containerd, and skipped when they are there.

mod archive;
mod libraries;
mod stamp;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

pub use archive::{Entry, ImageSpec, Source, image_id, write_archive};
pub use libraries::{LibraryError, shared_libraries};

use crate::containerd::{Cri, CriError};
use crate::files::FileError;
use crate::layout::Layout;
use crate::machine;

/// The sandbox image. The domain `localhost` says that no registry has it; upstream's names stay upstream's.
pub const PAUSE_IMAGE: &str = "localhost/argosy/pause:1";

/// The image of the binary, without its tag, which is the version.
pub const ARGOSY_REPOSITORY: &str = "localhost/argosy/argosy";

/// Where the binary lies in its image.
pub const ARGOSY_PATH: &str = "/usr/bin/argosy";

/// containerd's namespace of everything that CRI sees.
const NAMESPACE: &str = "k8s.io";

static PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// What failed about an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cri(#[from] CriError),
    #[error(transparent)]
    Libraries(#[from] LibraryError),
    #[error("cannot build the image {image}")]
    Build {
        image: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot run ctr, containerd's client: install the package containerd")]
    Ctr(#[source] io::Error),
    #[error("containerd did not take {what}: {message}")]
    Refused { what: String, message: String },
    #[error("containerd took {image}, but does not list it after {} s", after.as_secs())]
    NotListed { image: String, after: Duration },
}

/// The name of the binary's image of this version.
pub fn argosy_image() -> String {
    format!("{ARGOSY_REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// The pause image: one static program of about a kilobyte.
pub fn pause_image() -> ImageSpec {
    ImageSpec {
        names: vec![PAUSE_IMAGE.into()],
        entries: vec![Entry::file("pause", 0o755, Source::Static(PAUSE))],
        entrypoint: vec!["/pause".into()],
        env: Vec::new(),
        user: "65535:65535".into(),
        labels: vec![],
    }
}

/// The image of `binary`, an argosy: the binary, the libraries it needs where it is not static, and a link to it for each
/// of `tools`, names that it answers to.
pub fn binary_image(binary: &Path, tools: &[&str]) -> Result<ImageSpec, ImageError> {
    let file = |name: &str, text: &'static str| Entry::file(name, 0o644, Source::Static(text.as_bytes()));
    let mut entries = vec![
        Entry::dir("tmp", 0o1777),
        file("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"),
        file("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        Entry::file(ARGOSY_PATH.trim_start_matches('/'), 0o755, Source::Path(binary.to_owned())),
    ];
    entries.extend(tools.iter().map(|t| Entry::link(format!("usr/bin/{t}"), "argosy")));
    for library in shared_libraries(binary)? {
        let name = library.to_string_lossy().trim_start_matches('/').to_owned();
        entries.push(Entry::file(name, 0o755, Source::Path(library)));
    }
    Ok(ImageSpec {
        names: vec![argosy_image()],
        entries,
        entrypoint: vec![ARGOSY_PATH.into()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        user: String::new(),
        labels: vec![("org.opencontainers.image.title".into(), "argosy".into())],
    })
}

/// A containerd to put images into.
pub struct ImageStore<'a> {
    pub cri: &'a Cri,
    pub socket: PathBuf,
}

impl ImageStore<'_> {
    /// Puts the pause image and the running binary's into containerd, unless they are there with this very content.
    /// Returns the names of what was imported.
    pub async fn ensure_built_in(&self, layout: &Layout, tools: &[&str]) -> Result<Vec<String>, ImageError> {
        // The link stays right even when the file was replaced while it runs, where its target's name would not.
        let binary = PathBuf::from("/proc/self/exe");
        let pause = pause_image();
        let build = |source| ImageError::Build { image: PAUSE_IMAGE.into(), source };
        let pause_id = image_id(&pause).map_err(build)?;
        let (argosy, argosy_id) = stamp::with_id(layout, binary, tools).await?;
        let mut imported = Vec::new();
        for (spec, id) in [(pause, pause_id), (argosy, argosy_id)] {
            imported.extend(self.ensure(spec, &id).await?);
        }
        Ok(imported)
    }

    /// Imports `spec` unless containerd has the image of that id under each of its names.
    async fn ensure(&self, spec: ImageSpec, id: &str) -> Result<Option<String>, ImageError> {
        let mut there = true;
        for name in &spec.names {
            there &= self.cri.image(name).await?.is_some_and(|i| i.id == id);
        }
        if there {
            return Ok(None);
        }
        let name = spec.names.first().cloned().unwrap_or_default();
        self.import_built(spec, &name).await?;
        self.wait_listed(&name, id).await?;
        Ok(Some(name))
    }

    /// Streams the archive into `ctr`, so that no copy of it lies on the disk.
    async fn import_built(&self, spec: ImageSpec, name: &str) -> Result<(), ImageError> {
        let mut child = self.ctr_import("-").stdin(Stdio::piped()).spawn().map_err(ImageError::Ctr)?;
        let build = |source| ImageError::Build { image: name.to_owned(), source };
        let stdin = child.stdin.take().ok_or_else(|| build(io::ErrorKind::BrokenPipe.into()))?;
        let pipe = stdin.into_owned_fd().map_err(build)?;
        let writer = tokio::task::spawn_blocking(move || write_archive(&spec, std::fs::File::from(pipe)));
        let output = child.wait_with_output().await.map_err(ImageError::Ctr)?;
        let written = writer.await.map_err(|e| build(io::Error::other(e)))?;
        // A refusal closes the pipe: containerd's word says more than the broken pipe.
        refused(name, &output)?;
        written.map_err(build)
    }

    /// CRI learns of an import by an event, a moment after it.
    async fn wait_listed(&self, name: &str, id: &str) -> Result<(), ImageError> {
        const LIMIT: Duration = Duration::from_secs(10);
        let deadline = tokio::time::Instant::now() + LIMIT;
        let mut pause = Duration::from_millis(2);
        while self.cri.image(name).await?.is_none_or(|i| i.id != id) {
            if tokio::time::Instant::now() >= deadline {
                return Err(ImageError::NotListed { image: name.to_owned(), after: LIMIT });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Imports an archive: OCI or docker, as `docker save` or `ctr images export` write them. Returns the names of its
    /// images, as containerd lists them.
    pub async fn import_file(&self, file: &Path) -> Result<Vec<String>, ImageError> {
        let output = self.ctr_import(file).stdin(Stdio::null()).output().await.map_err(ImageError::Ctr)?;
        refused(&file.display().to_string(), &output)?;
        // One line per image: `unpacking NAME (sha256:…)...done`.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|l| l.strip_prefix("unpacking ")?.split(' ').next()).map(str::to_owned).collect())
    }

    fn ctr_import(&self, file: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(machine::find_program("ctr").unwrap_or_else(|| "ctr".into()));
        command.arg("--address").arg(&self.socket).args(["--namespace", NAMESPACE, "images", "import"]).arg(file);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

fn refused(what: &str, output: &std::process::Output) -> Result<(), ImageError> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ImageError::Refused { what: what.to_owned(), message })
}
