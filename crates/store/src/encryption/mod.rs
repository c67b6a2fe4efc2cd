//! Encryption at rest: a layer over any engine, so that values are encrypted before an engine sees them. The file, the
//! layout of what is stored, and who reads and writes are upstream's (apiserver/pkg/server/options/encryptionconfig and
//! apiserver/pkg/storage/value), so that either reads what the other wrote.
//!
//! - The first provider that is named for a resource writes, all of them read: to rotate a key put the new one first,
//!   write everything anew, then take the old one away.
//! - A value that no provider can read is an error to [`Store::get`]. In lists and watches it is handed on as it is stored,
//!   which nobody takes for an object, so that it does not hide the others; it is reported.
//! - While a KMS plugin does not answer, lists fail and watches wait: what is only late must not be taken for unreadable.

mod cipher;
mod config;
mod kms;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use self::{
    cipher::{Cipher, Refused},
    config::{GroupResource, NamedKey, Provider},
    kms::Kms,
};
use crate::{Change, Entry, Error, ListOptions, ListPage, Result, Revision, Store, WatchItem, WatchStream, etcd};

/// What everything encrypted begins with.
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// Between two tries to have a watched value decrypted.
const PAUSE: Duration = Duration::from_secs(1);

/// Group and plural name of the resource whose object is stored under a key; both empty where it is none.
pub type ResourceOf = Box<dyn Fn(&str) -> (Arc<str>, Arc<str>) + Send + Sync>;

/// Who encrypts what: a parsed EncryptionConfiguration.
pub struct Encryption {
    rules: Vec<(GroupResource, Vec<Arc<Transformer>>)>,
}

impl Encryption {
    /// From the text of the file that upstream's flag `--encryption-provider-config` names. In a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] names the place in the file.
    pub fn parse(yaml: &str) -> Result<Encryption> {
        let mut rules: Vec<(GroupResource, Vec<Arc<Transformer>>)> = Vec::new();
        for (resources, providers) in config::parse(yaml)? {
            let mut transformers = Vec::new();
            for provider in providers {
                transformers.extend(Transformer::all_of(provider)?.into_iter().map(Arc::new));
            }
            // What an earlier entry selects by a star is its alone; what it names, a later one may add readers to.
            let masked = |resource: &GroupResource| {
                rules.iter().any(|(earlier, _)| earlier != resource && earlier.covers(resource))
            };
            let chosen: Vec<_> = resources.into_iter().filter(|resource| !masked(resource)).collect();
            for resource in chosen {
                match rules.iter_mut().find(|(earlier, _)| *earlier == resource) {
                    Some((_, present)) => present.extend(transformers.iter().cloned()),
                    None => rules.push((resource, transformers.clone())),
                }
            }
        }
        Ok(Encryption { rules })
    }

    /// Those who read and write a resource; none where its values are not encrypted.
    fn of(&self, group: &str, resource: &str) -> &[Arc<Transformer>] {
        if resource.is_empty() {
            return &[];
        }
        let patterns = [(group, resource), (group, "*"), ("*", "*")];
        let rule = patterns.iter().find_map(|(group, resource)| {
            self.rules.iter().find(|(rule, _)| rule.group == *group && rule.resource == *resource)
        });
        rule.map_or(&[], |(_, transformers)| transformers)
    }
}

/// What one key, or one plugin, makes of values.
enum Transformer {
    Identity,
    Key { prefix: Vec<u8>, cipher: Cipher },
    Kms { prefix: Vec<u8>, kms: Box<Kms> },
}

/// Why a value was not transformed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("no provider of its resource reads it")]
    NoProvider,
    /// Later it may be.
    #[error("{0}")]
    Unavailable(String),
}

