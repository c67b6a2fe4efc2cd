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

#[cfg(test)]
mod tests {
    use cluster::{layout::Cidr, topology::Shape};

    use super::*;

    #[test]
    fn a_master_runs_what_the_others_run_and_encrypts_as_they_do() {
        let folder = std::env::temp_dir().join(format!("argosy-kept-{}", std::process::id()));
        let layout = Layout::new(&folder);
        files::make_dir(&folder).expect("a folder");
        let topology = Topology::new(Shape::Ha, None, Cidr::v4([10, 89, 7, 0], 24)).expect("a topology");
        let host = Host::joining("m", std::net::Ipv4Addr::new(10, 89, 7, 50));
        let members = [("master-1".to_owned(), "https://10.89.7.11:2380".to_owned())];
        let topology = topology.joined_by(&host, &members).expect("a topology");
        let kept = Kept { name: "m".into(), topology, joining: true };
        kept.save(&layout).expect("saved");
        assert_eq!(Kept::load(&layout).expect("read"), Some(kept.clone()));
        let flags =
            || -> Vec<String> { kept.units(&layout).expect("units").into_iter().flat_map(|u| u.args).collect() };
        let names: Vec<&str> = kept.units(&layout).expect("units").iter().map(|unit| unit.name).collect();
        assert_eq!(names, ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]);
        assert!(!flags().iter().any(|flag| flag.contains("encryption")));
        std::fs::write(encryption_file(&layout), "kind: EncryptionConfiguration").expect("written");
        let wanted = format!("--encryption-provider-config={}", encryption_file(&layout).display());
        assert_eq!(flags().iter().filter(|flag| **flag == wanted).count(), 1);
        files::remove(&folder).expect("removed");
        assert_eq!(Kept::load(&layout).expect("nothing"), None);
    }
}
