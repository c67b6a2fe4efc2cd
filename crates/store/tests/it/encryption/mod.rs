//! Encryption at rest over a real engine: what is stored, who reads it, and what happens while keys are rotated.

mod plugin;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use store::{
    Change, Error, ListOptions, Revision, Store, WatchItem,
    encryption::{Encrypted, Encryption},
    suite::Engine,
};
use tempfile::TempDir;

use self::plugin::Plugin;
use crate::support::{EmbeddedEngine, open};

const KEY: &str = "/registry/secrets/a/b";
const PLAIN: &[u8] = b"{\"kind\":\"Secret\"}";

/// The resource is what stands behind `/registry/`; groups have a dot.
fn resource_of(key: &str) -> (Arc<str>, Arc<str>) {
    let place = key.strip_prefix("/registry/").unwrap_or("all").split('/').next().unwrap_or_default();
    let (resource, group) = place.split_once('.').unwrap_or((place, ""));
    (group.into(), resource.into())
}

fn config(entries: &[(&str, &str)]) -> Encryption {
    let entries: String = entries
        .iter()
        .map(|(resources, providers)| format!("- resources: {resources}\n  providers: {providers}\n"))
        .collect();
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    Encryption::parse(&format!("{head}{entries}")).unwrap()
}

fn layered(inner: &Arc<dyn Store>, entries: &[(&str, &str)]) -> Encrypted {
    Encrypted::new(Arc::clone(inner), config(entries), Box::new(resource_of), "/registry")
}

fn one(provider: &str, name: &str, secret: &str) -> String {
    format!("{{{provider}: {{keys: [{{name: {name}, secret: {secret}}}]}}}}")
}

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn engine() -> (TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().unwrap();
    let inner: Arc<dyn Store> = Arc::new(open(directory.path()).unwrap());
    (directory, inner)
}

/// What a watch that begins with the store sees of [`KEY`].
async fn watched(store: &dyn Store) -> Bytes {
    let mut watch = store.watch("/registry/", Revision(1)).await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchItem::Events(events) => match &events.last().unwrap().change {
                Change::Put { value, .. } => return value.clone(),
                Change::Delete => panic!("nobody deletes"),
            },
            WatchItem::Progress(_) => {}
        }
    }
}

async fn listed(store: &dyn Store) -> Vec<Bytes> {
    let options = ListOptions { prefix: "/registry/".to_owned(), ..ListOptions::default() };
    store.list(options).await.unwrap().entries.into_iter().map(|entry| entry.value).collect()
}

struct EncryptedEngine(EmbeddedEngine);

#[async_trait]
impl Engine for EncryptedEngine {
    async fn open(&self) -> Arc<dyn Store> {
        let providers = format!("[{}]", one("aesgcm", "k", FIRST));
        Arc::new(layered(&self.0.open().await, &[("['*.*']", &providers)]))
    }

    async fn advance(&self, store: &Arc<dyn Store>, by: Duration) {
        self.0.advance(store, by).await;
    }
}

// All but the sizes of values: encrypted ones are longer.
store::conformance_tests!(|| EncryptedEngine(EmbeddedEngine::new()) =>
    revision_order, compare_and_swap, create_races, concurrent_increments,
    prefix_edges, at_a_revision, pages_stay_on_their_revision,
    watch_from_any_revision, watch_under_writes, progress,
    compaction, expiry, reopening);

