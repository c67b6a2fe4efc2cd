//! Control groups of pods, version 1 and 2 behind one interface (upstream `pkg/kubelet/cm`, cgroupfs driver).
//!
//! ```text
//! CGROUP_ROOT/kubepods                       all pods
//! CGROUP_ROOT/kubepods/podUID                Guaranteed
//! CGROUP_ROOT/kubepods/burstable/podUID
//! CGROUP_ROOT/kubepods/besteffort/podUID
//! ```
//!
//! Containers' groups below a pod's are the runtime's. The systemd driver is not spoken here.

mod detect;
mod execute;
pub mod math;
pub mod plan;
pub mod usage;

use std::{fmt, io, path::PathBuf};

use client::kinds::core::v1::Pod;
use volumes::resources::{QosClass, qos_class};

pub use detect::{DetectError, Hierarchy};
pub use math::Enforcement;
pub use usage::Usage;

/// Limits of one control group. `None` leaves a value as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; zero or less is no quota.
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    pub memory_bytes: Option<i64>,
    pub pids: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0:?} cannot be a part of a cgroup's name")]
    Name(String),
    #[error("cgroup {name} still has processes {pids:?} after they were killed")]
    Busy { name: CgroupName, pids: Vec<i32> },
    #[error("cgroup work was interrupted")]
    Interrupted,
}

impl CgroupError {
    fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CgroupError {
        let path = path.into();
        move |source| CgroupError::Io { operation, path, source }
    }
}

/// A control group below the mount points, by its parts. Prints as CRI wants it: `/kubepods/burstable/podUID`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupName(Vec<String>);

impl CgroupName {
    pub fn root() -> CgroupName {
        CgroupName(Vec::new())
    }

    /// From a path such as `--cgroup-root`.
    pub fn parse(path: &str) -> Result<CgroupName, CgroupError> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(CgroupName::root(), |name, part| name.child(part))
    }

    pub fn child(&self, part: &str) -> Result<CgroupName, CgroupError> {
        if part.is_empty() || part == "." || part == ".." || part.contains(['/', '\0', '\n']) {
            return Err(CgroupError::Name(part.to_owned()));
        }
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Ok(CgroupName(parts))
    }

    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for CgroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

impl Hierarchy {
    /// Where `name` is under a controller; `None` where the controller is not mounted.
    pub fn dir(&self, controller: &str, name: &CgroupName) -> Option<PathBuf> {
        let root = match self {
            Hierarchy::V1 { mounts } => mounts.get(controller)?,
            Hierarchy::V2 { root } => root,
        };
        Some(name.parts().iter().fold(root.clone(), |dir, part| dir.join(part)))
    }

    /// Every place of `name`, one per mount point.
    fn dirs(&self, name: &CgroupName) -> Vec<PathBuf> {
        let mut roots: Vec<&PathBuf> = match self {
            Hierarchy::V1 { mounts } => mounts.values().collect(),
            Hierarchy::V2 { root } => vec![root],
        };
        roots.sort();
        roots.dedup();
        roots.into_iter().map(|root| name.parts().iter().fold(root.clone(), |dir, part| dir.join(part))).collect()
    }
}

/// The control groups of this node's pods. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    root: CgroupName,
}

impl Cgroups {
    /// `cgroup_root` as the flag of that name; empty is the root.
    pub fn new(hierarchy: Hierarchy, cgroup_root: &str) -> Result<Cgroups, CgroupError> {
        Ok(Cgroups { hierarchy, root: CgroupName::parse(cgroup_root)? })
    }

    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    pub fn kubepods(&self) -> CgroupName {
        self.below("kubepods")
    }

    pub fn qos(&self, class: QosClass) -> CgroupName {
        let mut name = self.kubepods();
        match class {
            QosClass::Guaranteed => {}
            QosClass::Burstable => name.0.push("burstable".into()),
            QosClass::BestEffort => name.0.push("besteffort".into()),
        }
        name
    }

    /// Its text is the sandbox's `cgroup_parent` in CRI.
    pub fn pod(&self, pod: &Pod) -> Result<CgroupName, CgroupError> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if uid.is_empty() {
            return Err(CgroupError::Name(uid.to_owned()));
        }
        self.qos(qos_class(pod)).child(&format!("pod{uid}"))
    }

    /// The node as a whole, where usage of everything is read.
    pub fn node(&self) -> &CgroupName {
        &self.root
    }

    fn below(&self, part: &str) -> CgroupName {
        let mut name = self.root.clone();
        name.0.push(part.to_owned());
        name
    }

    /// Makes kubepods and the two classes below it; `allocatable` bounds all pods together (node allocatable), `None`
    /// values leave them unbounded.
    pub async fn set_up(&self, allocatable: Resources) -> Result<(), CgroupError> {
        self.create(self.kubepods(), allocatable).await?;
        let least = Resources { cpu_shares: Some(math::SHARES_MIN), ..Resources::default() };
        self.create(self.qos(QosClass::Burstable), least).await?;
        self.create(self.qos(QosClass::BestEffort), least).await
    }

    /// Gives the Burstable class the weight of its pods; to be called when pods come and go.
    pub async fn update_qos(&self, burstable_shares: u64) -> Result<(), CgroupError> {
        let resources = Resources { cpu_shares: Some(burstable_shares), ..Resources::default() };
        self.run(plan::plan_update(&self.hierarchy, &self.qos(QosClass::Burstable), &resources)).await
    }

    /// Makes a pod's group, or brings it to these limits.
    pub async fn create_pod(&self, pod: &Pod, enforce: &Enforcement) -> Result<CgroupName, CgroupError> {
        let name = self.pod(pod)?;
        self.create(name.clone(), math::pod_resources(pod, enforce)).await?;
        Ok(name)
    }

    /// Brings a pod's group to other limits.
    pub async fn update_pod(&self, pod: &Pod, resources: Resources) -> Result<(), CgroupError> {
        self.run(plan::plan_update(&self.hierarchy, &self.pod(pod)?, &resources)).await
    }

    async fn create(&self, name: CgroupName, resources: Resources) -> Result<(), CgroupError> {
        self.run(plan::plan_create(&self.hierarchy, &name, &resources)).await
    }

    async fn run(&self, ops: Vec<plan::CgroupOp>) -> Result<(), CgroupError> {
        let work = move || ops.iter().try_for_each(execute::carry_out);
        tokio::task::spawn_blocking(work).await.map_err(|_| CgroupError::Interrupted)?
    }

    /// Whether the group is there in every hierarchy.
    pub fn exists(&self, name: &CgroupName) -> bool {
        self.hierarchy.dirs(name).iter().all(|dir| dir.is_dir())
    }

    /// Removes a group with everything below it; processes left in it are killed. Nothing to do where it is gone.
    pub async fn remove(&self, name: &CgroupName) -> Result<(), CgroupError> {
        execute::remove(&self.hierarchy, name).await
    }

    /// Names (`podUID` without `pod`) and groups of all pods that have one.
    pub fn pods_on_node(&self) -> Vec<(String, CgroupName)> {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let mut found = Vec::new();
        for class in classes {
            let parent = self.qos(class);
            // One controller is enough: groups are made in all of them together.
            if let Some(dir) = self.hierarchy.dirs(&parent).first() {
                for name in execute::children(dir) {
                    let uid = name.strip_prefix("pod").map(str::to_owned);
                    if let (Some(uid), Ok(group)) = (uid, parent.child(&name)) {
                        found.push((uid, group));
                    }
                }
            }
        }
        found
    }

    pub fn usage(&self, name: &CgroupName) -> Usage {
        usage::read(&self.hierarchy, name)
    }
}
