//! A master that has joined goes again (`kubeadm reset`), and says how it is.

use std::time::Duration;

use anyhow::Context;
use cluster::{
    layout::Layout,
    pki::Pki,
    supervise::{self, SUPERVISOR},
    topology::Host,
};
use store::etcd::{Members, may_remove};

use super::kept::Kept;
use crate::components::storage::etcd_options;

/// How long the components may take to end by themselves.
const STOP_GRACE: Duration = Duration::from_secs(45);

impl Kept {
    /// Ends what runs, in order.
    pub async fn stop(&self, layout: &Layout) -> anyhow::Result<()> {
        supervise::stop_by_pid_file(&layout.pid_file(SUPERVISOR), STOP_GRACE).await?;
        for unit in self.units(layout)? {
            // Those whose supervisor was killed.
            supervise::stop_group_by_pid_file(&layout.pid_file(unit.name), STOP_GRACE).await?;
        }
        Ok(())
    }

    /// Takes its member out of etcd, where the others can do without it.
    pub async fn take_out(&self, layout: &Layout) -> anyhow::Result<()> {
        let host = self.host()?;
        let others = self.topology.masters().filter(|other| other.name != host.name).map(Host::etcd_clients);
        let by_hand = || {
            format!(
                "its member stays in etcd: `argosy store member remove {}` on another master takes it out, and then {} can be \
                 removed",
                host.etcd_peers(),
                layout.root().display()
            )
        };
        let members = Members::connect(etcd_options(others, &Pki::new(layout.pki_dir()))).await;
        let members = members.with_context(by_hand)?;
        let known = members.with_health().await.with_context(by_hand)?;
        if let Some((member, _)) = known.iter().find(|(member, _)| member.is_at(&host.etcd_peers())) {
            may_remove(&known, member.id).with_context(|| format!("{} must stay", host.name))?;
            members.remove(member.id).await.with_context(by_hand)?;
        }
        members.close().await;
        Ok(())
    }

    /// Each unit with whether it runs.
    pub fn units_running(&self, layout: &Layout) -> anyhow::Result<Vec<(&'static str, bool)>> {
        let running = |name| Ok((name, supervise::read_pid_file(&layout.pid_file(name))?.is_some()));
        self.units(layout)?.into_iter().map(|unit| running(unit.name)).collect()
    }
}
