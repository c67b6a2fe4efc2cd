//! Claims of pods' generic ephemeral volumes: each is made from the volume's template for the pod, and goes with it
//! (upstream pkg/controller/volume/ephemeral).

use client::{
    Delta, Informer, Kind, ObjectKey,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::core::v1::{PersistentVolumeClaim, Pod, Volume},
};

use super::protection::{self, BY_CLAIM};
use crate::{
    manager::Setup,
    plan::{Plan, PlannedEvent},
    runtime::{Context, Controller},
    shared::{is_deleting, owners},
};

const NAME: &str = "ephemeral-volume-controller";

struct Ephemeral {
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    all.filter(|volume| volume.ephemeral.is_some())
}

/// The claim of a volume; `None` without a template.
fn claim(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let said = template.metadata.clone().unwrap_or_default();
    let metadata = ObjectMeta {
        name: Some(protection::ephemeral_claim(pod, volume)),
        namespace: pod.metadata.namespace.clone(),
        owner_references: Some(vec![owners::controller_ref(pod)]),
        annotations: said.annotations,
        labels: said.labels,
        ..ObjectMeta::default()
    };
    Some(PersistentVolumeClaim { metadata, spec: Some(template.spec.clone()), status: None })
}

impl Controller for Ephemeral {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let mut plan = Plan::default();
        let Some(pod) = self.pods.get(&key.namespace, &key.name).filter(|pod| !is_deleting(&**pod)) else {
            return plan;
        };
        for volume in volumes(&pod) {
            let name = protection::ephemeral_claim(&pod, volume);
            match self.claims.get(pod.namespace(), &name) {
                Some(claim) if owners::is_controlled_by(&*claim, pod.uid()) => {}
                Some(_) => {
                    let why =
                        format!("PVC {}/{name} was not created for pod {key} (pod is not owner)", pod.namespace());
                    let message = format!("ephemeral volume {}: {why}", volume.name);
                    plan.event(PlannedEvent::warning(&*pod, "FailedBinding", message));
                }
                None => claim(&pod, volume).iter().for_each(|claim| _ = plan.create(claim)),
            }
        }
        plan
    }
}

pub fn register(setup: &mut Setup) {
    let pods = setup.informer::<Pod>();
    let claims = setup.informer::<PersistentVolumeClaim>();
    let queue = setup.queue(NAME);
    protection::index_by_claim(&pods);
    // A pod's volumes do not change, and its claims go with it.
    let to = queue.clone();
    pods.on_event(move |delta| {
        if let Delta::Added(pod) = delta
            && volumes(pod).next().is_some()
        {
            to.add(pod.key());
        }
    });
    let (to, users) = (queue.clone(), pods.clone());
    claims.on_event(move |delta| {
        if let Delta::Deleted(claim) = delta {
            users.by_index(BY_CLAIM, &claim.key().to_string()).iter().for_each(|pod| to.add(pod.key()));
        }
    });
    setup.run(Ephemeral { pods, claims }, queue, 5);
}
