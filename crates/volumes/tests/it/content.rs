//! What containers see in their volumes, on the real kernel.

use std::{fs, sync::atomic::Ordering};

use jiff::SignedDuration;
use serde_json::json;

use crate::support::{Node, access, names, pod, read};

#[tokio::test]
async fn empty_dirs_on_disk_and_in_memory() {
    let node = Node::new();
    let pod = pod(
        json!([
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ]),
        json!({"securityContext": {"fsGroup": 4711}}),
    );
    let mounts = node.manager.set_up(&pod).await.expect("set up");
    let (disk, memory) = (node.volume("empty-dir", "disk"), node.volume("empty-dir", "memory"));
    assert_eq!(mounts.volumes["disk"].host_path, disk);
    assert_eq!(access(&disk), "2777 0:4711");
    assert_eq!(access(&memory), "3777 0:4711");
    assert_eq!(node.mounts().into_iter().collect::<Vec<_>>(), [(memory.clone(), "tmpfs".to_owned())]);
    fs::write(memory.join("small"), vec![0; 900 << 10]).expect("within the limit");
    let full = fs::write(memory.join("big"), vec![0; 200 << 10]).expect_err("over the limit");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // Again: what the pod wrote stays, nothing is mounted twice.
    fs::write(disk.join("kept"), "yes").expect("write");
    node.manager.set_up(&pod).await.expect("set up again");
    assert_eq!(read(disk.join("kept")), "yes");
    assert_eq!(names(&memory), ["big", "small"]);
    assert_eq!(node.mounts().len(), 1);
    assert!(node.path("kubelet/pods/u1/plugins/kubernetes.io~empty-dir/disk/ready").exists());
    assert_eq!(node.manager.pods_on_disk().await.expect("pods"), ["u1"]);
}

