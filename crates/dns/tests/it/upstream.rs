//! Names outside the cluster, with upstream resolvers of various virtue.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use crate::{
    cluster::{cluster, free, service, start},
    queries::{ask, question, udp},
};

#[derive(Clone, Copy, PartialEq)]
enum Virtue {
    Good,
    Silent,
    Failing,
    /// Answers with another id first.
    Forged,
    OnlyTcp,
}

/// A resolver that knows `192.0.2.1` for names in `example.com`; how often it was asked.
async fn resolver(virtue: Virtue) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let mut answer = answer(&buffer[..length]);
            match virtue {
                Virtue::Silent => continue,
                Virtue::Failing => {
                    answer.answers.clear();
                    answer.metadata.response_code = ResponseCode::ServFail;
                }
                Virtue::OnlyTcp => answer = answer.truncate(),
                Virtue::Forged => {
                    let mut forged = answer.clone();
                    forged.metadata.id = forged.metadata.id.wrapping_add(1);
                    forged.answers.clear();
                    socket.send_to(&forged.to_vec().unwrap(), peer).await.unwrap();
                }
                Virtue::Good => {}
            }
            socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut bytes).await.unwrap();
            let answer = answer(&bytes).to_vec().unwrap();
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(bytes: &[u8]) -> Message {
    let mut message = Message::from_vec(bytes).unwrap();
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    if Name::from_str("example.com.").unwrap().zone_of(&name) {
        message.add_answer(Record::from_rdata(name, 20, RData::A(A::new(192, 0, 2, 1))));
    } else {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message
}

const KNOWN: (ResponseCode, &str) = (ResponseCode::NoError, "A 192.0.2.1");

fn known() -> (ResponseCode, Vec<String>) {
    (KNOWN.0, vec![KNOWN.1.to_owned()])
}

#[tokio::test]
async fn upstreams_are_tried_in_turn_and_remembered() {
    let cases = [
        (vec![Virtue::Good], known()),
        (vec![Virtue::Forged], known()),
        (vec![Virtue::OnlyTcp], known()),
        (vec![Virtue::Silent, Virtue::Failing, Virtue::Good], known()),
        (vec![Virtue::Failing], (ResponseCode::ServFail, vec![])),
        (vec![], (ResponseCode::ServFail, vec![])),
    ];
    for (number, (virtues, expected)) in cases.into_iter().enumerate() {
        let mut addresses = Vec::new();
        let mut last = Arc::default();
        for virtue in virtues {
            let (address, asked) = resolver(virtue).await;
            addresses.push(address);
            last = asked;
        }
        let (server, _guard) = start(&cluster(), addresses).await;
        for _ in 0..3 {
            assert_eq!(ask(server, "www.example.com.", RecordType::A).await, expected, "case {number}");
        }
        if expected.0 == ResponseCode::NoError {
            assert_eq!(last.load(Ordering::Relaxed), 1, "case {number}: the answer is kept");
            assert_eq!(ask(server, "WWW.example.com.", RecordType::A).await, expected, "whatever the case");
            assert_eq!(ask(server, "gone.test.", RecordType::A).await.0, ResponseCode::NXDomain);
        }
    }
}

#[tokio::test]
async fn an_alias_of_the_cluster_is_resolved_to_its_end() {
    let api = cluster();
    api.put("services", service("ns", "outer", json!({"type": "ExternalName", "externalName": "www.example.com"})));
    let (upstream, _) = resolver(Virtue::Good).await;
    let (server, _guard) = start(&api, vec![upstream]).await;
    let (code, answers) = ask(server, "outer.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!((code, answers), (ResponseCode::NoError, vec!["A 192.0.2.1".into(), "CNAME www.example.com.".into()]));
    // Addresses that are not the cluster's have names elsewhere, or none.
    assert_eq!(ask(server, "1.2.0.192.in-addr.arpa.", RecordType::PTR).await.0, ResponseCode::NXDomain);
}

#[tokio::test]
async fn questions_that_come_back_end() {
    let api = cluster();
    // A relay that sends everything back to the server, which the server cannot know for itself.
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay_address = relay.local_addr().unwrap();
    let (server, _guard) = start(&api, vec![relay_address]).await;
    let hops = Arc::new(AtomicUsize::new(0));
    let count = hops.clone();
    tokio::spawn(async move {
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = vec![0; 4096];
        loop {
            let (length, peer) = relay.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            back.send_to(&buffer[..length], server).await.unwrap();
            let length = back.recv(&mut buffer).await.unwrap();
            relay.send_to(&buffer[..length], peer).await.unwrap();
        }
    });
    assert_eq!(ask(server, "www.example.com.", RecordType::A).await.0, ResponseCode::ServFail);
    assert_eq!(hops.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_server_is_no_upstream_of_its_own() {
    let address = free();
    let cancel = tokio_util::sync::CancellationToken::new();
    let config = dns::DnsConfig {
        listen: vec![address],
        upstreams: vec![address],
        health: None,
        ready: None,
        metrics: None,
        ..dns::DnsConfig::default()
    };
    tokio::spawn(dns::Dns::run(config, cluster().client(), cancel.clone()));
    let started = std::time::Instant::now();
    crate::cluster::until(|| async move {
        let bytes = question("svc.cluster.local.", RecordType::A).to_vec().unwrap();
        crate::queries::raw_udp(address, &bytes).await.is_some()
    })
    .await;
    let answer = udp(address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    cancel.cancel();
}
