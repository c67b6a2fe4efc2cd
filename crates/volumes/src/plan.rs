//! Second step, pure: the operations that bring a pod's volumes from what is observed to what they should be. Prints one
//! line per operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::Pod;

use crate::{
    Cause, Layout, VolumeError,
    collect::{Medium, Resolved},
    layout::Plugin,
    mount::TmpfsOptions,
    nested::nested_mount_points,
    ownership::{ChangePolicy, FsGroup},
    payload::Payload,
    resources::{QosClass, limits_declared, pod_limits, qos_class},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// With its parents (0750); the directory itself gets exactly this mode, past the umask.
    MakeDir {
        path: PathBuf,
        mode: u32,
    },
    MountTmpfs {
        target: PathBuf,
        options: TmpfsOptions,
    },
    Bind {
        source: PathBuf,
        target: PathBuf,
        read_only: bool,
    },
    /// Checks, and makes what the type allows to be made.
    CheckHostPath {
        path: PathBuf,
        kind: String,
    },
    RequirePath {
        path: PathBuf,
    },
    SetOwnership {
        path: PathBuf,
        group: FsGroup,
    },
    /// The files of an atomic volume; writes nothing where they are already so.
    Project {
        dir: PathBuf,
        payload: Payload,
        group: Option<FsGroup>,
    },
    MarkReady {
        marker: PathBuf,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlan {
    /// As in the pod.
    pub volume: String,
    /// What containers mount.
    pub host_path: PathBuf,
    pub read_only: bool,
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub volumes: Vec<VolumePlan>,
}

/// The state of the disk that a plan starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Mount points below the pod's directory, with their file system type.
    pub mounts: BTreeMap<PathBuf, String>,
    /// Ready markers whose volume directory exists.
    pub ready: BTreeSet<PathBuf>,
}

/// What bounds memory volumes, and whether they may stay out of swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    pub allocatable_memory: Option<Amount>,
    pub tmpfs_no_swap: bool,
}

/// Plans all volumes that could be resolved; a volume that cannot be planned is an error of its own.
pub fn plan_pod(
    layout: &Layout,
    pod: &Pod,
    resolved: &BTreeMap<String, Resolved>,
    observed: &Observed,
    node: &NodeLimits,
) -> (Plan, Vec<VolumeError>) {
    let planner = Planner { layout, pod, uid: pod.metadata.uid.as_deref().unwrap_or_default(), observed, node };
    let (mut plan, mut errors) = (Plan::default(), Vec::new());
    for (name, volume) in resolved {
        match planner.volume(name, volume) {
            Ok(volume) => plan.volumes.push(volume),
            Err(cause) => errors.push(VolumeError::set_up(name, cause)),
        }
    }
    (plan, errors)
}

struct Planner<'a> {
    layout: &'a Layout,
    pod: &'a Pod,
    uid: &'a str,
    observed: &'a Observed,
    node: &'a NodeLimits,
}

