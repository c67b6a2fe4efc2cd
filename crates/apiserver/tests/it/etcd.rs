//! The API server on a real etcd: what it writes it finds again, and what upstream's server left there as protobuf it serves.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use http::StatusCode;
use store::{
    Store,
    etcd::{Etcd, EtcdOptions},
};

use crate::harness::{self, Harness};

/// A member of its own, without TLS on the loopback; ends with the test.
pub struct Member {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Member {
    pub fn start() -> Member {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let (url, peers, dir) = (free(), free(), tempfile::tempdir().expect("a folder"));
        let process = Command::new("etcd")
            .args(["--name=m", &format!("--data-dir={}", dir.path().display())])
            .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
            .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
            .arg(format!("--initial-cluster=m={peers}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd, of the package etcd-server");
        Member { process, url, _dir: dir }
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        Arc::new(Etcd::connect(EtcdOptions::new([&*self.url])).await.expect("a connection"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_server_finds_in_etcd_what_another_left_there() {
    let member = Member::start();
    let store = member.store().await;
    let first = Harness::on(store.clone(), harness::config()).await;
    let (status, made) = first.post(MAPS, r#"{"metadata":{"name":"own"},"data":{"a":"1"}}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    // Upstream's server stores protobuf.
    let theirs = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"theirs","namespace":"default","uid":"u"},"data":{"b":"2"}}"#;
    let tree = api::json::parse(theirs.as_bytes()).expect("json");
    let message = api::protobuf::encode(api::Model::builtin(), &tree).expect("protobuf");
    assert!(message.starts_with(b"k8s\0"));
    store.create("/registry/configmaps/default/theirs", message.into(), None).await.expect("stored");
    drop(first);

    let second = Harness::on(member.store().await, harness::config()).await;
    let (_, own) = second.get(&format!("{MAPS}/own")).await;
    assert_eq!(own["metadata"]["uid"], made["metadata"]["uid"], "{own}");
    let (_, read) = second.get(&format!("{MAPS}/theirs")).await;
    assert_eq!(read["data"]["b"], "2", "{read}");
    let (status, changed) = second.patch(&format!("{MAPS}/theirs"), "merge", r#"{"data":{"c":"3"}}"#).await;
    assert_eq!((status, &changed["data"]["b"], &changed["data"]["c"]), (StatusCode::OK, &"2".into(), &"3".into()));
    let (_, all) = second.get(MAPS).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "{all}");
}
