//! Third step: carries operations out. Blocking; the manager runs it off the async threads.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use jiff::Timestamp;

use crate::{
    Cause, Layout, Mounter, VolumeError, atomic, host_path,
    layout::Plugin,
    ownership::set_volume_ownership,
    plan::{Observed, Op, Plan},
};

/// What is on disk of a pod's volumes.
pub(crate) fn observe(layout: &Layout, mounter: &dyn Mounter, uid: &str) -> Result<Observed, Cause> {
    let pod = layout.pod(uid)?;
    let mounts = mounter.mounts_below(&pod).map_err(Cause::io("list mounts of", &pod))?;
    let mut ready = BTreeSet::new();
    let markers = layout.plugins(uid)?.join(Plugin::EmptyDir.dir());
    for name in names(&markers)? {
        let marker = markers.join(&name).join("ready");
        // A marker whose directory somebody removed says nothing.
        let volume = name.strip_prefix("wrapped_").unwrap_or(&name);
        let plugins = [Plugin::EmptyDir, Plugin::ConfigMap, Plugin::Secret, Plugin::DownwardApi, Plugin::Projected];
        let exists = |plugin: &Plugin| layout.volume(uid, *plugin, volume).is_ok_and(|dir| dir.exists());
        if marker.exists() && plugins.iter().any(exists) {
            ready.insert(marker);
        }
    }
    Ok(Observed { mounts, ready })
}

/// The entries of a directory by name; none where it does not exist.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Cause> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Cause::io("read directory", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Cause::io("read directory", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// All volumes, each until its first failure.
pub(crate) fn execute(plan: &Plan, mounter: &dyn Mounter, now: Timestamp) -> Vec<VolumeError> {
    let run = |volume: &crate::plan::VolumePlan| {
        let done = volume.ops.iter().try_for_each(|op| carry_out(op, mounter, now));
        done.err().map(|cause| VolumeError::set_up(&volume.volume, cause))
    };
    plan.volumes.iter().filter_map(run).collect()
}

fn carry_out(op: &Op, mounter: &dyn Mounter, now: Timestamp) -> Result<(), Cause> {
    match op {
        Op::MakeDir { path, mode } => make_dir(path, *mode),
        Op::MountTmpfs { target, options } => {
            mounter.tmpfs(target, options).map_err(Cause::io("mount tmpfs on", target))
        }
        Op::Bind { source, target, read_only } => {
            mounter.bind(source, target, *read_only).map_err(Cause::io("bind mount", source))
        }
        Op::CheckHostPath { path, kind } => Ok(host_path::check(path, kind)?),
        Op::RequirePath { path } => match path.exists() {
            true => Ok(()),
            false => Err(Cause::NoLocalPath(path.clone())),
        },
        Op::SetOwnership { path, group } => set_volume_ownership(path, group),
        Op::Project { dir, payload, group } => atomic::write(dir, payload, group.as_ref(), now).map(drop),
        Op::MarkReady { marker } => {
            let parent = marker.parent().unwrap_or(marker);
            make_dir(parent, 0o750)?;
            fs::write(marker, []).map_err(Cause::io("write", marker))
        }
    }
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Cause> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(Cause::io("mkdir", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Cause::io("chmod", path))
}

/// Unmounts and removes all volumes of a pod. Content goes only where it is the pod's or the kubelet's own, and only once
/// nothing is mounted below: what a mount shows is never deleted.
pub(crate) fn tear_down(layout: &Layout, mounter: &dyn Mounter, uid: &str) -> Result<(), VolumeError> {
    let at_pod = |cause: Cause| VolumeError::pod(uid, cause);
    let pod = layout.pod(uid).map_err(at_pod)?;
    let volumes = layout.volumes(uid).map_err(at_pod)?;
    let sub_paths = layout.sub_paths(uid).map_err(at_pod)?;
    let below = |root: &Path| mounter.mounts_below(root).map_err(Cause::io("list mounts of", root));
    // Deepest first, sub paths (binds of volumes) before the volumes.
    let mut errors = Vec::new();
    for root in [&sub_paths, &volumes] {
        for point in below(root).map_err(at_pod)?.into_keys().rev() {
            if let Err(error) = mounter.unmount(&point) {
                errors.push(tear_down_error(&volumes, &point, Cause::io("unmount", &point)(error)));
            }
        }
    }
    if let Some(error) = VolumeError::join(errors) {
        return Err(error);
    }
    if let Some(point) = below(&pod).map_err(at_pod)?.into_keys().next() {
        return Err(at_pod(Cause::StillMounted(point)));
    }
    remove_tree(&sub_paths).map_err(at_pod)?;
    remove_tree(&layout.plugins(uid).map_err(at_pod)?.join(Plugin::EmptyDir.dir())).map_err(at_pod)?;
    for plugin in names(&volumes).map_err(at_pod)? {
        let dir = volumes.join(&plugin);
        for name in names(&dir).map_err(at_pod)? {
            let volume = dir.join(&name);
            let removed = match Plugin::owns_content(&plugin) {
                true => remove_tree(&volume),
                false => fs::remove_dir(&volume).map_err(Cause::io("remove mount point", &volume)),
            };
            removed.map_err(|cause| VolumeError::TearDown { volume: name, cause })?;
        }
        fs::remove_dir(&dir).map_err(Cause::io("remove", &dir)).map_err(at_pod)?;
    }
    remove_empty(&volumes).map_err(at_pod)?;
    remove_empty(&layout.plugins(uid).map_err(at_pod)?).map_err(at_pod)
}

/// The whole directory of a pod, once its volumes are gone.
pub(crate) fn remove_pod(layout: &Layout, mounter: &dyn Mounter, uid: &str) -> Result<(), VolumeError> {
    let at_pod = |cause: Cause| VolumeError::pod(uid, cause);
    let pod = layout.pod(uid).map_err(at_pod)?;
    let mounts = mounter.mounts_below(&pod).map_err(Cause::io("list mounts of", &pod)).map_err(at_pod)?;
    if let Some(point) = mounts.into_keys().next() {
        return Err(at_pod(Cause::StillMounted(point)));
    }
    for kept in [layout.volumes(uid), layout.sub_paths(uid)] {
        let kept = kept.map_err(at_pod)?;
        if kept.exists() {
            return Err(at_pod(Cause::io("remove", kept)(io::ErrorKind::DirectoryNotEmpty.into())));
        }
    }
    remove_tree(&pod).map_err(at_pod)
}

/// A mount point's volume by its place: `volumes/PLUGIN/NAME` or `volume-subpaths/NAME/...`.
fn tear_down_error(volumes: &Path, point: &Path, cause: Cause) -> VolumeError {
    let relative = volumes.parent().and_then(|pod| point.strip_prefix(pod).ok()).unwrap_or(point);
    let place = if point.starts_with(volumes) { 2 } else { 1 };
    let name = relative.components().nth(place).map(|name| name.as_os_str().to_string_lossy().into_owned());
    VolumeError::TearDown { volume: name.unwrap_or_default(), cause }
}

fn remove_tree(path: &Path) -> Result<(), Cause> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Cause::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn remove_empty(path: &Path) -> Result<(), Cause> {
    match fs::remove_dir(path) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(Cause::io("remove", path)(e))
        }
        _ => Ok(()),
    }
}
