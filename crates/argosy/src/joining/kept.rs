//! What a machine that has joined as a master keeps in its data folder: who it is, and in which cluster.

use std::path::PathBuf;

use anyhow::Context;
use cluster::{
    files,
    layout::Layout,
    pki::Pki,
    topology::{Host, Topology, Unit, units},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// Of this host.
    pub name: String,
    /// The cluster, as it was when this host joined.
    pub topology: Topology,
    /// The member of etcd has no vote yet.
    pub joining: bool,
}

fn file(layout: &Layout) -> PathBuf {
    layout.root().join("master.json")
}

/// Where the EncryptionConfiguration lies, where there is one.
pub fn encryption_file(layout: &Layout) -> PathBuf {
    layout.root().join("encryption-provider-config.yaml")
}

impl Kept {
    pub fn load(layout: &Layout) -> anyhow::Result<Option<Kept>> {
        let path = file(layout);
        let Some(bytes) = files::read_optional(&path)? else { return Ok(None) };
        let kept = serde_json::from_slice(&bytes);
        kept.map(Some).with_context(|| format!("{} cannot be read; restore it from a backup", path.display()))
    }

    pub fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(files::write_if_changed(&file(layout), &text, 0o644).map(drop)?)
    }

    pub fn host(&self) -> anyhow::Result<&Host> {
        Ok(self.topology.host(&self.name)?)
    }

    pub fn units(&self, layout: &Layout) -> anyhow::Result<Vec<Unit>> {
        let mut all = units(&self.topology, self.host()?, layout);
        let encryption = encryption_file(layout);
        if encryption.exists() {
            let apiserver = all.iter_mut().filter(|unit| unit.name == "kube-apiserver");
            apiserver.for_each(|unit| unit.args.push(format!("--encryption-provider-config={}", encryption.display())));
        }
        Ok(all)
    }

    /// Certificates and kubeconfigs; those that end soon are renewed.
    pub fn prepare(&self, layout: &Layout) -> anyhow::Result<()> {
        let host = self.host()?;
        let identity = self.topology.identity(host)?;
        Pki::new(layout.pki_dir()).ensure(&identity, std::time::SystemTime::now())?;
        crate::commands::topology::kubeconfigs(&self.topology, host, layout)?;
        cluster::topology::write(&self.topology, host, layout)?;
        Ok(())
    }
}
