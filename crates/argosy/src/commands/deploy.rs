//! `argosy deploy`: the files of a layout whose hosts are machines of their own. One folder per machine holds everything
//! that is to be copied to its root: certificates, kubeconfigs, configuration, and a unit file for each component.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use cluster::{
    containerd, files,
    images::PAUSE_IMAGE,
    layout::{DEFAULT_DATA_DIR, Layout},
    machine,
    pki::Pki,
    topology::{Host, Shape, Topology, containerd_unit, files as configuration, unit_file, units},
};

use super::topology::{component_kubeconfigs, write_admin};

/// Where unit files are looked for.
const UNITS: &str = "etc/systemd/system";

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the folders are made; certificates that are there already are kept
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The layout: single, single-schedulable, ha or ha-schedulable
    #[arg(long, value_name = "LAYOUT")]
    topology: Shape,
    /// The machine of nginx, with ha and ha-schedulable
    #[arg(long, value_name = "NAME=ADDRESS")]
    balancer: Option<Machine>,
    /// A machine of the control plane and of etcd; once for each
    #[arg(long, value_name = "NAME=ADDRESS", required = true)]
    master: Vec<Machine>,
    /// A machine for pods; once for each
    #[arg(long, value_name = "NAME=ADDRESS")]
    worker: Vec<Machine>,
    /// Folder of the cluster on each machine
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Where the binary lies on each machine
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/argosy")]
    program: PathBuf,
}

#[derive(Clone, Debug)]
struct Machine(String, Ipv4Addr);

impl FromStr for Machine {
    type Err = String;

    fn from_str(text: &str) -> Result<Machine, String> {
        let (name, address) = text.split_once('=').ok_or("expected NAME=ADDRESS, such as m1=192.0.2.11")?;
        let address = address.parse().map_err(|_| format!("{address:?} is no IPv4 address"))?;
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = |c: char| ends(c) || c == '-' || c == '.';
        if !name.starts_with(ends) || !name.ends_with(ends) || !name.chars().all(inner) {
            return Err(format!("{name:?} is no host name in lower case"));
        }
        Ok(Machine(name.to_owned(), address))
    }
}

pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let machine = |machine: &Machine| (machine.0.clone(), machine.1);
    let out = std::path::absolute(&flags.out)?;
    let before = Topology::load(&Layout::new(&out))?;
    let topology = Topology::of_machines(
        flags.topology,
        flags.balancer.as_ref().map(machine),
        flags.master.iter().map(machine).collect(),
        flags.worker.iter().map(machine).collect(),
        before.as_ref(),
    )?;
    for host in &topology.hosts {
        Deployment { flags, topology: &topology, host, root: out.join(&host.name) }.write(&out)?;
        println!("{:<12} {:<15} {}", host.name, host.address, out.join(&host.name).display());
    }
    // What the next run goes by: masters that are not in it then join a cluster that is there.
    topology.save(&Layout::new(&out))?;
    if let Some(before) = &before {
        tell_changes(before, &topology);
    }
    println!("\n  export KUBECONFIG={}", out.join("admin.kubeconfig").display());
    println!("\nKeep {} in a safe place: it holds the cluster's keys.", out.join("pki").display());
    println!("How the folders get to their machines: docs/install.md");
    Ok(())
}

/// Masters are more than files to etcd.
fn tell_changes(before: &Topology, now: &Topology) {
    let missing = |of: &Topology, from: &Topology| -> Vec<Host> {
        of.masters().filter(|host| from.masters().all(|other| other.name != host.name)).cloned().collect()
    };
    for host in missing(now, before) {
        println!(
            "\n{} is new: unless it has joined by token, before its etcd is started, on another master:",
            host.name
        );
        println!("  argosy store member add {} --etcd-servers https://127.0.0.1:2379", host.etcd_peers());
        println!("and once it runs:");
        println!("  argosy store member promote {} --etcd-servers https://127.0.0.1:2379", host.name);
    }
    for host in missing(before, now) {
        println!("\n{} goes: when nginx has its new configuration, on another master:", host.name);
        println!("  argosy store member remove {} --etcd-servers https://127.0.0.1:2379", host.etcd_peers());
    }
}

/// One machine's folder.
struct Deployment<'a> {
    flags: &'a Flags,
    topology: &'a Topology,
    host: &'a Host,
    root: PathBuf,
}

impl Deployment<'_> {
    /// A path of the machine, below its folder here.
    fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn put(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let place = self.place(path);
        if let Some(folder) = place.parent() {
            files::make_dir(folder)?;
        }
        Ok(files::write_if_changed(&place, text.as_bytes(), 0o644).map(drop)?)
    }

    fn write(&self, out: &Path) -> anyhow::Result<()> {
        let (topology, host) = (self.topology, self.host);
        // As the machine sees it, and where it is written.
        let (there, here) = (Layout::new(&self.flags.data_dir), Layout::new(self.place(&self.flags.data_dir)));
        files::make_dir(here.root())?;
        if host.master || host.node {
            self.identity(out, &here)?;
        }
        topology.settings(host).save(&here)?;
        for (path, text) in configuration(topology, host, &there) {
            self.put(&path, &text)?;
        }
        let mut all = units(topology, host, &there);
        if host.node {
            let plugins = machine::cni_plugin_dir()?;
            self.put(&there.containerd_config(), &containerd::config_toml(&there, &plugins, PAUSE_IMAGE))?;
            all.push(containerd_unit(&there));
        }
        for unit in &all {
            self.put(&Path::new("/").join(UNITS).join(unit.file_name()), &unit_file(unit, &self.flags.program))?;
        }
        // Folders that programs want to find, and that stay when their files are copied over others.
        for folder in [here.log_dir(), here.run_dir()] {
            files::make_dir(&folder)?;
        }
        if host.master {
            files::make_private_dir(&here.etcd_dir())?;
        }
        if host.node {
            files::make_dir(&here.static_pods_dir())?;
            files::make_dir(&here.cni_conf_dir())?;
        }
        Ok(())
    }

    fn identity(&self, out: &Path, here: &Layout) -> anyhow::Result<()> {
        let pki = Pki::new(here.pki_dir());
        let identity = self.topology.identity(self.host)?;
        pki.ensure_signed_by(&Pki::new(out.join("pki")), &identity, std::time::SystemTime::now())?;
        component_kubeconfigs(self.topology, here)?;
        // One for whoever administers the cluster, which does not change with the number of masters.
        if self.topology.masters().next() == Some(self.host) {
            write_admin(here, &Layout::new(out), self.topology.api_server())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_with_their_addresses() {
        for (text, valid) in [
            ("m1=192.0.2.11", true),
            ("a.b-c=10.0.0.1", true),
            ("m1", false),
            ("=1.2.3.4", false),
            ("M1=1.2.3.4", false),
            ("m1=1.2.3", false),
            ("-a=1.2.3.4", false),
        ] {
            assert_eq!(text.parse::<Machine>().is_ok(), valid, "{text}");
        }
    }
}
