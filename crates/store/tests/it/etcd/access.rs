//! Whom etcd lets in, and whom we take for etcd: certificates, users, other clusters, nobody at all.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::{
    Error, Revision, Store, WatchItem,
    etcd::{Etcd, EtcdOptions, Identity, Timeouts, TlsFiles, User},
};

use super::{
    begun,
    cluster::{Cluster, Pki},
    events, next,
};

async fn refused(options: EtcdOptions) -> Error {
    Etcd::connect(options).await.err().expect("it must not connect")
}

/// Waits until the cluster answers those whom it lets in.
async fn serving(cluster: &Cluster) {
    cluster.connect().await.close().await.unwrap();
}

fn user(name: &str, password: &str) -> Option<User> {
    Some(User { name: name.to_owned(), password: password.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_do_not_fit_are_told_at_once() {
    let cluster = Cluster::single();
    serving(&cluster).await;
    let foreign = Pki::new();
    let (good, bad) = (cluster.pki.files(), foreign.files());
    std::fs::write(foreign.path("empty"), "").unwrap();
    for (what, tls) in [
        ("a server of another authority", Some(TlsFiles { ca: bad.ca.clone(), ..good.clone() })),
        ("no certificate", Some(TlsFiles { identity: None, ..good.clone() })),
        ("a certificate of another authority", Some(TlsFiles { identity: bad.identity.clone(), ..good.clone() })),
        ("no files", None),
        ("a CA file that is not there", Some(TlsFiles { ca: foreign.path("none"), ..good.clone() })),
        ("a CA file without a certificate", Some(TlsFiles { ca: foreign.path("empty"), ..good.clone() })),
        (
            "a key of another certificate",
            Some(TlsFiles {
                identity: Some(Identity {
                    certificate: cluster.pki.path("client.crt"),
                    key: cluster.pki.path("server.key"),
                }),
                ..good.clone()
            }),
        ),
    ] {
        let begun = Instant::now();
        match refused(EtcdOptions { tls, ..cluster.options() }).await {
            Error::Misconfigured { message } => assert!(message.contains(&cluster.urls()[0]), "{what}: {message}"),
            other => panic!("{what}: {other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: nothing is gained by waiting");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_there_or_not_etcd_is_named() {
    let timeouts =
        Timeouts { patience: Duration::from_secs(1), connect: Duration::from_millis(500), ..Timeouts::default() };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pki = Pki::new();
    for url in [format!("https://{gone}"), format!("https://{}", silent.local_addr().unwrap())] {
        let options = EtcdOptions { tls: Some(pki.files()), timeouts, ..EtcdOptions::new([url.clone()]) };
        let begun = Instant::now();
        match refused(options).await {
            Error::Unavailable { message } => assert!(message.contains(&url), "{message}"),
            other => panic!("{url}: {other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    for url in ["127.0.0.1:2379", ""] {
        assert!(matches!(refused(EtcdOptions::new([url])).await, Error::Misconfigured { .. }));
    }
    assert!(matches!(refused(EtcdOptions::new(Vec::<String>::new())).await, Error::Misconfigured { .. }));
}

/// A member of another cluster would answer with its own data: it is never asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_not_asked() {
    let (ours, theirs) = (Cluster::single(), Cluster::start_with(1, &["--initial-cluster-token", "theirs"]));
    serving(&theirs).await;
    theirs.admin(0).await.put(b"/registry/a", b"theirs").await;
    for name in ["server.crt", "server.key", "ca.crt"] {
        std::fs::copy(ours.pki.path(name), theirs.pki.path(name)).unwrap();
    }
    theirs.kill(0);
    theirs.start(0);
    let timeouts = Timeouts { patience: Duration::from_secs(1), ..Timeouts::default() };
    serving(&ours).await;
    let endpoints = [ours.urls(), theirs.urls()].concat();
    let store = Etcd::connect(EtcdOptions { endpoints, timeouts, ..ours.options() }).await.unwrap();
    store.create("/registry/a", Bytes::from_static(b"ours"), None).await.unwrap();
    ours.kill(0);
    for _ in 0..3 {
        match store.get("/registry/a").await {
            Err(Error::Unavailable { message }) => assert!(message.contains(&ours.urls()[0]), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_log_in_and_again_when_their_token_is_gone() {
    let cluster = Cluster::single();
    serving(&cluster).await;
    cluster.admin(0).await.enable_users().await;
    for wrong in [user("root", "wrong"), user("nobody", "secret"), None] {
        let error = refused(EtcdOptions { user: wrong, ..cluster.options() }).await;
        assert!(matches!(error, Error::Misconfigured { .. }), "{error:?}");
    }
    let store = Etcd::connect(EtcdOptions { user: user("root", "secret"), ..cluster.options() }).await.unwrap();
    let first = store.create("/registry/a", Bytes::new(), None).await.unwrap();
    let mut watch = begun(&store, "/registry/", first).await;
    // A member that has begun anew knows no tokens.
    cluster.kill(0);
    cluster.start(0);
    let entry = store.get("/registry/a").await.unwrap().unwrap();
    let second = store.update("/registry/a", Bytes::new(), entry.modified, None).await.unwrap();
    assert_eq!(events(&mut watch).await[0].revision, second);
}

/// Who may read only a prefix can do all but watch: this etcd cannot say how far such a watch is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_a_prefix_may_not_watch_with_an_etcd_that_cannot_tell_progress() {
    let cluster = Cluster::single();
    serving(&cluster).await;
    cluster.admin(0).await.enable_users().await;
    let store = Etcd::connect(EtcdOptions { user: user("some", "secret"), ..cluster.options() }).await.unwrap();
    let created = store.create("/registry/a", Bytes::new(), None).await.unwrap();
    assert_eq!(store.get("/registry/a").await.unwrap().unwrap().modified, created);
    let mut watch = store.watch("/registry/", Revision(created.0)).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), WatchItem::Progress(created));
    match next(&mut watch).await {
        Err(Error::Misconfigured { message }) => assert!(message.contains("3.4.31"), "{message}"),
        other => panic!("{other:?}"),
    }
    let other =
        Etcd::connect(EtcdOptions { user: user("some", "secret"), prefix: "/other".to_owned(), ..cluster.options() });
    assert!(matches!(other.await, Err(Error::Misconfigured { .. })), "what is not theirs is refused");
}
