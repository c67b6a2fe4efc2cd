//! The kubelet's certificates against a real API server: the first one, and how a running client gets the next.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{
    Client, SystemClock,
    kinds::{authentication::v1::SelfSubjectReview, core::v1::NodeAddress},
};
use kubelet::certificate::{
    CertificateError, Facts, Purpose, Template, bootstrap::Bootstrap, manager::CertificateManager,
    store::CertificateStore,
};
use parking_lot::Mutex;

use crate::cluster_api::{Api, Life, client};

const YEAR: Life = Life { before: 300, after: 365 * 24 * 3600 };
/// So much of it is over that it is due.
const DUE: Life = Life { before: 1000, after: 30 };

fn task(api: &Api, limit: Duration) -> Bootstrap {
    let folder = api.folder.path().join("node");
    let kubeconfig = folder.join("kubelet.kubeconfig");
    Bootstrap { node_name: "n1".into(), cert_dir: folder.join("pki"), kubeconfig, limit }
}

/// What comes of the work while requests are answered so.
async fn answered<T>(api: &Api, condition: &str, life: Life, work: impl Future<Output = T>) -> T {
    let answers = async {
        api.answer(condition, &[life]).await;
        std::future::pending::<T>().await
    };
    tokio::select! { outcome = work => outcome, never = answers => never }
}

async fn run(task: &Bootstrap, bootstrap: &Path) -> Result<(), CertificateError> {
    let config = client::kubeconfig::load(bootstrap).expect("a kubeconfig");
    task.run(&client(bootstrap), &config, &SystemClock).await
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut files: Vec<PathBuf> = entries.unwrap_or_default();
    files.sort();
    files
}

/// Who the API server takes the client for, and by which certificate.
async fn who(client: &Client) -> (String, Option<Vec<String>>) {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let answer = client.raw(http::Method::POST, path, Some("application/json"), body.into()).await.expect("a review");
    let review: SelfSubjectReview = serde_json::from_slice(&answer).expect("a review");
    let user = review.status.and_then(|status| status.user_info).expect("a user");
    let credential = user.extra.and_then(|mut extra| extra.remove("authentication.kubernetes.io/credential-id"));
    (user.username.unwrap_or_default(), credential)
}

