//! VolumeRestrictions: a claim with access mode ReadWriteOncePod serves one pod of the cluster.

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection},
    node::NodeInfo,
    pod::{Claim, PodInfo},
    snapshot::Snapshot,
};

pub struct VolumeRestrictions;

#[derive(Clone)]
struct SoleUse<'a> {
    pod: &'a PodInfo,
    claims: Vec<&'a Claim>,
    users: u32,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        names::VOLUME_RESTRICTIONS
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let once = |claim: &&Claim| {
            let claim = cycle.snapshot.objects.claims.get(cycle.pod.namespace(), &claim.name);
            let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_ref());
            modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
        };
        let claims: Vec<&Claim> = cycle.pod.claims.iter().filter(once).collect();
        if claims.is_empty() {
            return PreFilter::Skip;
        }
        let users = claims.iter().map(|claim| cycle.snapshot.claim_users(cycle.pod, claim)).sum();
        PreFilter::Filter(Box::new(SoleUse { pod: cycle.pod, claims, users }))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::PodDeleted(deleted) => {
                deleted.namespace() == pod.namespace() && deleted.claims.iter().any(|claim| pod.claims.contains(claim))
            }
            ClusterEvent::ClaimChanged { namespace, name } => {
                namespace == pod.namespace() && pod.claims.iter().any(|claim| claim.name == *name)
            }
            _ => false,
        }
    }
}

impl SoleUse<'_> {
    fn shared_with(&self, pod: &PodInfo) -> u32 {
        if pod.namespace() != self.pod.namespace() {
            return 0;
        }
        self.claims.iter().filter(|claim| pod.claims.iter().any(|other| other.name == claim.name)).count() as u32
    }
}

impl Filter for SoleUse<'_> {
    fn filter(&self, _: &NodeInfo) -> Result<(), Rejection> {
        if self.users == 0 {
            return Ok(());
        }
        let reason = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
        Err(Rejection::resolvable(names::VOLUME_RESTRICTIONS, reason))
    }

    fn add_pod(&mut self, pod: &PodInfo, _: &NodeInfo) {
        self.users += self.shared_with(pod);
    }

    fn remove_pod(&mut self, pod: &PodInfo, _: &NodeInfo) {
        self.users = self.users.saturating_sub(self.shared_with(pod));
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}
