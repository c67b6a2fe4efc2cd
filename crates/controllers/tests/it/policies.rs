//! Budgets, quotas, volumes, failing and scheduled Jobs: through the API in memory, or as plans where time matters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::quantity::Quantity;
use client::kinds::{
    batch::v1::{CronJob, Job},
    core::v1::ResourceQuota,
    networking::v1::{IPAddress, ServiceCIDR},
};
use controllers::{cronjob, plan::Verb, quota, service_cidr};
use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    manager::{Cluster, DEPLOYMENTS, is_available, workload},
};

fn condition(object: &Value, name: &str) -> Value {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["type"] == name).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_follow_their_pods() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let cases = [
        ("number", json!({"minAvailable": 2}), 2, 1),
        ("percent", json!({"minAvailable": "34%"}), 2, 1),
        ("unavailable", json!({"maxUnavailable": "50%"}), 1, 2),
        ("none", json!({"maxUnavailable": 0}), 3, 0),
    ];
    api.create(DEPLOYMENTS, workload("web", 3, json!({})));
    for (name, mut spec, _, _) in cases.clone() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        let budget = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        api.create("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget);
    }
    api.until("the pods are available", |api| is_available(api, "apps/v1/deployments", "web", 3)).await;
    for (name, _, desired, allowed) in cases {
        api.until(&format!("{name}: {desired} desired, {allowed} allowed"), |api| {
            let status =
                api.get("policy/v1/poddisruptionbudgets", "default", name).unwrap_or_default()["status"].clone();
            status["desiredHealthy"] == desired
                && status["disruptionsAllowed"] == allowed
                && status["currentHealthy"] == 3
                && status["expectedPods"] == 3
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_tell_what_is_used() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let hard =
        json!({"pods": "5", "requests.cpu": "2", "configmaps": "10", "count/deployments.apps": "3", "services": "1"});
    let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}});
    api.create("/api/v1/namespaces/default/resourcequotas", quota);
    let mut web = workload("web", 3, json!({}));
    web["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "250m"}});
    api.create(DEPLOYMENTS, web);
    api.until("everything is counted", |api| {
        let used = api.get("v1/resourcequotas", "default", "q").unwrap_or_default()["status"]["used"].clone();
        used == json!({"pods": "3", "requests.cpu": "750m", "configmaps": "1", "count/deployments.apps": "1", "services": "0"})
    })
    .await;
    let of_class = |name: &str, operator: &str, values: Value| {
        let scope = json!({"scopeName": "VolumeAttributesClass", "operator": operator, "values": values});
        let spec = json!({"hard": {"persistentvolumeclaims": "5", "requests.storage": "9Gi", "pods": "1"},
            "scopeSelector": {"matchExpressions": [scope]}});
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    api.create("/api/v1/namespaces/default/resourcequotas", of_class("gold", "In", json!(["gold"])));
    api.create("/api/v1/namespaces/default/resourcequotas", of_class("none", "DoesNotExist", Value::Null));
    let claim = |name: &str, size: &str, class: Value| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "volumeAttributesClassName": class,
            "resources": {"requests": {"storage": size}}});
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    for claim in [claim("a", "1Gi", "gold".into()), claim("b", "2Gi", "silver".into()), claim("c", "4Gi", Value::Null)]
    {
        api.create("/api/v1/namespaces/default/persistentvolumeclaims", claim);
    }
    for (name, storage) in [("gold", "1Gi"), ("none", "4Gi")] {
        api.until(&format!("the claims of {name} are counted"), |api| {
            let quota = api.get("v1/resourcequotas", "default", name).unwrap_or_default();
            quota["status"]["used"] == json!({"persistentvolumeclaims": "1", "requests.storage": storage, "pods": "0"})
        })
        .await;
    }
}