impl Transformer {
    fn all_of(provider: Provider) -> Result<Vec<Transformer>> {
        let keys = |name: &str, keys: Vec<NamedKey>, cipher: fn(&[u8]) -> Result<Cipher, Refused>| {
            let one = |key: NamedKey| match cipher(&key.secret) {
                Ok(cipher) => {
                    Ok(Transformer::Key { prefix: format!("k8s:enc:{name}:v1:{}:", key.name).into_bytes(), cipher })
                }
                Err(refused) => Err(Error::Misconfigured { message: format!("{name} key {}: {refused}", key.name) }),
            };
            keys.into_iter().map(one).collect()
        };
        match provider {
            Provider::Identity => Ok(vec![Transformer::Identity]),
            Provider::AesGcm(named) => keys("aesgcm", named, Cipher::aes_gcm),
            Provider::AesCbc(named) => keys("aescbc", named, Cipher::aes_cbc),
            Provider::Secretbox(named) => keys("secretbox", named, Cipher::secretbox),
            Provider::Kms(plugin) => {
                let prefix = format!("k8s:enc:kms:v2:{}:", plugin.name).into_bytes();
                Ok(vec![Transformer::Kms { prefix, kms: Box::new(Kms::new(plugin)) }])
            }
        }
    }

    async fn seal(&self, path: &[u8], plain: Bytes) -> Result<Bytes, Failure> {
        let (prefix, sealed) = match self {
            Transformer::Identity => return Ok(plain),
            Transformer::Key { prefix, cipher } => (prefix, cipher.seal(path, &plain)?),
            Transformer::Kms { prefix, kms } => (prefix, kms.seal(path, &plain).await?),
        };
        Ok([&prefix[..], &sealed].concat().into())
    }

    /// Whether what is stored is what it would write now. A plugin that does not answer cannot write, so that it makes no
    /// difference what it would.
    async fn would_write(&self, path: &[u8], stored: &Bytes) -> bool {
        match self {
            Transformer::Kms { prefix, kms } => match stored.strip_prefix(&prefix[..]) {
                Some(stored) => kms.would_write(stored).await,
                None => false,
            },
            // Two keys may have one name while they are rotated.
            Transformer::Identity | Transformer::Key { .. } => matches!(self.open(path, stored).await, Some(Ok(_))),
        }
    }

    /// `None` for what another one has to read.
    async fn open(&self, path: &[u8], stored: &Bytes) -> Option<Result<Bytes, Failure>> {
        let opened = match self {
            Transformer::Identity => return (!stored.starts_with(ENCRYPTED)).then(|| Ok(stored.clone())),
            Transformer::Key { prefix, cipher } => {
                cipher.open(path, stored.strip_prefix(&prefix[..])?).map_err(Failure::from)
            }
            Transformer::Kms { prefix, kms } => kms.open(path, stored.strip_prefix(&prefix[..])?).await,
        };
        Some(opened.map(Bytes::from))
    }
}

/// A store whose values are encrypted as a configuration says.
pub struct Encrypted {
    inner: Arc<dyn Store>,
    layer: Arc<Layer>,
}

struct Layer {
    encryption: Encryption,
    resource_of: ResourceOf,
    keys: etcd::Keys,
    closed: CancellationToken,
}

impl Encrypted {
    /// `prefix` is what keys begin with in etcd ([`etcd::EtcdOptions::prefix`]) in the place of [`etcd::DEFAULT_PREFIX`].
    pub fn new(inner: Arc<dyn Store>, encryption: Encryption, resource_of: ResourceOf, prefix: &str) -> Encrypted {
        let keys = etcd::Keys::new(etcd::DEFAULT_PREFIX, prefix);
        let layer = Layer { encryption, resource_of, keys, closed: CancellationToken::new() };
        Encrypted { inner, layer: Arc::new(layer) }
    }
}

impl Layer {
    fn transformers(&self, key: &str) -> &[Arc<Transformer>] {
        let (group, resource) = (self.resource_of)(key);
        self.encryption.of(&group, &resource)
    }

    /// What a value is bound to: the key under which it is stored.
    fn path(&self, key: &str) -> Bytes {
        self.keys.theirs_of(key).unwrap_or_else(|_| Bytes::copy_from_slice(key.as_bytes()))
    }

    async fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes> {
        let Some(writer) = self.transformers(key).first() else { return Ok(plain) };
        writer.seal(&self.path(key), plain).await.map_err(|failure| Error::Unavailable {
            message: format!("{key} was not encrypted and not written: {failure}"),
        })
    }

