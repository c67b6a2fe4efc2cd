//! The whole controller manager against the API in memory, with a stand-in for kubelets.

use std::{sync::Arc, time::Duration};

use client::{
    EventRecorder, ObjectKey, SystemClock, WorkQueue, apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::core::v1::ConfigMap,
};
use controllers::{
    ControllerManager, ControllerManagerConfig,
    executor::Executor,
    expectations::ShownResources,
    manager::UnknownController,
    plan::Plan,
    runtime::{Context, Controller, Runner},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fake_api::FakeApi;

/// A running manager; ends when dropped.
pub struct Cluster {
    pub api: FakeApi,
    _running: DropGuard,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let api = FakeApi::new();
        api.create("/api/v1/namespaces", json!({"metadata": {"name": "default"}}));
        let cancel = CancellationToken::new();
        let config = ControllerManagerConfig { root_ca_pem: "CA".into(), ..ControllerManagerConfig::default() };
        let client = api.client();
        let token = cancel.clone();
        tokio::spawn(async move { ControllerManager::run(config, client, token).await });
        tokio::spawn(kubelets(api.clone(), cancel.clone()));
        let cluster = Cluster { api, _running: cancel.drop_guard() };
        cluster
            .api
            .until("the namespace has its content", |api| {
                api.get("v1/serviceaccounts", "default", "default").is_some()
                    && api.get("v1/configmaps", "default", "kube-root-ca.crt").is_some()
            })
            .await;
        cluster
    }

    fn pods(&self) -> Vec<Value> {
        self.api.list("v1/pods")
    }
}

/// Binds and starts pods, finishes those of Jobs, and lets deleted ones go.
async fn kubelets(api: FakeApi, cancel: CancellationToken) {
    let mut next = 0;
    while !cancel.is_cancelled() {
        for pod in api.list("v1/pods") {
            let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                if pod["metadata"]["deletionGracePeriodSeconds"] != 0 {
                    api.delete(&path, json!({"gracePeriodSeconds": 0}));
                }
            } else if pod["status"]["phase"] == "Pending" {
                next += 1;
                api.patch(&path, json!({"spec": {"nodeName": "n1"}}));
                let is_job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].is_string();
                let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                let fails = pod["spec"]["containers"][0]["image"] == "fails";
                let phase = match (is_job, fails) {
                    (true, true) => "Failed",
                    (true, false) => "Succeeded",
                    _ => "Running",
                };
                let ip = format!("10.0.0.{next}");
                let status = json!({"phase": phase, "conditions": [ready], "podIP": ip, "podIPs": [{"ip": ip}]});
                api.patch(&format!("{path}/status"), json!({"status": status}));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}], "restartPolicy": "Always"}})
}

pub fn workload(name: &str, replicas: u32, more: Value) -> Value {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, "one")},
    });
    object["spec"].as_object_mut().expect("object").extend(more.as_object().cloned().unwrap_or_default());
    object
}

pub fn is_available(api: &FakeApi, resource: &str, name: &str, count: u32) -> bool {
    let Some(object) = api.get(resource, "default", name) else { return false };
    object["status"]["availableReplicas"] == count
        && object["status"]["updatedReplicas"] == count
        && object["status"]["replicas"] == count
}

pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployment_rolls_and_creates_no_pod_twice() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    api.create(
        DEPLOYMENTS,
        workload(
            "web",
            20,
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}}),
        ),
    );
    api.until("20 pods are available", |api| is_available(api, "apps/v1/deployments", "web", 20)).await;
    assert_eq!(api.created("v1/pods"), 20);
    assert_eq!(api.created("apps/v1/replicasets"), 1);
    assert_eq!(
        api.get("apps/v1/deployments", "default", "web").expect("web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );

    api.patch(&format!("{DEPLOYMENTS}/web"), json!({"spec": {"template": template("web", "two")}}));
    api.until("the second revision is complete", |api| {
        let web = api.get("apps/v1/deployments", "default", "web").unwrap_or_default();
        let pods = api.list("v1/pods");
        web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
            && is_available(api, "apps/v1/deployments", "web", 20)
            && pods.len() == 20
            && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "two")
    })
    .await;
    assert_eq!(api.created("apps/v1/replicasets"), 2);
    assert_eq!(api.created("v1/pods"), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_take_their_dependents_along() {
    for propagation in ["Background", "Foreground"] {
        let cluster = Cluster::start().await;
        let api = &cluster.api;
        api.create(DEPLOYMENTS, workload("web", 3, json!({})));
        api.until("3 pods are available", |api| is_available(api, "apps/v1/deployments", "web", 3)).await;
        api.delete(&format!("{DEPLOYMENTS}/web"), json!({"propagationPolicy": propagation}));
        api.until(&format!("all is gone ({propagation})"), |api| {
            api.list("apps/v1/deployments").is_empty()
                && api.list("apps/v1/replicasets").is_empty()
                && api.list("v1/pods").is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    api.create(DEPLOYMENTS, workload("web", 2, json!({})));
    api.until("2 pods are available", |api| is_available(api, "apps/v1/deployments", "web", 2)).await;
    api.delete(&format!("{DEPLOYMENTS}/web"), json!({"propagationPolicy": "Orphan"}));
    api.until("the deployment is gone", |api| api.list("apps/v1/deployments").is_empty()).await;
    let sets = api.list("apps/v1/replicasets");
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0]["metadata"]["ownerReferences"], json!([]));
    assert_eq!(cluster.pods().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_emptied() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "team"}}));
    let mut web = workload("web", 2, json!({}));
    web["metadata"]["namespace"] = "team".into();
    api.create("/apis/apps/v1/namespaces/team/deployments", web);
    api.until("pods run", |api| api.list("v1/pods").len() == 2).await;
    api.delete("/api/v1/namespaces/team", json!({}));
    api.until("the namespace and all in it are gone", |api| {
        api.get("v1/namespaces", "", "team").is_none()
            && api.list("v1/pods").is_empty()
            && api.list("apps/v1/deployments").is_empty()
    })
    .await;
    assert!(api.get("v1/serviceaccounts", "default", "default").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_count_every_pod_once() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    for (name, mode) in [("plain", "NonIndexed"), ("indexed", "Indexed")] {
        let labels = json!({"batch.kubernetes.io/job-name": name});
        let spec = json!({
            "parallelism": 3, "completions": 7, "backoffLimit": 6, "completionMode": mode,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}},
        });
        let before = api.created("v1/pods");
        api.create(
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}),
        );
        api.until("the job is complete", |api| {
            let job = api.get("batch/v1/jobs", "default", name).unwrap_or_default();
            job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Complete"))
        })
        .await;
        let job = api.get("batch/v1/jobs", "default", name).expect("job");
        assert_eq!(job["status"]["succeeded"], 7, "{name}");
        assert_eq!(job["status"]["uncountedTerminatedPods"], json!({}));
        let pods: Vec<String> = api
            .list("v1/pods")
            .iter()
            .map(|pod| {
                format!("{} {} {}", pod["metadata"]["name"], pod["metadata"]["annotations"], pod["metadata"]["uid"])
            })
            .collect();
        assert_eq!(api.created("v1/pods"), before + 7, "{pods:#?}");
        if mode == "Indexed" {
            assert_eq!(job["status"]["completedIndexes"], "0-6");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_keep_names_and_storage() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    api.create(path, workload("db", 3, json!({"serviceName": "db", "volumeClaimTemplates": claims, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}})));
    api.until("3 pods are available", |api| is_available(api, "apps/v1/statefulsets", "db", 3)).await;
    let order: Vec<String> = {
        let mut pods = cluster.pods();
        pods.sort_by_key(|pod| text(&pod["metadata"]["uid"]).trim_start_matches("uid-").parse::<u64>().unwrap_or(0));
        pods.iter().map(|pod| text(&pod["metadata"]["name"])).collect()
    };
    assert_eq!(order, ["db-0", "db-1", "db-2"]);
    assert_eq!(api.list("v1/persistentvolumeclaims").len(), 3);

    api.patch(&format!("{path}/db"), json!({"spec": {"replicas": 2, "template": template("db", "two")}}));
    api.until("2 pods of the second revision", |api| {
        let pods = api.list("v1/pods");
        is_available(api, "apps/v1/statefulsets", "db", 2)
            && pods.len() == 2
            && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "two")
    })
    .await;
    assert_eq!(api.list("v1/persistentvolumeclaims").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_find_their_pods() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let spec = json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "type": "ClusterIP", "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]});
    api.create(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}),
    );
    api.create(DEPLOYMENTS, workload("web", 4, json!({})));
    let ready = |api: &FakeApi| {
        let slices = api.list("discovery.k8s.io/v1/endpointslices");
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    };
    api.until("4 ready endpoints", |api| ready(api) == 4).await;
    api.until("4 addresses", |api| {
        let endpoints = api.get("v1/endpoints", "default", "web").unwrap_or_default();
        endpoints["subsets"][0]["addresses"].as_array().map(Vec::len) == Some(4)
    })
    .await;
    let slices = api.list("discovery.k8s.io/v1/endpointslices");
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    api.patch(&format!("{DEPLOYMENTS}/web"), json!({"spec": {"replicas": 1}}));
    api.until("1 endpoint", |api| ready(api) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_and_addresses_reach_every_node() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    for name in ["n1", "n2"] {
        let ready = json!({"type": "Ready", "status": "True"});
        api.create("/api/v1/nodes", json!({"metadata": {"name": name}, "status": {"conditions": [ready]}}));
    }
    api.create(
        "/apis/apps/v1/namespaces/default/daemonsets",
        workload("agent", 0, json!({"updateStrategy": {"type": "RollingUpdate"}})),
    );
    api.until("one pod for each node", |api| {
        let set = api.get("apps/v1/daemonsets", "default", "agent").unwrap_or_default();
        set["status"]["desiredNumberScheduled"] == 2 && api.list("v1/pods").len() >= 2
    })
    .await;
    api.until("ranges are given out", |api| {
        let ranges: Vec<String> = api.list("v1/nodes").iter().map(|node| text(&node["spec"]["podCIDR"])).collect();
        ranges == ["10.244.0.0/24", "10.244.1.0/24"]
    })
    .await;
}