#[tokio::test]
async fn a_bootstrap_credential_becomes_the_nodes_own() {
    let api = Api::start().await;
    let task = task(&api, Duration::from_secs(20));
    let bootstrap = api.bootstrap_kubeconfig();
    let done = answered(&api, "Approved", YEAR, run(&task, &bootstrap)).await;
    done.expect("a certificate");

    assert_eq!(who(&client(&task.kubeconfig)).await.0, "system:node:n1");
    let current = CertificateStore::new(&task.cert_dir, Purpose::Client).current_path();
    let [link, file] = &files(&task.cert_dir)[..] else { panic!("{:?}", files(&task.cert_dir)) };
    let (link, file) = if link.is_symlink() { (link, file) } else { (file, link) };
    assert_eq!((link, std::fs::read_link(link).expect("a link")), (&current, file.clone()));
    assert!(file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubelet-client-20")));
    assert_eq!(std::fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&task.kubeconfig).expect("a kubeconfig");
    assert!(text.contains(&*current.to_string_lossy()), "{text}");

    run(&task, &bootstrap).await.expect("nothing to do");
    let requests = api.requests().await;
    assert_eq!(requests.len(), 1, "a valid certificate is not asked for again");
    assert_eq!(requests[0].spec.signer_name, "kubernetes.io/kube-apiserver-client-kubelet");
    assert_eq!(requests[0].spec.username.as_deref(), Some("system:bootstrap:abcdef"));
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let api = Api::start().await;
    let task = task(&api, Duration::from_secs(20));
    let bootstrap = api.bootstrap_kubeconfig();
    let denied = answered(&api, "Denied", YEAR, run(&task, &bootstrap)).await;
    let Err(CertificateError::Denied { reason, message, .. }) = denied else { panic!("{denied:?}") };
    assert_eq!((reason.as_str(), message.as_str()), ("Tested", "by the test"));
    assert_eq!((files(&task.cert_dir), task.kubeconfig.exists()), (Vec::new(), false));

    let stranger = api.kubeconfig("somebody", "nobodies");
    let refused = run(&task, &stranger).await;
    let Err(CertificateError::Request(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.reason(), Some(api::status::Reason::Forbidden));
    assert_eq!((files(&task.cert_dir), task.kubeconfig.exists()), (Vec::new(), false));
}

#[tokio::test]
async fn a_certificate_from_the_future_means_that_the_clock_is_wrong() {
    let api = Api::start().await;
    let task = task(&api, Duration::from_secs(20));
    let clock = client::ManualClock::new(jiff::Timestamp::now() - jiff::SignedDuration::from_mins(10));
    let bootstrap = api.bootstrap_kubeconfig();
    let (config, from) = (client::kubeconfig::load(&bootstrap).expect("a kubeconfig"), client(&bootstrap));
    let early = answered(&api, "Approved", YEAR, task.run(&from, &config, &clock)).await;
    assert!(matches!(early, Err(CertificateError::NotYetValid { .. })), "{early:?}");
    assert_eq!((files(&task.cert_dir), task.kubeconfig.exists()), (Vec::new(), false));
}

#[tokio::test]
async fn a_request_that_waits_is_taken_up_by_the_next_start() {
    let api = Api::start().await;
    let bootstrap = api.bootstrap_kubeconfig();
    let early = run(&task(&api, Duration::from_millis(300)), &bootstrap).await;
    assert!(matches!(early, Err(CertificateError::NotApproved { .. })), "{early:?}");
    let task = task(&api, Duration::from_secs(20));
    let done = answered(&api, "Approved", YEAR, run(&task, &bootstrap)).await;
    done.expect("a certificate");
    assert_eq!(api.requests().await.len(), 1);
    assert_eq!(files(&task.cert_dir).len(), 2, "the key of the request is no longer kept by itself");
}

#[tokio::test]
async fn a_running_client_takes_the_certificate_that_replaces_its_own() {
    let api = Api::start().await;
    let task = task(&api, Duration::from_secs(20));
    let bootstrap = api.bootstrap_kubeconfig();
    let done = answered(&api, "Approved", DUE, run(&task, &bootstrap)).await;
    done.expect("a certificate");
    let node = client(&task.kubeconfig);
    let before = who(&node).await;

    let store = CertificateStore::new(&task.cert_dir, Purpose::Client);
    let (ready, mut when_ready) = tokio::sync::watch::channel(false);
    let template = Template::client("n1");
    let manager = CertificateManager {
        client: node.clone(),
        store: store.clone(),
        template: Box::new(move || Some(template.clone())),
        clock: Arc::new(SystemClock),
        ready,
    };
    let manager = tokio::spawn(manager.run());
    api.answer("Approved", &[YEAR]).await;
    when_ready.wait_for(|ready| *ready).await.expect("ready");
    let renewed = |facts: &Facts| facts.not_after.duration_since(jiff::Timestamp::now()).as_hours() > 1;
    for _ in 0..500 {
        if store.current().expect("readable").as_ref().is_some_and(renewed) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.current().expect("readable").as_ref().is_some_and(renewed), "replaced when it was due");

    // Files are looked at every ten seconds.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let after = who(&node).await;
    assert_eq!(before.0, after.0);
    assert!(before.1.is_some() && before.1 != after.1, "{before:?} {after:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(api.requests().await.len(), 2, "and not again");
    manager.abort();
}

#[tokio::test]
async fn a_serving_certificate_follows_the_nodes_addresses() {
    let api = Api::start().await;
    let store = CertificateStore::new(api.folder.path().join("pki"), Purpose::Serving);
    let addresses: Arc<Mutex<Vec<NodeAddress>>> = Arc::default();
    let (ready, mut when_ready) = tokio::sync::watch::channel(false);
    let source = addresses.clone();
    let manager = CertificateManager {
        client: client(&api.kubeconfig("system:node:n1", "system:nodes")),
        store: store.clone(),
        template: Box::new(move || Template::serving("n1", &source.lock())),
        clock: Arc::new(SystemClock),
        ready,
    };
    let manager = tokio::spawn(manager.run());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(api.requests().await.is_empty(), "without names there is nothing to ask for");

    let add = |kind: &str, address: &str| {
        addresses.lock().push(NodeAddress { type_: kind.into(), address: address.into() });
    };
    add("InternalIP", "192.0.2.7");
    add("Hostname", "n1");
    api.answer("Approved", &[YEAR]).await;
    when_ready.wait_for(|ready| *ready).await.expect("ready");
    let first = store.current().expect("readable").expect("there");
    assert_eq!(first.ip_addresses, ["192.0.2.7".parse().expect("an ip")].into());
    assert_eq!(first.dns_names, ["n1".to_owned()].into());
    let request = api.requests().await.remove(0);
    assert_eq!(request.spec.usages, Some(vec!["digital signature".into(), "server auth".into()]));

    add("InternalIP", "2001:db8::7");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    api.answer("Approved", &[YEAR]).await;
    for _ in 0..500 {
        if store.current().expect("readable").is_some_and(|facts| facts.ip_addresses.len() == 2) {
            manager.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", store.current());
}
