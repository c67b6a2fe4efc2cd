//! What can go wrong with a volume, in upstream's words where users see them (`FailedMount` events).

use std::{io, path::PathBuf};

use crate::{atomic::PayloadError, downward::FieldError, host_path::HostPathError, source::SourceError};

/// A pod's volumes could not be set up or torn down.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
    SetUp { volume: String, cause: Cause },
    #[error("UnmountVolume.TearDown failed for volume \"{volume}\" : {cause}")]
    TearDown { volume: String, cause: Cause },
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {cause}")]
    SubPath { volume: String, container: String, cause: Cause },
    /// A claim that cannot be used (yet); upstream's desired state populator.
    #[error("error processing PVC {namespace}/{name}: {cause}")]
    Claim { namespace: String, name: String, cause: Cause },
    #[error("pod {pod}: {cause}")]
    Pod { pod: String, cause: Cause },
    /// Several volumes of one pod failed; each is an error of its own.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Many(Vec<VolumeError>),
}

impl VolumeError {
    /// The failures one by one: the kubelet records an event for each.
    pub fn each(&self) -> Vec<&VolumeError> {
        match self {
            VolumeError::Many(errors) => errors.iter().flat_map(VolumeError::each).collect(),
            error => vec![error],
        }
    }

    pub(crate) fn set_up(volume: &str, cause: impl Into<Cause>) -> VolumeError {
        VolumeError::SetUp { volume: volume.to_owned(), cause: cause.into() }
    }

    pub(crate) fn pod(pod: &str, cause: impl Into<Cause>) -> VolumeError {
        VolumeError::Pod { pod: pod.to_owned(), cause: cause.into() }
    }

    /// `None` where nothing failed.
    pub(crate) fn join(mut errors: Vec<VolumeError>) -> Option<VolumeError> {
        if errors.len() > 1 { Some(VolumeError::Many(errors)) } else { errors.pop() }
    }
}

/// Why one volume failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("configmap references non-existent config key: {0}")]
    ConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    #[error("{0}")]
    Field(#[from] FieldError),
    #[error("{0}")]
    HostPath(#[from] HostPathError),
    #[error("{0}")]
    Payload(#[from] PayloadError),
    /// Several sources of one projected volume failed.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<Cause>),
    #[error("volume plugin \"{0}\" is not supported on this node")]
    UnsupportedPlugin(&'static str),
    #[error("{0} is not supported on this node")]
    Unsupported(String),
    #[error("unknown storage medium \"{0}\"")]
    Medium(String),
    #[error("PVC is not bound")]
    NotBound,
    #[error("PVC is being deleted")]
    BeingDeleted,
    #[error("PVC was not created for pod {0}")]
    ForeignClaim(String),
    #[error("PersistentVolume \"{0}\" is bound to another claim")]
    ForeignVolume(String),
    #[error("local volume path \"{}\" does not exist", .0.display())]
    NoLocalPath(PathBuf),
    /// A name that would be used as a file name but is none.
    #[error("\"{0}\" cannot be used as a file name")]
    Name(String),
    #[error("{} is still mounted", .0.display())]
    StillMounted(PathBuf),
    #[error("subPath \"{0}\" must be a relative path without '..'")]
    SubPathForm(String),
    #[error("subPath \"{sub_path}\" leads outside of volume path \"{}\"", volume.display())]
    SubPathEscapes { sub_path: String, volume: PathBuf },
    #[error("invalid container mount point {0}")]
    MountPoint(String),
    #[error("pod has no volume \"{0}\"")]
    NoVolume(String),
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// The thread that did the work is gone (it panicked, or the process is shutting down).
    #[error("volume work was interrupted")]
    Interrupted,
}

impl Cause {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Cause {
        let path = path.into();
        move |source| Cause::Io { operation, path, source }
    }

    /// As [`Cause::io`], for the kernel's bare error codes.
    pub(crate) fn errno(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Cause {
        let path = path.into();
        move |source| Cause::Io { operation, path, source: source.into() }
    }

    /// One cause for several: alone as it is, as upstream's `NewAggregate`.
    pub(crate) fn join(mut causes: Vec<Cause>) -> Option<Cause> {
        if causes.len() > 1 { Some(Cause::Several(causes)) } else { causes.pop() }
    }
}
