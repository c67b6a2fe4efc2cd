//! subPath: what is bound, and what a container cannot trick the kubelet into.

use std::{fs, os::unix::fs::symlink};

use serde_json::json;
use volumes::{PodMounts, SubPath};

use crate::support::{Node, access, pod, read};

async fn node() -> (Node, PodMounts) {
    let node = Node::new();
    node.config_map("settings", json!({"a.conf": "one"}));
    let volumes = json!([{"name": "data", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}]);
    let mounts = node.manager.set_up(&pod(volumes, json!({}))).await.expect("set up");
    (node, mounts)
}

fn request<'a>(volume: &'a str, sub_path: &'a str) -> SubPath<'a> {
    SubPath { pod_uid: "u1", container: "c", index: 3, volume, sub_path }
}

#[tokio::test]
async fn binds_directories_files_and_links_within() {
    let (node, mounts) = node().await;
    let data = node.volume("empty-dir", "data");
    let made = node.manager.sub_path(&mounts, request("data", "deep/er")).await.expect("made");
    assert_eq!(made, node.path("kubelet/pods/u1/volume-subpaths/data/c/3"));
    assert_eq!(access(data.join("deep/er")), "777 0:0", "as the volume itself");
    fs::write(made.join("file"), "through").expect("write");
    assert_eq!(read(data.join("deep/er/file")), "through");
    let again = node.manager.sub_path(&mounts, request("data", "deep/er")).await.expect("again");
    assert_eq!((again, node.mounts().len()), (made.clone(), 1));
    // A file, through the atomic writer's links; on the same mount point as before.
    symlink("deep/er/file", data.join("link")).expect("link");
    let file = node.manager.sub_path(&mounts, request("data", "link")).await.expect("file");
    assert_eq!(read(file), "through");
    let key = node.manager.sub_path(&mounts, request("settings", "a.conf")).await.expect("key");
    assert_eq!(read(key), "one");
    node.manager.tear_down("u1").await.expect("tear down");
    assert!(node.mounts().is_empty());
    assert!(!node.path("kubelet/pods/u1/volume-subpaths").exists());
}

#[tokio::test]
async fn never_leaves_the_volume() {
    let (node, mounts) = node().await;
    let data = node.volume("empty-dir", "data");
    let secret = node.path("secret");
    fs::create_dir(&secret).expect("secret");
    symlink(&secret, data.join("absolute")).expect("link");
    symlink("../../../../../../secret", data.join("relative")).expect("link");
    symlink("/proc/self/root", data.join("magic")).expect("link");
    symlink("loop", data.join("loop")).expect("link");
    for path in ["absolute", "relative", "absolute/new", "relative/new", "magic", "loop"] {
        let error = node.manager.sub_path(&mounts, request("data", path)).await.expect_err(path);
        let expect = format!(
            "failed to prepare subPath for volumeMount \"data\" of container \"c\": subPath \"{path}\" leads outside of \
             volume path \"{}\"",
            data.display()
        );
        assert_eq!(error.to_string(), expect);
    }
    for path in ["/etc", "a/../../b", ".."] {
        let error = node.manager.sub_path(&mounts, request("data", path)).await.expect_err(path);
        assert!(error.to_string().ends_with("must be a relative path without '..'"), "{error}");
    }
    assert!(node.mounts().is_empty());
    assert_eq!(fs::read_dir(&secret).expect("secret").count(), 0, "nothing was made outside");
}
