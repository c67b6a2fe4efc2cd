//! The two kinds behind [`Replicas`].

use api::selector::LabelSelector as Selector;
use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{
            PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
};
use jiff::Timestamp;

use super::{Replicas, Status};
use crate::shared::selector;

const FAILURE: &str = "ReplicaFailure";

macro_rules! replicas {
    ($kind:ident, $status:ident, $condition:ident, $name:literal, $counts:literal, $selector:expr, $terminating:expr, $set_terminating:expr) => {
        impl Replicas for $kind {
            const CONTROLLER: &'static str = $name;
            const COUNTS_TERMINATING: bool = $counts;

            fn replicas(&self) -> i32 {
                self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
            }

            fn min_ready_seconds(&self) -> i32 {
                self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
            }

            fn selector(&self) -> Selector {
                $selector(self)
            }

            fn template(&self) -> PodTemplateSpec {
                self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
            }

            fn status(&self) -> Status {
                let Some(status) = &self.status else {
                    return Status::default();
                };
                let failure = status.conditions.iter().flatten().find(|condition| condition.type_ == FAILURE);
                Status {
                    replicas: status.replicas,
                    fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
                    ready: status.ready_replicas.unwrap_or(0),
                    available: status.available_replicas.unwrap_or(0),
                    terminating: $terminating(status),
                    observed_generation: status.observed_generation.unwrap_or(0),
                    failure: failure.map(|condition| {
                        (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default())
                    }),
                }
            }

            fn with_status(&self, new: &Status, now: Timestamp) -> Self {
                let old = self.status.clone().unwrap_or_default();
                let mut conditions = old.conditions.unwrap_or_default();
                if new.failure != self.status().failure {
                    conditions.retain(|condition| condition.type_ != FAILURE);
                    conditions.extend(new.failure.clone().map(|(reason, message)| $condition {
                        type_: FAILURE.into(),
                        status: "True".into(),
                        reason: Some(reason),
                        message: Some(message),
                        last_transition_time: Some(Time(now)),
                    }));
                }
                #[allow(
                    unused_mut,
                    clippy::needless_update,
                    reason = "one of the kinds has a field more in its status"
                )]
                let mut status = $status {
                    replicas: new.replicas,
                    fully_labeled_replicas: Some(new.fully_labeled),
                    ready_replicas: Some(new.ready),
                    available_replicas: Some(new.available),
                    observed_generation: Some(new.observed_generation),
                    conditions: (!conditions.is_empty()).then_some(conditions),
                    ..$status::default()
                };
                $set_terminating(&mut status, new.terminating);
                $kind { status: Some(status), ..self.clone() }
            }
        }
    };
}

replicas!(
    ReplicaSet,
    ReplicaSetStatus,
    ReplicaSetCondition,
    "replicaset-controller",
    true,
    |set: &ReplicaSet| selector::compile(set.spec.as_ref().map(|spec| &spec.selector)),
    |status: &ReplicaSetStatus| status.terminating_replicas,
    |status: &mut ReplicaSetStatus, terminating| status.terminating_replicas = terminating
);

replicas!(
    ReplicationController,
    ReplicationControllerStatus,
    ReplicationControllerCondition,
    "replicationcontroller-controller",
    false,
    |set: &ReplicationController| selector::exact(set.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
    |_: &ReplicationControllerStatus| None,
    |_: &mut ReplicationControllerStatus, _| ()
);
