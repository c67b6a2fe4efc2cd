//! Plans as text: what is done for a pod on a fresh node, and what is left to do afterwards.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity as Amount};
use serde_json::json;
use volumes::{
    Layout,
    collect::{Medium, Resolved},
    layout::Plugin,
    payload::File,
    plan::{NodeLimits, Observed, plan_pod},
};

use crate::support::pod;

fn resolved() -> BTreeMap<String, Resolved> {
    let payload = [("ca.crt".to_owned(), File::new("PEM", 0o644))].into();
    let token = File { owner: Some(1000), ..File::new("abc", 0o600) };
    let api = [("token".to_owned(), token)].into();
    [
        ("cache", Resolved::EmptyDir { medium: Medium::Memory { size_limit: Some(1 << 40) } }),
        ("data", Resolved::EmptyDir { medium: Medium::Disk }),
        ("host", Resolved::HostPath { path: "/srv".into(), kind: "Directory".into(), read_only: false }),
        ("api", Resolved::Files { plugin: Plugin::Projected, payload: api }),
        ("ca", Resolved::Files { plugin: Plugin::ConfigMap, payload }),
        ("local", Resolved::Local { volume: "pv1".into(), path: "/mnt/1".into(), read_only: true }),
    ]
    .map(|(name, volume)| (name.to_owned(), volume))
    .into()
}

#[test]
fn fresh_and_settled() {
    let spec = json!({
        "securityContext": {"fsGroup": 7},
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "64Mi"},
            "requests": {"cpu": "1", "memory": "64Mi"}}}],
    });
    let pod = pod(json!([]), spec);
    let layout = Layout::new("/k");
    let node = NodeLimits { allocatable_memory: Some(Amount::new(1 << 30, Format::BinarySI)), tmpfs_no_swap: true };
    let (plan, errors) = plan_pod(&layout, &pod, &resolved(), &Observed::default(), &node);
    assert!(errors.is_empty());
    let v = "/k/pods/u1/volumes/kubernetes.io~";
    let p = "/k/pods/u1/plugins/kubernetes.io~empty-dir";
    let fresh = format!(
        "\
volume api at {v}projected/api ro
  mkdir {v}projected/api 0777
  mount tmpfs {v}projected/api [size=67108864,noswap]
  project {v}projected/api token:0600:3B:u1000 g7 ro
  ready {p}/wrapped_api/ready
volume ca at {v}configmap/ca ro
  mkdir {v}configmap/ca 0777
  project {v}configmap/ca ca.crt:0644:3B g7 ro
  ready {p}/wrapped_ca/ready
volume cache at {v}empty-dir/cache rw
  mkdir {v}empty-dir/cache 0777
  mount tmpfs {v}empty-dir/cache [size=67108864,noswap]
  own {v}empty-dir/cache g7
  ready {p}/cache/ready
volume data at {v}empty-dir/data rw
  mkdir {v}empty-dir/data 0777
  own {v}empty-dir/data g7
  ready {p}/data/ready
volume host at /srv rw
  check /srv is Directory
volume local at {v}local-volume/pv1 ro
  require /mnt/1
  mkdir {v}local-volume/pv1 0750
  bind /mnt/1 {v}local-volume/pv1 ro
"
    );
    assert_eq!(plan.to_string(), fresh);

    let mount = |path: String, kind: &str| (path.into(), kind.to_owned());
    let observed = Observed {
        mounts: [
            mount(format!("{v}projected/api"), "tmpfs"),
            mount(format!("{v}empty-dir/cache"), "tmpfs"),
            mount(format!("{v}local-volume/pv1"), "ext4"),
        ]
        .into(),
        ready: ["wrapped_api", "wrapped_ca", "cache", "data"].map(|name| format!("{p}/{name}/ready").into()).into(),
    };
    let (plan, _) = plan_pod(&layout, &pod, &resolved(), &observed, &node);
    let settled = format!(
        "\
volume api at {v}projected/api ro
  project {v}projected/api token:0600:3B:u1000 g7 ro
volume ca at {v}configmap/ca ro
  project {v}configmap/ca ca.crt:0644:3B g7 ro
volume cache at {v}empty-dir/cache rw
volume data at {v}empty-dir/data rw
volume host at /srv rw
  check /srv is Directory
volume local at {v}local-volume/pv1 ro
"
    );
    assert_eq!(plan.to_string(), settled);

    // The machine was restarted: markers are there, mounts are not.
    let rebooted = Observed { mounts: BTreeMap::new(), ..observed };
    let (plan, _) = plan_pod(&layout, &pod, &resolved(), &rebooted, &node);
    let text = plan.to_string();
    for mounted in ["projected/api", "empty-dir/cache"] {
        assert!(text.contains(&format!("mount tmpfs {v}{mounted} ")), "{mounted} is mounted again:\n{text}");
    }
    assert!(!text.contains("mkdir /k/pods/u1/volumes/kubernetes.io~empty-dir/data"), "the disk kept its volume");
}