#[tokio::test]
async fn config_maps_and_secrets_follow_their_objects() {
    let node = Node::new();
    node.config_map("settings", json!({"a.conf": "one", "b.conf": "two"}));
    node.secret("keys", json!({"tls.key": "c2VjcmV0"}));
    let pod = pod(
        json!([
            {"name": "settings", "configMap": {"name": "settings", "defaultMode": 0o644}},
            {"name": "chosen", "configMap": {"name": "settings", "defaultMode": 0o644,
                "items": [{"key": "b.conf", "path": "sub/b", "mode": 0o400}]}},
            {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
            {"name": "maybe", "configMap": {"name": "none", "optional": true}},
        ]),
        json!({}),
    );
    node.manager.set_up(&pod).await.expect("set up");
    let settings = node.volume("configmap", "settings");
    let keys = node.volume("secret", "keys");
    assert_eq!([read(settings.join("a.conf")), read(settings.join("b.conf"))], ["one", "two"]);
    assert_eq!(access(node.volume("configmap", "chosen").join("sub/b")), "400 0:0");
    assert_eq!((read(keys.join("tls.key")), access(keys.join("tls.key"))), ("secret".into(), "400 0:0".into()));
    assert_eq!(node.mounts().get(&keys).map(String::as_str), Some("tmpfs"), "secrets never reach the disk");
    assert_eq!(names(node.volume("configmap", "maybe")).len(), 2, "an empty data directory");

    node.config_map("settings", json!({"a.conf": "1", "b.conf": "two"}));
    node.config_map("none", json!({"now": "there"}));
    node.manager.refresh(&pod).await.expect("refresh");
    assert_eq!(read(settings.join("a.conf")), "1");
    assert_eq!(read(node.volume("configmap", "maybe").join("now")), "there");
    let before = fs::read_link(settings.join("..data")).expect("link");
    node.table.advance(SignedDuration::from_secs(60));
    node.manager.refresh(&pod).await.expect("refresh again");
    assert_eq!(fs::read_link(settings.join("..data")).expect("link"), before, "nothing changed, nothing written");
}

#[tokio::test]
async fn projected_token_ca_and_fields() {
    let node = Node::new();
    node.config_map("kube-root-ca.crt", json!({"ca.crt": "PEM"}));
    let volumes = json!([{"name": "api", "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "vault"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}},
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        ]}},
    ]}}]);
    let pod = pod(volumes, json!({"securityContext": {"fsGroup": 2000, "runAsUser": 1000}}));
    node.manager.set_up(&pod).await.expect("set up");
    let dir = node.volume("projected", "api");
    assert_eq!(read(dir.join("token")), "robot/u1 [\"vault\"] #1");
    assert_eq!(access(dir.join("token")), "640 1000:2000", "0600 of the user, plus the group");
    assert_eq!(access(dir.join("ca.crt")), "644 0:2000");
    assert_eq!([read(dir.join("ca.crt")), read(dir.join("namespace"))], ["PEM", "ns"]);
    assert_eq!([read(dir.join("labels")), read(dir.join("memory"))], ["app=\"web\"", "1024"]);

    for (minutes, expect) in [(47, "#1"), (2, "#2")] {
        node.table.advance(SignedDuration::from_mins(minutes));
        node.manager.refresh(&pod).await.expect("refresh");
        let token = read(dir.join("token"));
        assert!(token.ends_with(expect), "{token} after {minutes} more minutes, expected {expect}");
    }
    // The server is away: the token at hand stays while it holds, then that is an error.
    node.table.objects().token_failure = Some("no route to host");
    node.table.advance(SignedDuration::from_mins(55));
    node.manager.refresh(&pod).await.expect("the old token still holds");
    node.table.advance(SignedDuration::from_mins(6));
    let error = node.manager.refresh(&pod).await.expect_err("expired");
    assert_eq!(error.to_string(), "MountVolume.SetUp failed for volume \"api\" : no route to host");
    assert_eq!(node.table.tokens_issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn mount_points_inside_of_volumes_are_made() {
    let node = Node::new();
    node.config_map("settings", json!({"a": "1"}));
    let containers = json!([{"name": "c", "volumeMounts": [
        {"name": "settings", "mountPath": "/etc/app"},
        {"name": "data", "mountPath": "/etc/app/data"},
        {"name": "data", "mountPath": "/etc/app/data/deeper"},
        {"name": "data", "mountPath": "/etc/apple"},
    ]}]);
    let volumes = json!([{"name": "settings", "configMap": {"name": "settings"}}, {"name": "data", "emptyDir": {}}]);
    node.manager.set_up(&pod(volumes, json!({"containers": containers}))).await.expect("set up");
    let dir = node.volume("configmap", "settings");
    assert!(dir.join("data").is_dir());
    assert!(!dir.join("data/deeper").exists(), "the runtime makes that one in the volume mounted at data");
    assert_eq!(read(dir.join("a")), "1");
}

#[tokio::test]
async fn claims_of_local_volumes_are_bound() {
    let node = Node::new();
    let disk = node.path("disk");
    fs::create_dir(&disk).expect("disk");
    fs::write(disk.join("file"), "data").expect("file");
    let claim = json!({"metadata": {"name": "data", "uid": "c1"}, "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"}});
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "c1"}, "local": {"path": disk}}});
    {
        let mut objects = node.table.objects();
        objects.claims.insert("data".into(), serde_json::from_value(claim).expect("claim"));
        objects.volumes.insert("pv".into(), serde_json::from_value(volume).expect("volume"));
    }
    let claims = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    let pod = pod(claims, json!({"securityContext": {"fsGroup": 77}}));
    let mounts = node.manager.set_up(&pod).await.expect("set up");
    let dir = node.volume("local-volume", "pv");
    assert_eq!(mounts.volumes["v"].host_path, dir);
    assert_eq!(read(dir.join("file")), "data");
    assert_eq!(access(disk.join("file")), "664 0:77");
    // A kubelet that was restarted comes to the claims of running pods again, deleted or not.
    let delete = |finalizers: serde_json::Value| {
        let mut objects = node.table.objects();
        let claim = objects.claims.get_mut("data").expect("claim");
        claim.metadata = serde_json::from_value(json!({"name": "data", "uid": "c1", "finalizers": finalizers,
            "deletionTimestamp": "2026-01-01T00:00:00Z"}))
        .expect("metadata");
    };
    delete(json!(["kubernetes.io/pvc-protection"]));
    node.manager.set_up(&pod).await.expect("again");
    assert_eq!(node.mounts().len(), 1);
    delete(json!(["else"]));
    let refused = node.manager.set_up(&pod).await.expect_err("nothing protects it any more").to_string();
    assert!(refused.contains("PVC is being deleted"), "{refused}");
    node.manager.tear_down("u1").await.expect("tear down");
    assert_eq!(read(disk.join("file")), "data", "what a claim holds outlives the pod");
    assert!(!dir.exists());
}
