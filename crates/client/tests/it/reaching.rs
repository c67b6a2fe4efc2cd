//! Kubeconfigs, and requests over TLS to a server of our own.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use client::{Client, Error, Kind, KubeconfigError, ListParams, WatchEvent, kinds::core::v1::ConfigMap, kubeconfig};
use futures_util::{FutureExt, StreamExt};
use http::{Response, header};
use net::{
    Body, PeerCertificate,
    server::{Handler, ServeOptions, serve_tls},
    tls::{ServerTls, server_config},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::pki::{Authority, identity};

/// Lists who asks as the one ConfigMap there is, and watches it change.
fn handler() -> Handler {
    Arc::new(|request| {
        async move {
            let user = match request.extensions().get::<PeerCertificate>() {
                Some(certificate) => certificate.common_name.clone(),
                None => request.headers()[header::AUTHORIZATION].to_str().unwrap().replace("Bearer ", "token-"),
            };
            let agent = request.headers()[header::USER_AGENT].to_str().unwrap();
            let object = json!({"metadata": {"name": user, "namespace": agent, "resourceVersion": "1"}});
            let watch = request.uri().query().is_some_and(|query| query.contains("watch=1"));
            let body = match watch {
                true => format!("{}\n", json!({"type": "MODIFIED", "object": object})),
                false => json!({"metadata": {"resourceVersion": "1"}, "items": [object]}).to_string(),
            };
            Response::<Body>::new(net::full(body))
        }
        .boxed()
    })
}

async fn start(authority: &Authority) -> u16 {
    let tls = ServerTls { identity: identity(authority.server()), client_cas: vec![authority.bundle()] };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_tls(
        listener,
        server_config(tls).unwrap(),
        handler(),
        ServeOptions::default(),
        Default::default(),
    ));
    port
}

fn config(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\npreferences: {{}}\n\
         contexts:\n- name: main\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
    )
}

async fn whoami(client: &Client) -> String {
    let page = client.all::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    format!("{} {}", page.items[0].name(), page.items[0].namespace())
}

#[tokio::test]
async fn a_kubeconfig_names_server_authority_and_user() {
    let authority = Authority::new("cluster");
    let port = start(&authority).await;
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.client("admin", &[]);
    for (name, content) in [("ca.crt", &authority.pem), ("admin.crt", &certificate), ("admin.key", &key)] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    std::fs::write(directory.path().join("token"), "abc\n").unwrap();
    let data = |text: &str| BASE64_STANDARD.encode(text);
    let by_file = format!("{{server: 'https://127.0.0.1:{port}', certificate-authority: ca.crt}}");
    let by_data = format!(
        "{{server: 'https://127.0.0.1:{port}/', certificate-authority-data: {}, tls-server-name: localhost}}",
        data(&authority.pem)
    );
    let by_name = "{client-certificate: admin.crt, client-key: admin.key}".to_owned();
    let inline = format!("{{client-certificate-data: {}, client-key-data: {}}}", data(&certificate), data(&key));
    let cases = [
        (&by_file, by_name, "admin"),
        (&by_data, inline, "admin"),
        (&by_data, "{token: xyz}".to_owned(), "token-xyz"),
        (&by_file, "{token: xyz, tokenFile: token}".to_owned(), "token-abc"),
    ];
    for (cluster, user, expected) in cases {
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, config(cluster, &user)).unwrap();
        let client = Client::from_kubeconfig(&kubeconfig::load(&path).unwrap(), "kube-test/v1").unwrap();
        assert_eq!(whoami(&client).await, format!("{expected} kube-test/v1"), "{user}");
        let mut watch = client.all::<ConfigMap>().watch(&ListParams::default(), "1", 10).await.unwrap();
        let event = watch.next().await.unwrap().unwrap();
        assert!(matches!(event, WatchEvent::Modified(object) if object.name() == expected));
    }
}

#[test]
fn what_a_kubeconfig_lacks_or_asks_too_much_is_named() {
    type Check = fn(&KubeconfigError) -> bool;
    let good = "{server: 'https://x:6443', certificate-authority: ca}";
    let cases: [(&str, &str, Check); 8] = [
        ("{server: 'https://x', insecure-skip-tls-verify: true}", "{}", |e| {
            matches!(e, KubeconfigError::Insecure { .. })
        }),
        ("{server: 'https://x'}", "{}", |e| matches!(e, KubeconfigError::NoAuthority { .. })),
        ("{server: 'http://x', certificate-authority: ca}", "{}", |e| matches!(e, KubeconfigError::Server { .. })),
        ("{server: 'https://x', certificate-authority-data: '*'}", "{}", |e| {
            matches!(e, KubeconfigError::Base64 { .. })
        }),
        (good, "{client-key: k}", |e| matches!(e, KubeconfigError::HalfIdentity { .. })),
        (good, "{exec: {command: aws}}", |e| matches!(e, KubeconfigError::Method { method: "exec", .. })),
        (good, "{username: a, password: b}", |e| matches!(e, KubeconfigError::Method { .. })),
        (good, "{tokenFile: t}", |e| matches!(e, KubeconfigError::Tls(_))),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    for (cluster, user, check) in cases {
        std::fs::write(&path, config(cluster, user)).unwrap();
        match Client::from_kubeconfig(&kubeconfig::load(&path).unwrap(), "test") {
            Err(Error::Kubeconfig(error)) => assert!(check(&error), "{cluster} {user}: {error}"),
            other => panic!("{cluster} {user}: {:?}", other.err()),
        }
    }
    let missing = config(good, "{}").replace("current-context: main", "current-context: other");
    std::fs::write(&path, missing).unwrap();
    let error = kubeconfig::load(&path).unwrap().https_options().unwrap_err();
    assert_eq!(error.to_string(), "kubeconfig has no context \"other\"");
    std::fs::write(&path, "clusters: 5").unwrap();
    assert!(matches!(kubeconfig::load(&path), Err(Error::Kubeconfig(KubeconfigError::Parse { .. }))));
}

#[test]
fn insecure_servers_are_for_those_who_say_so_in_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, config("{server: 'https://[::1]', insecure-skip-tls-verify: true}", "{token: t}")).unwrap();
    let mut config = kubeconfig::load(&path).unwrap();
    config.allow_insecure = true;
    let options = config.https_options().unwrap();
    assert_eq!((options.host.as_str(), options.port), ("::1", 443));
    assert!(!format!("{config:?} {options:?}").contains("\"t\""), "a token in a log");
}

#[test]
fn a_service_account_is_a_kubeconfig() {
    for (host, expected) in [("10.96.0.1", "10.96.0.1"), ("fd00::1", "fd00::1")] {
        let options = kubeconfig::in_cluster(host, "443").https_options().unwrap();
        assert_eq!((options.host.as_str(), options.port), (expected, 443));
        assert!(format!("{:?}", options.token).contains("/serviceaccount/token"));
    }
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    let authority = Authority::new("cluster");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.crt"), &authority.pem).unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(
        &path,
        config(&format!("{{server: 'https://127.0.0.1:{port}', certificate-authority: ca.crt}}"), "{}"),
    )
    .unwrap();
    let client = Client::from_kubeconfig(&kubeconfig::load(&path).unwrap(), "test").unwrap();
    let error = client.all::<ConfigMap>().get("x").await.unwrap_err();
    assert!(matches!(&error, Error::Transport(error) if error.server == format!("127.0.0.1:{port}")), "{error:?}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}
