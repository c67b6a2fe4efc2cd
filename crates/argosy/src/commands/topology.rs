//! Layouts of several hosts on one machine: what `argosy up --topology`, `down`, `status` and `node` have in common.

pub mod beside;
pub mod down;
pub mod masters;
pub mod status;
pub mod up;

use std::{ffi::OsString, path::Path, time::Duration};

use anyhow::{Context, bail};
use cluster::{
    lab::Lab,
    layout::Layout,
    pki::{KubeconfigTarget, Pki, kubeconfig, write_kubeconfigs},
    progress::{Progress, Silent},
    supervise::{self, BackgroundSpec, SUPERVISOR, start_background},
    topology::{self, Host, Topology},
};
use tokio::process::Command;

/// How long a host's components may take to end by themselves.
const STOP_GRACE: Duration = Duration::from_secs(45);
/// How long a host may take to start.
pub const START_LIMIT: Duration = Duration::from_secs(120);

/// A cluster of several hosts below a data folder.
pub struct Hosts<'a> {
    pub layout: &'a Layout,
    pub topology: &'a Topology,
}

impl Hosts<'_> {
    pub fn lab(&self) -> Lab<'_> {
        Lab::new(self.topology)
    }

    pub fn host_layout(&self, host: &Host) -> Layout {
        Topology::host_layout(self.layout, &host.name)
    }

    /// The process that keeps a host's components running, where there is one.
    pub fn is_running(&self, host: &Host) -> anyhow::Result<bool> {
        Ok(supervise::status(&self.host_layout(host))?.supervisor.is_some())
    }

    /// Certificates, kubeconfigs and configuration of a host. Returns whether anything that runs there has to be started
    /// anew to see a change.
    pub fn prepare(&self, host: &Host) -> anyhow::Result<bool> {
        let layout = self.host_layout(host);
        let pki = Pki::new(layout.pki_dir());
        let identity = self.topology.identity(host)?;
        pki.ensure_signed_by(&Pki::new(self.layout.pki_dir()), &identity, std::time::SystemTime::now())?;
        if host.master || host.node {
            kubeconfigs(self.topology, host, &layout)?;
        }
        self.topology.settings(host).save(&layout)?;
        Ok(topology::write(self.topology, host, &layout)?)
    }

    /// Starts a host's components and waits until all of them have been started.
    pub async fn start(&self, host: &Host, limit: Duration, verbosity: u8) -> anyhow::Result<()> {
        let layout = self.host_layout(host);
        let args = self.host_command("run", host, [format!("--v={verbosity}")]);
        let (program, args) = self.lab().command(host, &own_program()?, args);
        let background = start_background(&BackgroundSpec { program, args, log: layout.log_file(SUPERVISOR) })?;
        let followed = background.follow(&Silent, limit).await;
        followed.with_context(|| format!("starting {}", host.name))
    }

    /// Starts every host that is not running.
    pub async fn start_all(&self, progress: &dyn Progress, limit: Duration, verbosity: u8) -> anyhow::Result<()> {
        self.each(progress, |host| async move {
            match self.is_running(&host)? {
                true => Ok(()),
                false => self.start(&host, limit, verbosity).await,
            }
        })
        .await
    }

    /// Ends a host's components in order; its pods go on.
    pub async fn end_components(&self, host: &Host) -> anyhow::Result<()> {
        let pid_file = self.host_layout(host).pid_file(SUPERVISOR);
        Ok(supervise::stop_by_pid_file(&pid_file, STOP_GRACE).await.map(drop)?)
    }

    /// Ends everything on a host; pods get `grace` seconds.
    pub async fn stop(&self, host: &Host, grace: u64) -> anyhow::Result<()> {
        let layout = self.host_layout(host);
        self.end_components(host).await?;
        for unit in topology::units(self.topology, host, &layout) {
            // Those whose supervisor was killed.
            supervise::stop_group_by_pid_file(&layout.pid_file(unit.name), STOP_GRACE).await?;
        }
        if host.node && self.lab().exists(host) {
            self.clean(host, grace).await?;
        }
        Ok(())
    }

    /// In the host's network: the links of its pods are there.
    async fn clean(&self, host: &Host, grace: u64) -> anyhow::Result<()> {
        let args = self.host_command("clean", host, [format!("--grace={grace}")]);
        let (program, args) = self.lab().command(host, &own_program()?, args);
        let output = Command::new(program).args(args).kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("cleaning up {}: {}", host.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn host_command(&self, command: &str, host: &Host, more: [String; 1]) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["host".into(), command.into(), "--data-dir".into()];
        args.push(self.layout.root().into());
        args.extend(["--name".into(), host.name.clone().into()]);
        args.extend(more.map(OsString::from));
        args
    }

    /// Does something with every host at once, a step of its own each.
    pub async fn each<F>(&self, progress: &dyn Progress, work: impl Fn(Host) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let steps = self.topology.hosts.iter().map(|host| {
            let work = work(host.clone());
            async move { crate::process::step(progress, &host.name, work).await }
        });
        let outcomes = futures_util::future::join_all(steps).await;
        outcomes.into_iter().collect()
    }
}

/// The kubeconfigs of a host's components, in its own folder.
pub fn component_kubeconfigs(topology: &Topology, layout: &Layout) -> anyhow::Result<()> {
    let target = |server| KubeconfigTarget { cluster: "argosy".into(), server };
    let own = target("https://127.0.0.1:6443".to_owned());
    Ok(write_kubeconfigs(layout, &Pki::new(layout.pki_dir()), &target(topology.api_server()), Some(&own))?)
}

/// All kubeconfigs of a host.
pub fn kubeconfigs(topology: &Topology, host: &Host, layout: &Layout) -> anyhow::Result<()> {
    component_kubeconfigs(topology, layout)?;
    match host.master {
        // Each master's own, for whoever asks it and no other; the cluster's is where users look.
        true => write_admin(layout, layout, format!("https://{}:6443", host.address)),
        false => Ok(()),
    }
}

/// The administrator's kubeconfig, with the certificate that a master has.
pub fn write_admin(of: &Layout, into: &Layout, server: String) -> anyhow::Result<()> {
    let pki = Pki::new(of.pki_dir());
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let target = KubeconfigTarget { cluster: "argosy".into(), server };
    let (ca, cert, key) = (read(&pki.cert("ca"))?, read(&pki.cert("admin"))?, read(&pki.key("admin"))?);
    let text = kubeconfig(&target, "kubernetes-admin", &ca, &cert, &key);
    Ok(cluster::files::write_if_changed(&into.kubeconfig("admin"), text.as_bytes(), 0o600).map(drop)?)
}

fn own_program() -> anyhow::Result<std::path::PathBuf> {
    std::env::current_exe().context("finding this program")
}

/// Which of the programs that a layout needs are not there.
pub fn missing_programs(topology: &Topology) -> Vec<String> {
    let wanted: [(&str, &str, bool); 5] = [
        ("etcd", "etcd-server", topology.masters().next().is_some()),
        ("ip", "iproute2", true),
        ("nft", "nftables", true),
        ("nsenter", "util-linux", true),
        ("nginx", "nginx, libnginx-mod-stream", topology.hosts.iter().any(|host| host.balancer)),
    ];
    let missing = wanted.into_iter().filter(|(name, _, needed)| *needed && !is_installed(name));
    missing.map(|(name, package, _)| format!("{name} is missing: install the package {package}")).collect()
}

fn is_installed(name: &str) -> bool {
    cluster::machine::find_program(name).is_some_and(|path| Path::new(&path).exists())
}
