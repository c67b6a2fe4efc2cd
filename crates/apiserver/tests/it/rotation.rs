//! After a rotation of encryption keys, a write that changes nothing is one all the same: it stores the object with the new key.

use std::sync::Arc;

use serde_json::json;
use store::{
    Store,
    embedded::{Embedded, EmbeddedOptions},
    encryption::{Encrypted, Encryption},
};

use crate::harness::{Harness, config};

const SECRET: &str = "/api/v1/namespaces/default/secrets/s";

fn encrypted(inner: &Arc<dyn Store>, keys: &[(&str, &str)]) -> Arc<dyn Store> {
    let keys: String = keys
        .iter()
        .map(|(name, secret)| format!("      - aescbc: {{keys: [{{name: {name}, secret: {secret}}}]}}\n"))
        .collect();
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    let text = format!("{head}  - resources: [secrets]\n    providers:\n{keys}");
    let resource_of = |key: &str| {
        let of_secrets = key.starts_with("/registry/secrets/");
        ("".into(), if of_secrets { "secrets" } else { "" }.into())
    };
    let encryption = Encryption::parse(&text).expect("a configuration");
    Arc::new(Encrypted::new(Arc::clone(inner), encryption, Box::new(resource_of), "/registry"))
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_encrypted_with_the_new_key() {
    let directory = tempfile::tempdir().expect("a folder");
    let inner: Arc<dyn Store> = Arc::new(Embedded::open(EmbeddedOptions::new(directory.path())).expect("a store"));
    let (old, new) = (("k1", "AAECAwQFBgcICQoLDA0ODw=="), ("k2", "HwECAwQFBgcICQoLDA0ODw=="));
    let stored = async || inner.get("/registry/secrets/default/s").await.expect("read").expect("it is there").value;

    let before = Harness::on(encrypted(&inner, &[old]), config()).await;
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}});
    before.post("/api/v1/namespaces/default/secrets", &body.to_string()).await;
    let (_, first) = before.get(SECRET).await;
    let (_, same) = before.put(SECRET, &first).await;
    assert_eq!(same["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"], "nothing to do");
    assert!(stored().await.starts_with(b"k8s:enc:aescbc:v1:k1:"));
    before.stop().cancel();

    let after = Harness::on(encrypted(&inner, &[new, old]), config()).await;
    let (status, second) = after.put(SECRET, &first).await;
    assert!(status.is_success(), "{second}");
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["data"], first["data"]);
    assert!(stored().await.starts_with(b"k8s:enc:aescbc:v1:k2:"));
    let (_, third) = after.put(SECRET, &second).await;
    assert_eq!(third["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"], "once is enough");
}