#[tokio::test]
async fn each_provider_stores_under_its_prefix_and_reads_it_back() {
    for provider in ["aesgcm", "aescbc", "secretbox"] {
        let (_directory, inner) = engine().await;
        let store = layered(&inner, &[("[secrets]", &format!("[{}]", one(provider, "k1", FIRST)))]);
        let revision = store.create(KEY, Bytes::from_static(PLAIN), None).await.unwrap();
        store.create("/registry/pods/a/b", Bytes::from_static(PLAIN), None).await.unwrap();
        let stored = inner.get(KEY).await.unwrap().unwrap().value;
        assert!(stored.starts_with(format!("k8s:enc:{provider}:v1:k1:").as_bytes()), "{stored:?}");
        assert!(!stored.windows(6).any(|part| part == b"Secret"));
        assert_eq!(inner.get("/registry/pods/a/b").await.unwrap().unwrap().value, PLAIN, "only secrets are encrypted");
        assert_eq!(store.get(KEY).await.unwrap().unwrap().value, PLAIN);
        assert_eq!(listed(&store).await, [PLAIN, PLAIN]);
        assert_eq!(watched(&store).await, PLAIN);
        match store.update(KEY, Bytes::new(), Revision(revision.0 + 100), None).await {
            Err(Error::Conflict { current, .. }) => assert_eq!(current.unwrap().value, PLAIN),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn keys_are_rotated_without_a_moment_in_which_something_cannot_be_read() {
    let (_directory, inner) = engine().await;
    let (old, new) = (one("aescbc", "k1", FIRST), one("secretbox", "k2", SECOND));
    let identity = "{identity: {}}".to_owned();
    let stages = [
        (vec![&identity], "{"),
        // What was there before there was encryption.
        (vec![&old, &identity], "k8s:enc:aescbc:v1:k1:"),
        (vec![&old, &new, &identity], "k8s:enc:aescbc:v1:k1:"),
        (vec![&new, &old, &identity], "k8s:enc:secretbox:v1:k2:"),
        (vec![&new], "k8s:enc:secretbox:v1:k2:"),
        // Encryption is given up: what is not encrypted is written, what is encrypted is read.
        (vec![&identity, &new], "{"),
        (vec![&identity], "{"),
    ];
    let mut last = None;
    for (providers, prefix) in stages {
        let providers: Vec<_> = providers.iter().map(|provider| provider.as_str()).collect();
        let store = layered(&inner, &[("[secrets]", &format!("[{}]", providers.join(", ")))]);
        let revision = match last {
            None => store.create(KEY, Bytes::from_static(PLAIN), None).await.unwrap(),
            Some(revision) => {
                assert_eq!(store.get(KEY).await.unwrap().unwrap().value, PLAIN, "{providers:?}");
                let written_so = inner.get(KEY).await.unwrap().unwrap().value.starts_with(prefix.as_bytes());
                assert_eq!(store.is_current(KEY).await.unwrap(), written_so, "{providers:?}");
                store.update(KEY, Bytes::from_static(PLAIN), revision, None).await.unwrap()
            }
        };
        assert!(inner.get(KEY).await.unwrap().unwrap().value.starts_with(prefix.as_bytes()), "{providers:?}");
        assert!(store.is_current(KEY).await.unwrap(), "{providers:?}");
        last = Some(revision);
    }
    // The key of a name changes, which two keys of one name get over.
    let same_name = [one("aesgcm", "k", FIRST), one("aesgcm", "k", SECOND)];
    let before = layered(&inner, &[("[secrets]", &format!("[{}]", same_name[0]))]);
    before.update(KEY, Bytes::from_static(PLAIN), last.unwrap(), None).await.unwrap();
    let after = layered(&inner, &[("[secrets]", &format!("[{}, {}]", same_name[1], same_name[0]))]);
    assert_eq!(after.get(KEY).await.unwrap().unwrap().value, PLAIN);
    assert!(before.is_current(KEY).await.unwrap() && !after.is_current(KEY).await.unwrap());
}

#[tokio::test]
async fn what_nobody_can_read_is_an_error_and_hides_nothing() {
    let (_directory, inner) = engine().await;
    let writer = layered(&inner, &[("[secrets]", &format!("[{}]", one("aesgcm", "k1", FIRST)))]);
    writer.create(KEY, Bytes::from_static(PLAIN), None).await.unwrap();
    let stored = inner.get(KEY).await.unwrap().unwrap().value;
    // Bound to its key: a copy elsewhere is refused.
    inner.create("/registry/secrets/a/moved", stored.clone(), None).await.unwrap();
    assert!(matches!(writer.get("/registry/secrets/a/moved").await, Err(Error::Damaged { .. })));
    assert_eq!(listed(&writer).await, [Bytes::from_static(PLAIN), stored.clone()]);
    for providers in [one("aesgcm", "k1", SECOND), one("aesgcm", "k2", FIRST), "{identity: {}}".to_owned()] {
        let reader = layered(&inner, &[("[secrets]", &format!("[{providers}]"))]);
        assert!(matches!(reader.get(KEY).await, Err(Error::Damaged { .. })), "{providers}");
        assert_eq!(listed(&reader).await, [stored.clone(), stored.clone()]);
        assert_eq!(watched(&reader).await, stored);
    }
    let without = layered(&inner, &[("[configmaps]", "[{identity: {}}]")]);
    assert!(matches!(without.get(KEY).await, Err(Error::Damaged { .. })), "it is not taken for an object");
    // Plain text where only a key reads.
    inner.create("/registry/secrets/a/plain", Bytes::from_static(PLAIN), None).await.unwrap();
    assert!(matches!(writer.get("/registry/secrets/a/plain").await, Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn the_most_exact_rule_counts_and_an_earlier_star_hides_later_names() {
    let key = |name: &str| format!("[{}]", one("aesgcm", name, FIRST));
    for (entries, key, writer) in [
        (vec![("[secrets]", key("s")), ("['*.']", key("core")), ("['*.*']", key("all"))], "secrets", "s"),
        (vec![("[secrets]", key("s")), ("['*.']", key("core")), ("['*.*']", key("all"))], "pods", "core"),
        (vec![("[secrets]", key("s")), ("['*.']", key("core")), ("['*.*']", key("all"))], "deployments.apps", "all"),
        (vec![("['*.apps']", key("apps")), ("['*.*']", key("all"))], "deployments.apps", "apps"),
        (vec![("['*.*']", key("all")), ("[secrets]", key("s"))], "secrets", "all"),
        (vec![("['*.']", key("core")), ("[secrets]", key("s"))], "secrets", "core"),
        (vec![("[secrets]", key("first")), ("[secrets]", key("second"))], "secrets", "first"),
    ] {
        let (_directory, inner) = engine().await;
        let entries: Vec<_> = entries.iter().map(|(resources, providers)| (*resources, providers.as_str())).collect();
        let place = format!("/registry/{key}/a");
        layered(&inner, &entries).create(&place, Bytes::from_static(PLAIN), None).await.unwrap();
        let stored = inner.get(&place).await.unwrap().unwrap().value;
        assert!(stored.starts_with(format!("k8s:enc:aesgcm:v1:{writer}:").as_bytes()), "{entries:?} {key}");
    }
}

#[tokio::test]
async fn another_prefix_in_etcd_is_part_of_what_a_value_is_bound_to() {
    let (_directory, inner) = engine().await;
    let entries = [("[secrets]", format!("[{}]", one("aesgcm", "k1", FIRST)))];
    let at = |prefix| {
        let encryption = config(&[(entries[0].0, &entries[0].1)]);
        Encrypted::new(Arc::clone(&inner), encryption, Box::new(resource_of), prefix)
    };
    at("/other").create(KEY, Bytes::from_static(PLAIN), None).await.unwrap();
    assert_eq!(at("/other").get(KEY).await.unwrap().unwrap().value, PLAIN);
    assert!(matches!(at("/registry").get(KEY).await, Err(Error::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_keeps_the_key() {
    let (_directory, inner) = engine().await;
    let plugin = Plugin::start();
    let provider = format!(
        "[{{kms: {{apiVersion: v2, name: plugin, endpoint: 'unix://{}', timeout: 1s}}}}]",
        plugin.socket().display()
    );
    let start = || layered(&inner, &[("[secrets]", &provider)]);
    let store = start();
    for n in 0..10 {
        store.create(&format!("{KEY}{n}"), Bytes::from_static(PLAIN), None).await.unwrap();
    }
    let stored = inner.get(&format!("{KEY}0")).await.unwrap().unwrap().value;
    assert!(stored.starts_with(b"k8s:enc:kms:v2:plugin:"));
    assert_eq!(listed(&store).await, [PLAIN; 10]);
    assert_eq!(plugin.decrypted(), 0, "what it has encrypted itself it knows");

    // Another server asks once for all that one server has written.
    plugin.change_key("2");
    let other = start();
    assert_eq!(listed(&other).await, [PLAIN; 10]);
    assert_eq!(plugin.decrypted(), 1);
    other.create(&format!("{KEY}x"), Bytes::from_static(PLAIN), None).await.unwrap();
    for (suffix, is_current) in [("0", false), ("x", true)] {
        assert_eq!(other.is_current(&format!("{KEY}{suffix}")).await.unwrap(), is_current);
    }

    // While the plugin is away who knows the keys goes on; who does not waits, and takes nothing for unreadable.
    plugin.stop().await;
    other.create(&format!("{KEY}y"), Bytes::from_static(PLAIN), None).await.unwrap();
    let third = start();
    assert!(matches!(third.get(&format!("{KEY}0")).await, Err(Error::Unavailable { .. })));
    assert!(matches!(third.list(ListOptions::default()).await, Err(Error::Unavailable { .. })));
    assert!(matches!(third.create(KEY, Bytes::from_static(PLAIN), None).await, Err(Error::Unavailable { .. })));
    assert_eq!(inner.get(KEY).await.unwrap(), None, "nothing is written in plain text");
    let watching = tokio::spawn(async move { (watched(&third).await, third) });
    plugin.resume();
    let (value, third) = watching.await.unwrap();
    assert_eq!(value, PLAIN);
    assert_eq!(listed(&third).await, [PLAIN; 12]);
    inner.create(&format!("{KEY}bad"), Bytes::from_static(b"k8s:enc:kms:v2:plugin:\xff"), None).await.unwrap();
    assert!(matches!(third.get(&format!("{KEY}bad")).await, Err(Error::Damaged { .. })));
}
