//! Where an API server keeps its data: the embedded engine or etcd, with or without encryption at rest.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use api::ResourceTable;
use clap::Args;
use cluster::pki::Pki;
use store::{
    Store,
    embedded::{Embedded, EmbeddedOptions},
    encryption::{Encrypted, Encryption, ResourceOf},
    etcd::{DEFAULT_PREFIX, Etcd, EtcdOptions, Identity, Members, TlsFiles},
};

use crate::flags::GoDuration;

/// Where etcd is, and who this is to it.
#[derive(Args, Clone, Debug, Default)]
pub struct EtcdFlags {
    /// etcd's URLs: SCHEME://HOST:PORT of each member
    #[arg(long, value_delimiter = ',', help_heading = "Storage")]
    etcd_servers: Vec<String>,
    /// What all keys in etcd begin with
    #[arg(long, default_value = DEFAULT_PREFIX, help_heading = "Storage")]
    etcd_prefix: String,
    /// Authorities that etcd's certificates must come from
    #[arg(long, help_heading = "Storage")]
    etcd_cafile: Option<PathBuf>,
    /// Certificate that this server shows to etcd
    #[arg(long, requires = "etcd_keyfile", help_heading = "Storage")]
    etcd_certfile: Option<PathBuf>,
    /// Key of --etcd-certfile
    #[arg(long, requires = "etcd_certfile", help_heading = "Storage")]
    etcd_keyfile: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct StorageFlags {
    /// Folder of the embedded store, where no etcd is named
    #[arg(long, default_value = "/var/lib/argosy/store", help_heading = "Storage")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    etcd: EtcdFlags,
    /// How often etcd's history is compacted; 0 is never
    #[arg(long, default_value = "5m", help_heading = "Storage")]
    etcd_compaction_interval: GoDuration,
    /// EncryptionConfiguration that says which resources are encrypted at rest, and how
    #[arg(long, help_heading = "Storage")]
    encryption_provider_config: Option<PathBuf>,
}

impl StorageFlags {
    /// The embedded engine in a folder, as it is where nothing else is said.
    pub fn embedded(data_dir: PathBuf) -> StorageFlags {
        StorageFlags {
            data_dir,
            etcd: EtcdFlags::default(),
            etcd_compaction_interval: GoDuration(Duration::ZERO),
            encryption_provider_config: None,
        }
    }

    pub async fn open(self) -> anyhow::Result<Arc<dyn Store>> {
        // Before anything is opened: a mistake in the file must leave nothing behind.
        let encryption = match &self.encryption_provider_config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let parsed = Encryption::parse(&text);
                Some(parsed.with_context(|| format!("--encryption-provider-config={}", path.display()))?)
            }
            None => None,
        };
        let store: Arc<dyn Store> = if self.etcd.is_named() {
            Arc::new(self.etcd.connect(self.etcd_compaction_interval.0).await?)
        } else {
            let options = EmbeddedOptions::new(&self.data_dir);
            Arc::new(tokio::task::spawn_blocking(move || Embedded::open(options)).await??)
        };
        Ok(match encryption {
            Some(encryption) => Arc::new(Encrypted::new(store, encryption, stored_resources(), DEFAULT_PREFIX)),
            None => store,
        })
    }
}

impl EtcdFlags {
    pub fn is_named(&self) -> bool {
        !self.etcd_servers.is_empty()
    }

    /// `compaction_interval`: how often history is compacted; zero is never.
    pub async fn connect(self, compaction_interval: Duration) -> anyhow::Result<Etcd> {
        let options = EtcdOptions { compaction_interval, ..self.options()? };
        Etcd::connect(options).await.context("--etcd-servers")
    }

    /// Who the cluster's members are, with the certificates of a data folder where the flags name none.
    pub async fn members(self, pki: &Pki) -> anyhow::Result<Members> {
        if self.etcd_servers.is_empty() {
            bail!("--etcd-servers is needed: the URLs of etcd's members, such as https://192.0.2.11:2379");
        }
        let named = self.etcd_cafile.is_some() || self.etcd_servers.iter().any(|server| server.starts_with("http:"));
        let options = if named { self.options()? } else { etcd_options(self.etcd_servers, pki) };
        Members::connect(options).await.context("--etcd-servers")
    }

    fn options(self) -> anyhow::Result<EtcdOptions> {
        let mut options = EtcdOptions::new(self.etcd_servers);
        options.prefix = self.etcd_prefix;
        options.tls = match (self.etcd_cafile, self.etcd_certfile.zip(self.etcd_keyfile)) {
            (Some(ca), identity) => {
                let identity = identity.map(|(certificate, key)| Identity { certificate, key });
                Some(TlsFiles { ca, identity })
            }
            (None, None) => None,
            (None, Some(_)) => {
                bail!("--etcd-certfile needs --etcd-cafile, the authority that etcd's own certificate is of")
            }
        };
        Ok(options)
    }
}

/// etcd as a master's API server reaches it: with the certificates in its folder.
pub fn etcd_options(endpoints: impl IntoIterator<Item = String>, pki: &Pki) -> EtcdOptions {
    let identity = Identity { certificate: pki.cert("apiserver-etcd-client"), key: pki.key("apiserver-etcd-client") };
    let tls = TlsFiles { ca: pki.cert("etcd/ca"), identity: Some(identity) };
    EtcdOptions { tls: Some(tls), ..EtcdOptions::new(endpoints) }
}

/// Which resource's object is stored under a key, in the terms of an EncryptionConfiguration.
fn stored_resources() -> ResourceOf {
    let table = ResourceTable::builtin();
    let stored = table.resources().filter(|resource| resource.is_stored() && resource.is_storage_version());
    let places: HashMap<Arc<str>, (Arc<str>, Arc<str>)> =
        stored.map(|resource| (resource.storage.clone(), (resource.group.clone(), resource.plural.clone()))).collect();
    Box::new(move |key| {
        let path = key.strip_prefix(DEFAULT_PREFIX).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
        let mut ends = path.match_indices('/').map(|(at, _)| at);
        let (first, second) = (ends.next().unwrap_or_default(), ends.next().unwrap_or_default());
        let built_in = places.get(path.get(..second).unwrap_or_default()).or_else(|| places.get(&path[..first]));
        match (built_in, path[..first].contains('.') && second > first) {
            (Some(place), _) => place.clone(),
            // A custom resource: its group, which has a dot, and its plural name.
            (None, true) => (path[..first].into(), path[first + 1..second].into()),
            (None, false) => ("".into(), "".into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_resource() {
        let of = stored_resources();
        for (key, group, resource) in [
            ("/registry/secrets/kube-system/a", "", "secrets"),
            ("/registry/namespaces/a", "", "namespaces"),
            ("/registry/services/specs/default/a", "", "services"),
            ("/registry/services/endpoints/default/a", "", "endpoints"),
            ("/registry/deployments/default/a", "apps", "deployments"),
            ("/registry/example.com/widgets/default/a", "example.com", "widgets"),
            ("/registry/odd", "", ""),
            ("elsewhere", "", ""),
        ] {
            let (found_group, found) = of(key);
            assert_eq!((&*found_group, &*found), (group, resource), "{key}");
        }
    }
}
