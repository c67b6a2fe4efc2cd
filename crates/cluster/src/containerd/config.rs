//! containerd's configuration file.

use std::path::{Path, PathBuf};

use crate::layout::Layout;

/// What a node does not use, and what each costs time or memory at every start when it is loaded: other snapshotters look
/// for kernel modules, `opt` makes a folder outside of the data folder, `restart` polls.
const DISABLED: [&str; 10] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
];

/// The configuration of a node's own containerd: everything below the data folder, nothing shared with another containerd.
///
/// Version 2 of the format, which 1.6 and 1.7 read and 2.x converts.
pub fn config_toml(layout: &Layout, cni_plugin_dir: &Path, sandbox_image: &str) -> String {
    let quoted = |path: PathBuf| quote(&path.to_string_lossy());
    let disabled = DISABLED.map(quote).join(", ");
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[plugins."io.containerd.monitor.v1.cgroups"]
  no_prometheus = true

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox_image}
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {bin_dir}
    conf_dir = {conf_dir}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = {runc_root}
        SystemdCgroup = false
"#,
        root = quoted(layout.containerd_root()),
        state = quoted(layout.containerd_state()),
        socket = quoted(layout.containerd_socket()),
        sandbox_image = quote(sandbox_image),
        bin_dir = quote(&cni_plugin_dir.to_string_lossy()),
        conf_dir = quoted(layout.cni_conf_dir()),
        runc_root = quoted(layout.runc_root()),
    )
}

/// A TOML basic string: JSON's escapes are a part of TOML's.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