/// Panics at one key, works at others.
struct Fragile;

impl Controller for Fragile {
    fn name(&self) -> &'static str {
        "fragile-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        assert!(key.name != "bad", "a bug");
        let mut plan = Plan::default();
        let meta =
            ObjectMeta { name: Some(key.name.clone()), namespace: Some("default".into()), ..ObjectMeta::default() };
        plan.create(&ConfigMap { metadata: meta, ..ConfigMap::default() }).ignore_already_exists();
        plan
    }
}

#[tokio::test]
async fn a_panic_ends_one_pass() {
    let api = FakeApi::new();
    let client = api.client();
    let queue = WorkQueue::new("fragile");
    let recorder = EventRecorder::new(client.clone(), "fragile", "");
    let runner = Runner {
        controller: Arc::new(Fragile),
        queue: queue.clone(),
        executor: Executor::new(client.clone(), recorder),
        client,
        shown: ShownResources::default(),
        clock: Arc::new(SystemClock),
        workers: 1,
    };
    let cancel = CancellationToken::new();
    let running = tokio::spawn(runner.run(cancel.clone()));
    for name in ["bad", "good", "bad", "better"] {
        queue.add(ObjectKey::new("default", name));
    }
    api.until("the other keys are worked on", |api| api.created("v1/configmaps") == 2).await;
    cancel.cancel();
    running.await.expect("the runner itself does not panic");
}

#[tokio::test]
async fn unknown_controllers_are_refused() {
    let api = FakeApi::new();
    for (list, unknown) in [(vec!["*", "-nosuch"], "nosuch"), (vec!["deployment", "wrong"], "wrong")] {
        let controllers = list.into_iter().map(str::to_owned).collect();
        let config = ControllerManagerConfig { controllers, ..ControllerManagerConfig::default() };
        let outcome = ControllerManager::run(config, api.client(), CancellationToken::new()).await;
        assert_eq!(outcome, Err(UnknownController(unknown.into())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_controllers_run() {
    let api = FakeApi::new();
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "default"}}));
    api.create(DEPLOYMENTS, workload("web", 2, json!({})));
    let cancel = CancellationToken::new();
    let controllers = ["*", "-replicaset", "-serviceaccount-controller"].map(str::to_owned).to_vec();
    let config = ControllerManagerConfig { controllers, ..ControllerManagerConfig::default() };
    let running = tokio::spawn(ControllerManager::run(config, api.client(), cancel.clone()));
    api.until("the deployment controller works", |api| {
        api.get("apps/v1/deployments", "default", "web").is_some_and(|web| web["status"]["observedGeneration"] == 1)
    })
    .await;
    assert_eq!(api.created("apps/v1/replicasets"), 1);
    assert_eq!(api.created("v1/pods"), 0);
    assert_eq!(api.created("v1/serviceaccounts"), 0);
    cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.expect("the manager ends when told to");
    assert_eq!(ended.expect("no panic"), Ok(()));
}