#[test]
fn what_is_just_being_stored_stays_charged() {
    let amounts = |amounts: Value| -> BTreeMap<String, Quantity> {
        let all = amounts.as_object().expect("object").iter();
        all.map(|(name, amount)| (name.clone(), amount.as_str().expect("text").parse().expect("a quantity"))).collect()
    };
    let hard = json!({"pods": "2", "requests.cpu": "1"});
    for (name, charged, counted, is_quiet, expected, requeues) in [
        ("new", json!({}), json!({"pods": "1"}), false, Some(json!({"pods": "1", "requests.cpu": "0"})), false),
        (
            "as charged",
            json!({"pods": "1", "requests.cpu": "500m"}),
            json!({"pods": "1", "requests.cpu": "0.5"}),
            false,
            None,
            false,
        ),
        ("less, just charged", json!({"pods": "2", "requests.cpu": "0"}), json!({"pods": "1"}), false, None, true),
        (
            "less and more",
            json!({"pods": "2", "requests.cpu": "0"}),
            json!({"pods": "1", "requests.cpu": "1"}),
            false,
            Some(json!({"pods": "2", "requests.cpu": "1"})),
            true,
        ),
        (
            "less, for long",
            json!({"pods": "2", "requests.cpu": "0"}),
            json!({"pods": "1"}),
            true,
            Some(json!({"pods": "1", "requests.cpu": "0"})),
            false,
        ),
    ] {
        let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard},
            "status": {"hard": hard, "used": charged}});
        let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
        let plan = quota::plan(&quota, &amounts(counted), is_quiet);
        let written = plan.writes.first().map(|write| {
            let body: Value = serde_json::from_slice(&write.body).expect("JSON");
            body["status"]["used"].clone()
        });
        assert_eq!(written, expected, "{name}");
        assert_eq!(plan.requeue_after.is_some(), requeues, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_services_become_ready_and_stay_while_their_addresses_need_them() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let (ranges, addresses) = ("/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1/ipaddresses");
    let get = |api: &FakeApi, name: &str| api.get("networking.k8s.io/v1/servicecidrs", "", name).unwrap_or_default();
    let range = |name: &str, range: &str| json!({"metadata": {"name": name}, "spec": {"cidrs": [range]}});
    api.create(ranges, range("a", "10.1.0.0/24"));
    let finalizers = json!(["networking.k8s.io/service-cidr-finalizer"]);
    api.until("it is ready and kept", |api| {
        let range = get(api, "a");
        condition(&range, "Ready")["status"] == "True" && range["metadata"]["finalizers"] == finalizers
    })
    .await;
    let labels = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    api.create(addresses, json!({"metadata": {"name": "10.1.0.9", "labels": labels}, "spec": {}}));
    api.until("the address is known", |api| api.get("networking.k8s.io/v1/ipaddresses", "", "10.1.0.9").is_some())
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    api.delete(&format!("{ranges}/a"), json!({}));
    api.until("an address holds it up", |api| condition(&get(api, "a"), "Ready")["reason"] == "Terminating").await;

    // The rest takes the seconds until all servers know of the end.
    let object = |value: Value| serde_json::from_value::<ServiceCIDR>(value).expect("a range");
    let address: IPAddress = serde_json::from_value(
        json!({"metadata": {"name": "10.1.0.9", "labels": labels}, "spec": {"parentRef": {"name": "s", "resource": "services"}}}),
    )
    .expect("an address");
    let mut going = range("a", "10.1.0.0/24");
    going["metadata"]["finalizers"] = finalizers.clone();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let going = object(going);
    let (wider, narrower) = (object(range("w", "10.1.0.0/16")), object(range("n", "10.1.0.0/28")));
    let elsewhere = object(range("e", "10.2.0.0/16"));
    for (name, others, addresses, at, is_freed) in [
        ("no address", vec![], vec![], "2026-01-01T00:00:10Z", true),
        ("too soon", vec![], vec![], "2026-01-01T00:00:09Z", false),
        ("an address", vec![&elsewhere], vec![&address], "2026-01-01T00:01:00Z", false),
        ("within another", vec![&wider], vec![&address], "2026-01-01T00:01:00Z", true),
        ("the address is in another, too", vec![&narrower], vec![&address], "2026-01-01T00:01:00Z", true),
    ] {
        let plan = service_cidr::plan(&going, &others, &addresses, at.parse().expect("a time"));
        let frees = plan.writes.iter().any(|write| {
            let body: Value = serde_json::from_slice(&write.body).expect("JSON");
            body["metadata"]["finalizers"] == json!([])
        });
        assert_eq!(frees, is_freed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ephemeral_volumes_get_claims_of_their_pod() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let (pods, claims) = ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/persistentvolumeclaims");
    let size = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": size});
    let volumes =
        json!([{"name": "own", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "plain", "emptyDir": {}}]);
    let pod = |name: &str| {
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "volumes": volumes});
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let get = |api: &FakeApi, name: &str| api.get("v1/persistentvolumeclaims", "default", name);
    api.create(pods, pod("p"));
    api.until("the pod has its claim", |api| get(api, "p-own").is_some()).await;
    let claim = get(api, "p-own").expect("a claim");
    let owner = &claim["metadata"]["ownerReferences"][0];
    let uid = api.get("v1/pods", "default", "p").expect("a pod")["metadata"]["uid"].clone();
    assert_eq!((&owner["uid"], &owner["controller"]), (&uid, &json!(true)));
    assert_eq!((&claim["metadata"]["labels"], &claim["spec"]), (&json!({"a": "b"}), &size));
    assert!(get(api, "p-plain").is_none());
    api.create(claims, json!({"metadata": {"name": "q-own", "namespace": "default"}, "spec": size}));
    api.until("the claim is known", |api| {
        get(api, "q-own").is_some_and(|claim| !claim["metadata"]["finalizers"].is_null())
    })
    .await;
    api.create(pods, pod("q"));
    api.until("the other's claim is not taken", |api| {
        api.list("v1/events").iter().any(|event| {
            let message = event["message"].as_str().or(event["note"].as_str()).unwrap_or_default();
            event["reason"] == "FailedBinding" && message.contains("q-own was not created for pod default/q")
        })
    })
    .await;
    // It is of the pod's name alone, so that the running pod does not keep it.
    api.until("the pod runs", |api| {
        api.get("v1/pods", "default", "q").unwrap_or_default()["status"]["phase"] == "Running"
    })
    .await;
    api.delete(&format!("{claims}/q-own"), json!({}));
    let is_its_own = |claim: Value| claim["metadata"]["ownerReferences"][0]["name"] == "q";
    api.until("it gets its own", |api| get(api, "q-own").is_some_and(is_its_own)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_stay_while_pods_may_mount_them() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let (pods, claims) = ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/persistentvolumeclaims");
    let size = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}});
    let get = |api: &FakeApi, name: &str| api.get("v1/persistentvolumeclaims", "default", name);
    let pod = |name: &str, volume: Value| {
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "volumes": [volume]});
        // Which no one takes away: the object stays when the pod has ended.
        json!({"metadata": {"name": name, "namespace": "default", "finalizers": ["example.com/stays"]}, "spec": spec})
    };
    for name in ["named", "unused"] {
        api.create(claims, json!({"metadata": {"name": name, "namespace": "default"}, "spec": size}));
    }
    api.create(pods, pod("a", json!({"name": "v", "persistentVolumeClaim": {"claimName": "named"}})));
    api.create(pods, pod("b", json!({"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": size}}})));
    let is_protected = |claim: Value| claim["metadata"]["finalizers"] == json!(["kubernetes.io/pvc-protection"]);
    for name in ["named", "unused", "b-own"] {
        api.until("it is protected", |api| get(api, name).is_some_and(is_protected)).await;
    }
    for name in ["a", "b"] {
        api.until("the pod runs", |api| {
            api.get("v1/pods", "default", name).unwrap_or_default()["status"]["phase"] == "Running"
        })
        .await;
        api.patch(&format!("{pods}/{name}/status"), json!({"status": {"phase": "Succeeded"}}));
    }
    for name in ["named", "b-own", "unused"] {
        api.delete(&format!("{claims}/{name}"), json!({}));
    }
    api.until("no pod has it", |api| get(api, "unused").is_none()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(get(api, "named").is_some() && get(api, "b-own").is_some(), "ended pods keep their claims");
    // The kubelet lets them go, their objects stay.
    for name in ["a", "b"] {
        api.delete(&format!("{pods}/{name}"), json!({}));
    }
    api.until("its pod is shut down", |api| get(api, "b-own").is_none()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(get(api, "named").is_some(), "its pod is still there");
    api.patch(&format!("{pods}/a"), json!({"metadata": {"finalizers": null}}));
    api.until("its pod is gone", |api| get(api, "named").is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_of_attributes_stay_while_a_claim_names_them() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let (classes, claims) =
        ("/apis/storage.k8s.io/v1/volumeattributesclasses", "/api/v1/namespaces/default/persistentvolumeclaims");
    let get = |api: &FakeApi| api.get("storage.k8s.io/v1/volumeattributesclasses", "", "fast");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "volumeAttributesClassName": "fast",
        "resources": {"requests": {"storage": "1Gi"}}});
    api.create(claims, json!({"metadata": {"name": "c", "namespace": "default"}, "spec": spec}));
    api.create(classes, json!({"metadata": {"name": "fast"}, "driverName": "d", "parameters": {"a": "b"}}));
    let finalizer = json!(["kubernetes.io/vac-protection"]);
    api.until("it is protected", |api| get(api).is_some_and(|class| class["metadata"]["finalizers"] == finalizer))
        .await;
    // Which shows that the claim is known, too.
    api.until("the claim is protected", |api| {
        let claim = api.get("v1/persistentvolumeclaims", "default", "c").unwrap_or_default();
        claim["metadata"]["finalizers"] == json!(["kubernetes.io/pvc-protection"])
    })
    .await;
    api.delete(&format!("{classes}/fast"), json!({}));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(get(api).is_some(), "a claim names it");
    api.delete(&format!("{claims}/c"), json!({}));
    api.until("it is gone", |api| get(api).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_get_the_smallest_volume_that_fits() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    for (name, size, class) in
        [("large", "10Gi", ""), ("small", "1Gi", ""), ("fitting", "5Gi", ""), ("other", "2Gi", "fast")]
    {
        let spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": class});
        api.create("/api/v1/persistentvolumes", json!({"metadata": {"name": name}, "spec": spec}));
    }
    api.until("volumes are available", |api| {
        api.list("v1/persistentvolumes").iter().all(|volume| volume["status"]["phase"] == "Available")
    })
    .await;
    let claim = |name: &str| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "2Gi"}}});
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let path = "/api/v1/namespaces/default/persistentvolumeclaims";
    for (name, expect) in [("a", "fitting"), ("b", "large")] {
        api.create(path, claim(name));
        api.until(&format!("{name} is bound to {expect}"), |api| {
            let claim = api.get("v1/persistentvolumeclaims", "default", name).unwrap_or_default();
            let volume = api.get("v1/persistentvolumes", "", expect).unwrap_or_default();
            claim["status"]["phase"] == "Bound"
                && claim["spec"]["volumeName"] == expect
                && volume["status"]["phase"] == "Bound"
                && volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
        })
        .await;
    }
    let mut volume = json!({"metadata": {"name": "attributed"}, "spec": {"capacity": {"storage": "2Gi"}}});
    volume["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
    let mut attributed = claim("attributed");
    for object in [&mut volume, &mut attributed] {
        object["spec"]["storageClassName"] = "quick".into();
        object["spec"]["volumeAttributesClassName"] = "fast".into();
    }
    api.create("/api/v1/persistentvolumes", volume);
    api.create(path, attributed);
    api.until("the claim tells its class of attributes", |api| {
        let claim = api.get("v1/persistentvolumeclaims", "default", "attributed").unwrap_or_default();
        claim["status"]["phase"] == "Bound" && claim["status"]["currentVolumeAttributesClassName"] == "fast"
    })
    .await;
    api.create(path, claim("c"));
    api.until("c waits", |api| {
        api.get("v1/persistentvolumeclaims", "default", "c").is_some_and(|claim| claim["status"]["phase"] == "Pending")
    })
    .await;
    api.delete(&format!("{path}/a"), json!({}));
    api.until("the volume is released", |api| {
        api.get("v1/persistentvolumes", "", "fitting").is_some_and(|volume| volume["status"]["phase"] == "Released")
    })
    .await;
}

