//! Taking volumes away: nothing that a mount shows is ever deleted.

use std::{fs, sync::Arc};

use serde_json::json;
use volumes::{KernelMounter, Mounter, RecordingMounter};

use crate::support::{Node, pod, read};

#[tokio::test]
async fn removes_everything_of_the_pod_and_nothing_else() {
    let node = Node::new();
    node.secret("keys", json!({"k": "dg=="}));
    let host = node.path("host");
    fs::create_dir(&host).expect("host");
    fs::write(host.join("file"), "stays").expect("file");
    let pod = pod(
        json!([
            {"name": "data", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "keys", "secret": {"secretName": "keys"}},
            {"name": "host", "hostPath": {"path": host, "type": "Directory"}},
        ]),
        json!({}),
    );
    node.manager.set_up(&pod).await.expect("set up");
    fs::write(node.volume("empty-dir", "data").join("file"), "goes").expect("file");
    let error = node.manager.remove_pod("u1").await.expect_err("volumes are still there");
    assert!(error.to_string().contains("is still mounted"), "{error}");
    node.manager.tear_down("u1").await.expect("tear down");
    node.manager.tear_down("u1").await.expect("again");
    assert!(node.mounts().is_empty());
    assert_eq!(read(host.join("file")), "stays");
    fs::create_dir_all(node.path("kubelet/pods/u1/containers/c")).expect("kubelet's own");
    node.manager.remove_pod("u1").await.expect("remove");
    assert!(node.manager.pods_on_disk().await.expect("pods").is_empty());
    node.manager.tear_down("never-there").await.expect("nothing to do");
}

#[tokio::test]
async fn a_mount_that_cannot_be_undone_stops_it() {
    let node = Node::new();
    let volumes = json!([{"name": "memory", "emptyDir": {"medium": "Memory"}}]);
    node.manager.set_up(&pod(volumes, json!({}))).await.expect("set up");
    let memory = node.volume("empty-dir", "memory");
    let held = fs::File::create(memory.join("open")).expect("open file");
    let error = node.manager.tear_down("u1").await.expect_err("busy");
    assert!(error.to_string().starts_with("UnmountVolume.TearDown failed for volume \"memory\" : unmount "), "{error}");
    assert!(memory.join("open").exists(), "content stays while it is mounted");
    drop(held);
    node.manager.tear_down("u1").await.expect("now");
}

#[tokio::test]
async fn a_foreign_mount_inside_is_unmounted_never_emptied() {
    let node = Node::new();
    node.manager.set_up(&pod(json!([{"name": "data", "emptyDir": {}}]), json!({}))).await.expect("set up");
    let (precious, inside) = (node.path("precious"), node.volume("empty-dir", "data").join("inside"));
    fs::create_dir(&precious).expect("directory");
    fs::write(precious.join("file"), "stays").expect("file");
    fs::create_dir(&inside).expect("mount point");
    KernelMounter.bind(&precious, &inside, false).expect("bind");
    node.manager.tear_down("u1").await.expect("tear down");
    assert_eq!(read(precious.join("file")), "stays");
    assert!(node.mounts().is_empty());
}

#[tokio::test]
async fn mount_calls_in_order() {
    let mounter = Arc::new(RecordingMounter::default());
    let node = Node::with(mounter.clone());
    node.secret("keys", json!({"k": "dg=="}));
    let volumes = json!([{"name": "keys", "secret": {"secretName": "keys"}}, {"name": "data", "emptyDir": {}}]);
    let pod = pod(volumes, json!({}));
    let mounts = node.manager.set_up(&pod).await.expect("set up");
    node.manager.set_up(&pod).await.expect("again");
    let request = volumes::SubPath { pod_uid: "u1", container: "c", index: 0, volume: "data", sub_path: "s" };
    node.manager.sub_path(&mounts, request).await.expect("sub path");
    node.manager.tear_down("u1").await.expect("tear down");
    let root = node.path("kubelet/pods/u1").display().to_string();
    let log: Vec<String> = mounter.log().iter().map(|line| line.replace(&root, "POD").replace(",noswap", "")).collect();
    assert_eq!(
        log,
        [
            "mount tmpfs POD/volumes/kubernetes.io~secret/keys [size=1073741824]",
            "bind /proc/self/fd/* POD/volume-subpaths/data/c/0",
            "unmount POD/volume-subpaths/data/c/0",
            "unmount POD/volumes/kubernetes.io~secret/keys",
        ]
    );
}
