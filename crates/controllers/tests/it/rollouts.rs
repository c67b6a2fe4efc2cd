//! A rolling update, step by step, with any sizes: never too many pods, never too few.

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Kind,
    kinds::apps::v1::{Deployment, ReplicaSet},
};
use controllers::{
    deployment::{Inputs, plan},
    plan::Verb,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

fn deployment(image: &str, replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        },
    });
    serde_json::from_value(object).expect("deployment")
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// One pass, carried out. False where it wrote nothing.
fn pass(deployment: &mut Deployment, sets: &mut Vec<ReplicaSet>, step: i64) -> bool {
    let taken =
        sets.iter().find(|set| set.name() == controllers::deployment::name_for(deployment).0).cloned().map(Arc::new);
    let inputs = Inputs {
        deployment: Arc::new(deployment.clone()),
        sets: sets.iter().cloned().map(Arc::new).collect(),
        running: BTreeSet::new(),
        taken: taken.filter(|taken| taken.metadata.owner_references.is_none()),
    };
    let plan = plan(&inputs, Timestamp::from_second(1_700_000_000 + step).expect("time"));
    for write in &plan.writes {
        match (&write.verb, &*write.target.resource.kind) {
            (Verb::Create, "ReplicaSet") => {
                let mut set = ReplicaSet::decode(&write.body).expect("set");
                set.metadata.uid = Some(format!("s{}", sets.len()));
                set.metadata.creation_timestamp =
                    Some(client::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(step).expect("time")));
                sets.push(set);
            }
            (Verb::Update, "ReplicaSet") => {
                let set = ReplicaSet::decode(&write.body).expect("set");
                let at = sets.iter().position(|known| known.name() == set.name()).expect("known set");
                sets[at] = set;
            }
            (Verb::UpdateStatus, _) => deployment.status = Deployment::decode(&write.body).expect("deployment").status,
            (Verb::Patch { .. }, "Deployment") => {
                let patch: serde_json::Value = serde_json::from_slice(&write.body).expect("patch");
                let annotations =
                    serde_json::from_value(patch["metadata"]["annotations"].clone()).expect("annotations");
                deployment.metadata.annotations = Some(annotations);
            }
            (Verb::Delete(_), _) => sets.retain(|set| set.name() != write.target.name),
            _ => {}
        }
    }
    !plan.writes.is_empty()
}

/// What the ReplicaSet controller and kubelets do: at most `pace` pods more become available, surplus ones go at once.
fn settle(sets: &mut [ReplicaSet], pace: i32) {
    let mut left = pace;
    for set in sets {
        let (wanted, has) = (size(set), available(set).min(size(set)));
        let now = has + (wanted - has).min(left).max(0);
        left -= now - has;
        let status = set.status.get_or_insert_default();
        status.replicas = wanted;
        status.available_replicas = Some(now);
        status.ready_replicas = Some(now);
        status.observed_generation = set.metadata.generation;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn stays_within_its_limits(replicas in 1..30i32, surge in 0..100u32, unavailable in 0..100u32, pace in 1..4i32) {
        let (surge_text, unavailable_text) = (format!("{surge}%"), format!("{unavailable}%"));
        let most_extra = (replicas * surge as i32 + 99) / 100;
        let most_missing = replicas * unavailable as i32 / 100;
        let most_missing = if most_extra == 0 && most_missing == 0 { 1 } else { most_missing };
        let mut web = deployment("one", replicas, &surge_text, &unavailable_text);
        let mut sets = Vec::new();
        for step in 0..400 {
            if step == 200 {
                prop_assert_eq!(sets.iter().map(available).sum::<i32>(), replicas);
                let before = web;
                web = deployment("two", replicas, &surge_text, &unavailable_text);
                web.status = before.status;
                web.metadata.annotations = before.metadata.annotations;
            }
            let wrote = pass(&mut web, &mut sets, step);
            let total: i32 = sets.iter().map(size).sum();
            prop_assert!(total <= replicas + most_extra, "{} pods of {}", total, replicas);
            if step >= 200 {
                let serving: i32 = sets.iter().map(|set| available(set).min(size(set))).sum();
                prop_assert!(serving >= replicas - most_missing, "{} available of {}", serving, replicas);
            }
            settle(&mut sets, pace);
            if step == 399 {
                prop_assert!(!wrote, "a finished rollout is left alone");
            }
        }
        prop_assert_eq!(sets.len(), 2);
        prop_assert_eq!(size(&sets[0]), 0);
        prop_assert_eq!(size(&sets[1]), replicas);
    }
}
