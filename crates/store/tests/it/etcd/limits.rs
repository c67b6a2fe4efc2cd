//! Time to live with real leases, the limits of etcd, and what others keep in it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use store::{
    Change, Error, ListOptions, Store, VALUE_BYTES_MAX,
    etcd::{Etcd, EtcdOptions},
};

use super::{cluster::Cluster, events};

const LONG: Option<Duration> = Some(Duration::from_secs(1000));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_run_out_are_shared_and_are_replaced_when_they_are_gone() {
    let cluster = Cluster::single();
    let (store, admin) = (cluster.connect().await, cluster.admin(0).await);
    let created = store.create("/registry/short", Bytes::new(), Some(Duration::from_millis(10))).await.unwrap();
    let mut watch = store.watch("/registry/", created).await.unwrap();
    let deleted = events(&mut watch).await;
    assert_eq!((&*deleted[0].key, &deleted[0].change), ("/registry/short", &Change::Delete));
    assert_eq!(store.get("/registry/short").await.unwrap(), None);

    for name in ["a", "b", "c"] {
        store.create(&format!("/registry/{name}"), Bytes::new(), LONG).await.unwrap();
        events(&mut watch).await;
    }
    let leases = admin.leases().await;
    assert_eq!(leases.iter().map(|(_, ttl)| ttl.as_secs()).collect::<Vec<_>>(), [1050], "one for all three");
    admin.revoke(leases[0].0).await;
    let gone = events(&mut watch).await;
    assert_eq!(gone.iter().map(|event| &*event.key).collect::<Vec<_>>(), ["/registry/a", "/registry/b", "/registry/c"]);
    assert!(gone.iter().all(|event| event.revision == gone[0].revision), "one revision comes whole");
    // The lease that would be shared is no more.
    let again = store.create("/registry/a", Bytes::new(), LONG).await.unwrap();
    assert_eq!(again.0, gone[0].revision.0 + 1);
    assert_eq!(admin.leases().await.len(), 1);

    // What lives shorter has a lease of its own, and does not end the sharing of the other.
    for name in ["d", "e"] {
        store.create(&format!("/registry/{name}"), Bytes::new(), Some(Duration::from_secs(100))).await.unwrap();
        store.create(&format!("/registry/long-{name}"), Bytes::new(), LONG).await.unwrap();
    }
    assert_eq!(admin.leases().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_etcd_finds_too_large_is_said_to_be() {
    let cluster = Cluster::start_with(1, &["--max-request-bytes", "1572864"]);
    let store = cluster.connect().await;
    let limit = match store.create("/registry/a", Bytes::from(vec![7; VALUE_BYTES_MAX]), None).await {
        Err(Error::TooLarge { bytes: VALUE_BYTES_MAX, limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert!(limit > VALUE_BYTES_MAX - 1000);
    let revision = store.create("/registry/a", Bytes::from(vec![7; limit]), None).await.unwrap();
    match store.update("/registry/a", Bytes::from(vec![7; VALUE_BYTES_MAX]), revision, None).await {
        Err(Error::TooLarge { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_is_said_to_be_full_and_still_read() {
    let cluster = Cluster::start_with(1, &["--quota-backend-bytes", "4194304"]);
    let store = cluster.connect().await;
    let first = store.create("/registry/a", Bytes::from_static(b"a"), None).await.unwrap();
    let value = Bytes::from(vec![7; 1 << 20]);
    let full = async {
        for n in 0.. {
            match store.create(&format!("/registry/{n}"), value.clone(), None).await {
                Ok(_) => {}
                Err(Error::NoSpace { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), full).await.expect("it gets full");
    let newest = store.revision().await.unwrap();
    assert!(matches!(store.update("/registry/a", value, first, None).await, Err(Error::NoSpace { .. })));
    assert_eq!(store.get("/registry/a").await.unwrap().unwrap().value, "a");
    assert_eq!(store.revision().await.unwrap(), newest);
}

/// More than is asked of etcd at once comes as one state, while others write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_a_limit_is_whole() {
    let cluster = Cluster::single();
    let store = cluster.connect().await;
    let fill = |name: &'static str| {
        let store = Arc::clone(&store);
        stream::iter(0..1100).for_each_concurrent(32, move |n| {
            let store = Arc::clone(&store);
            async move {
                store.create(&format!("/registry/{name}/{n:04}"), Bytes::new(), None).await.unwrap();
            }
        })
    };
    fill("a").await;
    let later = tokio::spawn(fill("b"));
    let options = ListOptions { prefix: "/registry/".to_owned(), ..ListOptions::default() };
    let page = store.list(options.clone()).await.unwrap();
    assert_eq!(page.remaining, 0);
    assert_eq!(page.entries.len() as u64, page.revision.0 - 1, "each revision has made one entry");
    assert!(page.entries.is_sorted_by_key(|entry| &entry.key));
    later.await.unwrap();
    assert_eq!(store.list(options).await.unwrap().entries.len(), 2200);
}

/// Two prefixes are two stores; what is no text is nobody's object and hides nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_in_the_same_etcd_are_not_seen() {
    let cluster = Cluster::single();
    let store = cluster.connect().await;
    let other = EtcdOptions { prefix: "/other".to_owned(), ..cluster.options() };
    let other: Arc<dyn Store> = Arc::new(Etcd::connect(other).await.unwrap());
    let begun = store.revision().await.unwrap();
    let (mut ours, mut theirs) =
        (store.watch("/registry/", begun).await.unwrap(), other.watch("/registry/", begun).await.unwrap());
    store.create("/registry/pods/a", Bytes::from_static(b"ours"), None).await.unwrap();
    other.create("/registry/pods/a", Bytes::from_static(b"theirs"), None).await.unwrap();
    let admin = cluster.admin(0).await;
    admin.put(b"/registry/pods/\xff", b"").await;
    admin.put(b"/registry2/pods/a", b"").await;
    store.create("/registry/pods/b", Bytes::from_static(b"ours"), None).await.unwrap();
    for (store, value, keys) in [
        (store.clone() as Arc<dyn Store>, "ours", vec!["/registry/pods/a", "/registry/pods/b"]),
        (Arc::clone(&other), "theirs", vec!["/registry/pods/a"]),
    ] {
        for limit in [0, 10] {
            let options = ListOptions { prefix: "/registry/".to_owned(), limit, ..ListOptions::default() };
            let page = store.list(options).await.unwrap();
            assert_eq!(page.entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), keys);
            assert!(page.entries.iter().all(|entry| entry.value == value));
        }
    }
    assert_eq!(&*events(&mut theirs).await[0].key, "/registry/pods/a");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(events(&mut ours).await.into_iter().map(|event| event.key));
    }
    assert_eq!(seen.iter().map(|key| &**key).collect::<Vec<_>>(), ["/registry/pods/a", "/registry/pods/b"]);
    assert!(matches!(store.get("/elsewhere").await, Err(Error::Misconfigured { .. })));
}