fn job(name: &str, more: Value) -> Value {
    let labels = json!({"batch.kubernetes.io/job-name": name});
    let pod = json!({"containers": [{"name": "c", "image": "fails"}], "restartPolicy": "Never"});
    let mut spec = json!({
        "parallelism": 1, "completions": 2, "backoffLimit": 6,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    });
    spec.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_jobs_end() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let on_ready = json!({"rules": [{"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "True"}]}]});
    let cases = [
        ("limit", json!({"backoffLimit": 0}), "BackoffLimitExceeded", 1),
        ("policy", json!({"podFailurePolicy": on_ready}), "PodFailurePolicy", 1),
        (
            "index",
            json!({"completionMode": "Indexed", "parallelism": 2, "backoffLimitPerIndex": 0}),
            "FailedIndexes",
            2,
        ),
    ];
    for (name, spec, reason, failed) in cases {
        api.create("/apis/batch/v1/namespaces/default/jobs", job(name, spec));
        let get = |api: &FakeApi| api.get("batch/v1/jobs", "default", name).unwrap_or_default();
        api.until(&format!("{name} has failed"), |api| condition(&get(api), "Failed")["status"] == "True").await;
        let end = get(api);
        assert_eq!(condition(&end, "Failed")["reason"], reason, "{name}");
        assert_eq!(end["status"]["failed"], failed, "{name}");
        let held = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        assert!(!api.list("v1/pods").iter().any(held), "{name}: no pod is held");
    }
}

#[test]
fn cron_jobs_keep_to_their_concurrency_policy() {
    let running: Arc<Job> = Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "tick-1", "namespace": "default", "uid": "j"}}))
            .expect("job"),
    );
    let cases = [("Allow", vec!["create"]), ("Forbid", vec![]), ("Replace", vec!["delete", "create"])];
    for (policy, expect) in cases {
        let cron: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/5 * * * *", "concurrencyPolicy": policy, "jobTemplate": {"spec": {"template": {}}}},
        }))
        .expect("cron");
        let plan_at = |now: &str| {
            let inputs = cronjob::Inputs { cron: Arc::new(cron.clone()), jobs: vec![running.clone()] };
            cronjob::plan(&inputs, |_| false, now.parse().expect("time"))
        };
        let early = plan_at("2026-01-01T00:04:00Z");
        assert!(!early.writes.iter().any(|write| matches!(write.verb, Verb::Create)), "{policy}: not yet");
        assert_eq!(early.requeue_after, Some(std::time::Duration::from_millis(60_100)));
        let due = plan_at("2026-01-01T00:05:01Z");
        let on_jobs = due.writes.iter().filter(|write| write.target.resource.kind == "Job");
        let verbs: Vec<&str> = on_jobs.map(|write| write.verb.name()).collect();
        assert_eq!(verbs, expect, "{policy}");
    }
}
