//! Failures in upstream's words.

use serde_json::{Value, json};

use crate::support::{Node, pod};

fn bound(phase: &str, uid: &str) -> Value {
    json!({"metadata": {"name": "data", "uid": uid}, "spec": {"volumeName": "pv"}, "status": {"phase": phase}})
}

#[tokio::test]
async fn each_volume_says_why() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "x"});
        for (key, value) in source.as_object().into_iter().flatten() {
            volume[key] = value.clone();
        }
        json!([volume])
    };
    let set_up = |cause: &str| format!("MountVolume.SetUp failed for volume \"x\" : {cause}");
    let projected = |sources: Value| volume(json!({"projected": {"sources": sources}}));
    let claim = |name: &str| volume(json!({"persistentVolumeClaim": {"claimName": name}}));
    let field = |path: &str| json!({"items": [{"path": "f", "fieldRef": {"fieldPath": path}}]});
    let table = [
        (volume(json!({"configMap": {"name": "y"}})), set_up("configmap \"y\" not found")),
        (volume(json!({"secret": {"secretName": "y"}})), set_up("secret \"y\" not found")),
        (
            volume(json!({"configMap": {"name": "have", "items": [{"key": "no", "path": "p"}]}})),
            set_up("configmap references non-existent config key: no"),
        ),
        (
            volume(json!({"secret": {"secretName": "have", "items": [{"key": "no", "path": "p"}]}})),
            set_up("references non-existent secret key: no"),
        ),
        (
            projected(json!([{"configMap": {"name": "y"}}, {"secret": {"name": "z"}}])),
            set_up("[configmap \"y\" not found, secret \"z\" not found]"),
        ),
        (volume(json!({"downwardAPI": field("status.podIP")})), set_up("unsupported fieldPath: status.podIP")),
        (
            volume(json!({"configMap": {"name": "have", "items": [{"key": "k", "path": "../p"}]}})),
            set_up("invalid path: must not contain '..': ../p"),
        ),
        (
            volume(json!({"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}})),
            set_up("hostPath type check failed: /nowhere/at/all is not a directory"),
        ),
        (
            volume(json!({"emptyDir": {"medium": "HugePages-2Mi"}})),
            set_up("emptyDir medium \"HugePages-2Mi\" is not supported on this node"),
        ),
        (volume(json!({"emptyDir": {"medium": "Tape"}})), set_up("unknown storage medium \"Tape\"")),
        (
            volume(json!({"nfs": {"path": "/", "server": "s"}})),
            set_up("volume plugin \"kubernetes.io/nfs\" is not supported on this node"),
        ),
        (claim("none"), "error processing PVC ns/none: persistentvolumeclaim \"none\" not found".into()),
        (claim("pending"), "error processing PVC ns/pending: PVC is not bound".into()),
        (claim("stolen"), "error processing PVC ns/stolen: PersistentVolume \"pv\" is bound to another claim".into()),
        (
            claim("csi"),
            "error processing PVC ns/csi: volume plugin \"kubernetes.io/csi\" is not supported on this node".into(),
        ),
    ];
    let node = Node::new();
    node.config_map("have", json!({"k": "v"}));
    node.secret("have", json!({"k": "dg=="}));
    {
        let mut objects = node.table.objects();
        for (name, phase, uid) in [("pending", "Pending", "c1"), ("stolen", "Bound", "c2"), ("csi", "Bound", "c1")] {
            objects.claims.insert(name.into(), serde_json::from_value(bound(phase, uid)).expect("claim"));
        }
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "c1"},
            "csi": {"driver": "d", "volumeHandle": "h"}}});
        objects.volumes.insert("pv".into(), serde_json::from_value(volume).expect("volume"));
    }
    for (volumes, expect) in table {
        let error = node.manager.set_up(&pod(volumes, json!({}))).await.expect_err(&expect);
        assert_eq!(error.to_string(), expect);
    }
}

#[tokio::test]
async fn one_failure_does_not_hide_another_or_hold_up_the_rest() {
    let node = Node::new();
    let volumes = json!([
        {"name": "a", "configMap": {"name": "a"}},
        {"name": "good", "emptyDir": {}},
        {"name": "b", "secret": {"secretName": "b"}},
    ]);
    let error = node.manager.set_up(&pod(volumes, json!({}))).await.expect_err("two are missing");
    let each: Vec<String> = error.each().iter().map(ToString::to_string).collect();
    assert_eq!(
        each,
        [
            "MountVolume.SetUp failed for volume \"a\" : configmap \"a\" not found",
            "MountVolume.SetUp failed for volume \"b\" : secret \"b\" not found",
        ]
    );
    assert!(node.volume("empty-dir", "good").is_dir());
}

#[tokio::test]
async fn names_never_become_paths() {
    let node = Node::new();
    let mut pod = pod(json!([{"name": "x", "emptyDir": {}}]), json!({}));
    pod.metadata.uid = Some("../../etc".into());
    let error = node.manager.set_up(&pod).await.expect_err("a UID is no path");
    assert_eq!(error.to_string(), "pod ../../etc: \"../../etc\" cannot be used as a file name");
    assert!(node.manager.tear_down("..").await.is_err());
}
