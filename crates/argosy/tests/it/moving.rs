//! A cluster's data on its way from the embedded store to etcd and back, and in snapshots of both.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::{
    control_plane::ControlPlane,
    harness::{eventually, text},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OBJECTS: usize = 700;

/// A member that is a cluster of its own, ended with the test.
struct Etcd {
    process: Child,
    servers: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start(port: u16) -> Etcd {
        let folder = tempfile::tempdir().expect("a folder");
        let (servers, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", port + 1));
        let mut command = Command::new("etcd");
        command.arg(format!("--data-dir={}", folder.path().join("etcd").display()));
        for (flag, value) in [
            ("listen-client-urls", &servers),
            ("advertise-client-urls", &servers),
            ("listen-peer-urls", &peers),
            ("initial-advertise-peer-urls", &peers),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        command.arg(format!("--initial-cluster=default={peers}"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd runs (`make setup`)");
        Etcd { process, servers, _folder: folder }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // A test that has failed already says why.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn store(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
    command.arg("store").args(arguments).output().expect("the binary runs")
}

fn must(arguments: &[&str]) -> String {
    let output = store(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_moves_to_etcd_and_back_whole() {
    let (etcd, other) = (Etcd::start(21_950), Etcd::start(21_960));
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = ControlPlane::new(5);
    let client = first.start().await;
    for number in 0..OBJECTS {
        let map = json!({"metadata": {"name": format!("m{number}")}, "data": {"n": number.to_string()}});
        let body = Bytes::from(map.to_string());
        client.raw(Method::POST, MAPS, Some("application/json"), body).await.expect("created");
    }
    let data = path(first.folder.path());
    let refused = store(&["copy", "to-etcd", "--data-dir", &data, "--etcd-servers", &etcd.servers]);
    assert!(!refused.status.success() && text(&refused).contains("argosy down"), "{}", text(&refused));
    first.kill();

    // etcd may still be starting.
    eventually("etcd answers", Duration::from_secs(20), || {
        [&etcd, &other]
            .iter()
            .all(|etcd| store(&["check", "--etcd-servers", &etcd.servers]).status.success())
            .then_some(())
    });
    let copied = must(&["copy", "to-etcd", "--data-dir", &data, "--etcd-servers", &etcd.servers]);
    assert!(copied.contains("0 updated, 0 there already"), "{copied}");
    let again = must(&["copy", "to-etcd", "--data-dir", &data, "--etcd-servers", &etcd.servers]);
    assert!(again.contains(": 0 created, 0 updated"), "{again}");

    let file = path(&folder.path().join("snapshot"));
    must(&["snapshot", &file, "--etcd-servers", &etcd.servers]);
    assert!(must(&["check", &file]).contains("is sound"));
    must(&["restore", &file, "--etcd-servers", &other.servers]);
    assert!(must(&["defrag", "--etcd-servers", &other.servers]).contains("done"));

    // Into a cluster that has data of its own already.
    let mut second = ControlPlane::new(6);
    second.start().await;
    second.kill();
    let its = path(second.folder.path());
    let foreign = store(&["copy", "to-etcd", "--data-dir", &its, "--etcd-servers", &other.servers]);
    assert!(!foreign.status.success() && text(&foreign).contains("another cluster"), "{}", text(&foreign));

    // And back, in the place of what the second one had.
    std::fs::remove_dir_all(second.folder.path().join("store")).expect("removed");
    must(&["copy", "from-etcd", "--data-dir", &its, "--etcd-servers", &other.servers]);
    must(&["defrag", "--data-dir", &its]);
    let client = second.start().await;
    let list = client.raw(Method::GET, MAPS, None, Bytes::new()).await.expect("a list");
    let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
    let values = list["items"].as_array().expect("items").iter().filter_map(|map| map["data"]["n"].as_str());
    let mut values: Vec<usize> = values.map(|value| value.parse().expect("a number")).collect();
    values.sort_unstable();
    assert_eq!(values, (0..OBJECTS).collect::<Vec<_>>());
}