impl Planner<'_> {
    fn volume(&self, name: &str, volume: &Resolved) -> Result<VolumePlan, Cause> {
        let (host_path, read_only, ops) = match volume {
            Resolved::HostPath { path, kind, read_only } => {
                let ops = match kind.as_str() {
                    "" => Vec::new(),
                    _ => vec![Op::CheckHostPath { path: path.clone(), kind: kind.clone() }],
                };
                (path.clone(), *read_only, ops)
            }
            Resolved::EmptyDir { medium } => {
                let dir = self.layout.volume(self.uid, Plugin::EmptyDir, name)?;
                let ops = self.empty_dir(&dir, name, *medium)?;
                (dir, false, ops)
            }
            Resolved::Files { plugin, payload } => {
                let dir = self.layout.volume(self.uid, *plugin, name)?;
                let ops = self.files(&dir, name, *plugin, payload)?;
                (dir, true, ops)
            }
            Resolved::Local { volume, path, read_only } => {
                let dir = self.layout.volume(self.uid, Plugin::Local, volume)?;
                let ops = self.local(&dir, path, *read_only);
                (dir, *read_only, ops)
            }
        };
        Ok(VolumePlan { volume: name.to_owned(), host_path, read_only, ops })
    }

    /// Upstream `emptydir/empty_dir.go: SetUpAt`.
    fn empty_dir(&self, dir: &Path, name: &str, medium: Medium) -> Result<Vec<Op>, Cause> {
        let marker = self.layout.ready_marker(self.uid, name)?;
        let mounted = self.is_mounted(dir);
        if self.observed.ready.contains(&marker) && (medium == Medium::Disk || mounted) {
            return Ok(Vec::new());
        }
        let mut ops = vec![];
        if !mounted {
            ops.push(Op::MakeDir { path: dir.to_owned(), mode: 0o777 });
            if let Medium::Memory { size_limit } = medium {
                ops.push(self.tmpfs(dir, size_limit));
            }
        }
        if let Some(group) = self.fs_group(false, false) {
            ops.push(Op::SetOwnership { path: dir.to_owned(), group });
        }
        ops.push(Op::MarkReady { marker });
        Ok(ops)
    }

    /// configMap on the disk; secret, downwardAPI and projected on a tmpfs, so that they never reach the disk.
    fn files(&self, dir: &Path, name: &str, plugin: Plugin, payload: &Payload) -> Result<Vec<Op>, Cause> {
        let marker = self.layout.ready_marker(self.uid, &format!("wrapped_{name}"))?;
        let memory = plugin != Plugin::ConfigMap;
        let mut ops = vec![];
        let present = self.observed.ready.contains(&marker) && (!memory || self.is_mounted(dir));
        if !present {
            if !self.is_mounted(dir) {
                ops.push(Op::MakeDir { path: dir.to_owned(), mode: 0o777 });
                if memory {
                    ops.push(self.tmpfs(dir, None));
                }
            }
            if let Some(spec) = &self.pod.spec {
                for nested in nested_mount_points(spec, name)? {
                    ops.push(Op::MakeDir { path: dir.join(nested), mode: 0o755 });
                }
            }
        }
        let group = self.fs_group(true, false);
        ops.push(Op::Project { dir: dir.to_owned(), payload: payload.clone(), group });
        if !present {
            ops.push(Op::MarkReady { marker });
        }
        Ok(ops)
    }

    /// Upstream `local/local.go: SetUpAt`.
    fn local(&self, dir: &Path, path: &Path, read_only: bool) -> Vec<Op> {
        if self.is_mounted(dir) {
            return Vec::new();
        }
        let mut ops = vec![
            Op::RequirePath { path: path.to_owned() },
            Op::MakeDir { path: dir.to_owned(), mode: 0o750 },
            Op::Bind { source: path.to_owned(), target: dir.to_owned(), read_only },
        ];
        if let Some(group) = self.fs_group(read_only, true).filter(|_| !read_only) {
            ops.push(Op::SetOwnership { path: dir.to_owned(), group });
        }
        ops
    }

    fn is_mounted(&self, dir: &Path) -> bool {
        self.observed.mounts.contains_key(dir)
    }

    fn fs_group(&self, read_only: bool, with_policy: bool) -> Option<FsGroup> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        let gid = u32::try_from(context.fs_group?).ok()?;
        let policy = match context.fs_group_change_policy.as_deref() {
            Some("OnRootMismatch") if with_policy => ChangePolicy::OnRootMismatch,
            _ => ChangePolicy::Always,
        };
        Some(FsGroup { gid, read_only, policy })
    }

    /// The smallest of the volume's limit, the pod's memory limit and the node's allocatable memory
    /// (`calculateEmptyDirMemorySize`).
    fn tmpfs(&self, dir: &Path, size_limit: Option<u64>) -> Op {
        let pod = self.pod_memory_limit();
        let node = self.node.allocatable_memory.and_then(|memory| u64::try_from(memory.value()).ok());
        let size = [node, pod, size_limit].into_iter().flatten().filter(|bytes| *bytes > 0).min();
        let options = TmpfsOptions { size_bytes: size, no_swap: self.node.tmpfs_no_swap };
        Op::MountTmpfs { target: dir.to_owned(), options }
    }

    fn pod_memory_limit(&self) -> Option<u64> {
        let spec = self.pod.spec.as_ref()?;
        let bounded = match qos_class(self.pod) {
            QosClass::Guaranteed => true,
            QosClass::Burstable => limits_declared(spec, "memory"),
            QosClass::BestEffort => false,
        };
        let limit = pod_limits(self.pod).get("memory").copied().filter(|_| bounded)?;
        u64::try_from(limit.value()).ok()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for volume in &self.volumes {
            let access = if volume.read_only { "ro" } else { "rw" };
            writeln!(f, "volume {} at {} {access}", volume.volume, volume.host_path.display())?;
            for op in &volume.ops {
                writeln!(f, "  {op}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::MakeDir { path, mode } => write!(f, "mkdir {} {mode:04o}", path.display()),
            Op::MountTmpfs { target, options } => {
                write!(f, "mount tmpfs {} [{options}]", target.display())
            }
            Op::Bind { source, target, read_only } => {
                let suffix = if *read_only { " ro" } else { "" };
                write!(f, "bind {} {}{suffix}", source.display(), target.display())
            }
            Op::CheckHostPath { path, kind } => write!(f, "check {} is {kind}", path.display()),
            Op::RequirePath { path } => write!(f, "require {}", path.display()),
            Op::SetOwnership { path, group } => write!(f, "own {} {group}", path.display()),
            Op::Project { dir, payload, group } => {
                write!(f, "project {}", dir.display())?;
                for (path, file) in payload {
                    write!(f, " {path}:{:04o}:{}B", file.mode, file.data.len())?;
                    if let Some(owner) = file.owner {
                        write!(f, ":u{owner}")?;
                    }
                }
                group.map_or(Ok(()), |group| write!(f, " {group}"))
            }
            Op::MarkReady { marker } => write!(f, "ready {}", marker.display()),
        }
    }
}

impl fmt::Display for FsGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.gid)?;
        if self.read_only {
            f.write_str(" ro")?;
        }
        match self.policy {
            ChangePolicy::Always => Ok(()),
            ChangePolicy::OnRootMismatch => f.write_str(" on-root-mismatch"),
        }
    }
}
