//! Mount points inside a read-only volume that other volumes of a container are mounted on (upstream
//! `pkg/volume/util/nested_volumes.go`): they must exist before the volume is handed to the runtime.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};

use crate::Cause;

/// Directories to make below the volume named `volume`, relative to it.
pub fn nested_mount_points(spec: &PodSpec, volume: &str) -> Result<Vec<PathBuf>, Cause> {
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| c.volume_mounts.as_deref());
    let mut found = Vec::new();
    for mounts in plain.map(|c| c.volume_mounts.as_deref()).chain(ephemeral).flatten() {
        of_container(mounts, volume, &mut found)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn of_container(mounts: &[VolumeMount], volume: &str, found: &mut Vec<PathBuf>) -> Result<(), Cause> {
    let mut all: Vec<(&str, PathBuf)> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        all.push((&mount.name, clean(&mount.mount_path)?));
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    for (_, base) in all.iter().filter(|(name, _)| *name == volume) {
        let mut outer: Vec<&Path> = Vec::new();
        for (_, path) in &all {
            let Ok(relative) = path.strip_prefix(base) else {
                continue;
            };
            if relative.as_os_str().is_empty() || outer.iter().any(|outer| path.starts_with(outer)) {
                continue;
            }
            outer.push(path);
            found.push(relative.to_owned());
        }
    }
    Ok(())
}

/// `path` without `.` and `..`; one that climbs above its start is refused.
fn clean(path: &str) -> Result<PathBuf, Cause> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                if !clean.pop() && !clean.has_root() {
                    return Err(Cause::MountPoint(path.to_owned()));
                }
            }
            Component::CurDir => {}
            component => clean.push(component),
        }
    }
    Ok(clean)
}