    async fn open(&self, key: &str, stored: &Bytes) -> Result<Bytes, Failure> {
        let transformers = self.transformers(key);
        if transformers.is_empty() {
            let readable = Transformer::Identity.open(&[], stored).await;
            return readable.unwrap_or(Err(Failure::NoProvider));
        }
        let path = self.path(key);
        let mut failure = Failure::NoProvider;
        for transformer in transformers {
            match transformer.open(&path, stored).await {
                None => {}
                Some(Ok(plain)) => return Ok(plain),
                // Two keys may have one name while they are rotated: the next one may read it. That one may later
                // weighs more than that another cannot.
                Some(Err(later @ Failure::Unavailable(_))) => failure = later,
                Some(Err(other)) if !matches!(failure, Failure::Unavailable(_)) => failure = other,
                Some(Err(_)) => {}
            }
        }
        Err(failure)
    }

    /// As stored where nobody can read it; an error where somebody may later.
    async fn open_or_report(&self, key: &str, stored: Bytes) -> Result<Bytes> {
        match self.open(key, &stored).await {
            Ok(plain) => Ok(plain),
            Err(Failure::Unavailable(message)) => {
                Err(Error::Unavailable { message: format!("{key} is not decrypted: {message}") })
            }
            Err(failure) => {
                tracing::error!(key, error = %failure, "a stored value cannot be decrypted");
                Ok(stored)
            }
        }
    }

    async fn open_entry(&self, entry: Entry) -> Result<Entry> {
        let value = self.open_or_report(&entry.key, entry.value).await?;
        Ok(Entry { value, ..entry })
    }

    /// A conflict shows what is there.
    async fn open_conflict(&self, error: Error) -> Error {
        let Error::Conflict { key, current: Some(current) } = error else { return error };
        match self.open_entry(*current).await {
            Ok(entry) => Error::Conflict { key, current: Some(Box::new(entry)) },
            Err(error) => error,
        }
    }

    /// Waits where it must: a watch cannot leave an event out.
    async fn open_item(&self, item: WatchItem) -> Result<WatchItem> {
        let WatchItem::Events(mut events) = item else { return Ok(item) };
        for event in &mut events {
            let Change::Put { value, .. } = &mut event.change else { continue };
            loop {
                match self.open_or_report(&event.key, value.clone()).await {
                    Ok(plain) => break *value = plain,
                    Err(error) => tracing::warn!(%error, "a watch waits"),
                }
                tokio::select! {
                    () = self.closed.cancelled() => return Err(Error::Closed),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        Ok(WatchItem::Events(events))
    }
}

#[async_trait]
impl Store for Encrypted {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(None) };
        match self.layer.open(key, &entry.value).await {
            Ok(value) => Ok(Some(Entry { value, ..entry })),
            Err(Failure::Unavailable(message)) => Err(Error::Unavailable { message }),
            Err(failure) => Err(Error::Damaged {
                message: format!(
                    "{key} cannot be decrypted ({failure}); add the key it was written with to the encryption \
                     configuration"
                ),
            }),
        }
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let page = self.inner.list(options).await?;
        let mut entries = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            entries.push(self.layer.open_entry(entry).await?);
        }
        Ok(ListPage { entries, ..page })
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        let sealed = self.layer.seal(key, value).await?;
        self.inner.create(key, sealed, ttl).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision> {
        let sealed = self.layer.seal(key, value).await?;
        match self.inner.update(key, sealed, expected, ttl).await {
            Ok(revision) => Ok(revision),
            Err(error) => Err(self.layer.open_conflict(error).await),
        }
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        match self.inner.delete(key, expected).await {
            Ok(revision) => Ok(revision),
            Err(error) => Err(self.layer.open_conflict(error).await),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        let inner = self.inner.watch(prefix, after).await?;
        let layer = Arc::clone(&self.layer);
        Ok(stream::unfold(Some((inner, layer)), |watch| async {
            let (mut inner, layer) = watch?;
            let item = match inner.next().await? {
                Ok(item) => layer.open_item(item).await,
                Err(error) => Err(error),
            };
            let next = item.is_ok().then_some((inner, layer));
            Some((item, next))
        })
        .boxed())
    }

    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }

    async fn is_current(&self, key: &str) -> Result<bool> {
        let Some(writer) = self.layer.transformers(key).first() else { return Ok(true) };
        let Some(entry) = self.inner.get(key).await? else { return Ok(true) };
        Ok(writer.would_write(&self.layer.path(key), &entry.value).await)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn close(&self) -> Result<()> {
        self.layer.closed.cancel();
        self.inner.close().await
    }
}
