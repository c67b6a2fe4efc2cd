//! Candidates for one Lease.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{Client, LeaderElection, LeaderEnd};
use http::{Method, Request, Response};
use net::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::fake::{client, json_response, until};

/// Keeps one Lease, and fails every request while it is down.
#[derive(Clone, Default)]
struct Leases {
    lease: Arc<Mutex<Option<Value>>>,
    down: Arc<AtomicBool>,
}

impl Leases {
    fn client(&self) -> Client {
        let leases = self.clone();
        client(move |request| leases.answer(&request))
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let failure = |code: u16, reason: &str| {
            json_response(
                code,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}),
            )
        };
        if self.down.load(Ordering::Relaxed) {
            return failure(503, "ServiceUnavailable");
        }
        let mut lease = self.lease.lock();
        let version =
            |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map_or(0, |text| text.parse().unwrap());
        let mut written: Option<Value> = serde_json::from_slice(request.body()).ok();
        match (request.method(), lease.as_ref(), &mut written) {
            (&Method::GET, Some(lease), _) => return json_response(200, lease),
            (&Method::POST, Some(_), _) => return failure(409, "AlreadyExists"),
            (&Method::POST, None, Some(new)) => new["metadata"]["resourceVersion"] = "1".into(),
            (&Method::PUT, Some(old), Some(new)) if version(old) == version(new) => {
                new["metadata"]["resourceVersion"] = (version(old) + 1).to_string().into();
            }
            (&Method::PUT, Some(_), _) => return failure(409, "Conflict"),
            _ => return failure(404, "NotFound"),
        }
        *lease = written;
        json_response(200, lease.as_ref().unwrap())
    }

    fn spec(&self, field: &str) -> Value {
        self.lease.lock().as_ref().map_or(Value::Null, |lease| lease["spec"][field].clone())
    }
}

struct Candidate {
    cancel: CancellationToken,
    leads: Arc<AtomicBool>,
    task: JoinHandle<LeaderEnd>,
}

fn candidate(leases: &Leases, identity: &'static str) -> Candidate {
    let (cancel, leads) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let (client, told, flag) = (leases.client(), cancel.clone(), leads.clone());
    let task = tokio::spawn(async move {
        let election = LeaderElection::new("kube-system", "kube-scheduler", identity);
        let lead = |leading: CancellationToken| async move {
            flag.store(true, Ordering::Relaxed);
            leading.cancelled().await;
            // The lease is still held while what the leader ran comes to its end.
            tokio::time::sleep(Duration::from_secs(3)).await;
            flag.store(false, Ordering::Relaxed);
        };
        election.run(&client, told, lead).await
    });
    Candidate { cancel, leads, task }
}

impl Candidate {
    fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_until_it_is_told_to_end_and_the_next_follows_at_once() {
    let leases = Leases::default();
    let first = candidate(&leases, "first");
    until(|| first.leads()).await;
    let second = candidate(&leases, "second");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(leases.spec("holderIdentity"), "first");
    assert_eq!(leases.spec("leaseDurationSeconds"), 15);
    assert_eq!(leases.spec("leaseTransitions"), 0);

    let told = Instant::now();
    first.cancel.cancel();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!second.leads(), "led while the first was ending");
    assert_eq!(first.task.await.unwrap(), LeaderEnd::Cancelled);
    until(|| second.leads()).await;
    assert!(told.elapsed() < Duration::from_secs(9), "waited for the lease's end: {:?}", told.elapsed());
    assert_eq!(leases.spec("holderIdentity"), "second");
    assert_eq!(leases.spec("leaseTransitions"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_disappears_is_followed_after_the_leases_duration() {
    let leases = Leases::default();
    let first = candidate(&leases, "first");
    until(|| first.leads()).await;
    let second = candidate(&leases, "second");
    tokio::time::sleep(Duration::from_secs(30)).await;
    first.task.abort();
    let gone = Instant::now();
    until(|| second.leads()).await;
    let waited = gone.elapsed().as_secs();
    assert!((13..=22).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_gives_up_before_another_may_lead() {
    let leases = Leases::default();
    let first = candidate(&leases, "first");
    until(|| first.leads()).await;
    let second = candidate(&leases, "second");
    tokio::time::sleep(Duration::from_secs(30)).await;
    leases.down.store(true, Ordering::Relaxed);
    let down = Instant::now();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(first.leads(), "gave up before its deadline");
    assert_eq!(first.task.await.unwrap(), LeaderEnd::Lost);
    assert!(down.elapsed() <= Duration::from_secs(15), "{:?}", down.elapsed());
    assert!(!first.leads.load(Ordering::Relaxed) && !second.leads());
    leases.down.store(false, Ordering::Relaxed);
    until(|| second.leads()).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_by_itself_frees_the_lease() {
    let leases = Leases::default();
    let election = LeaderElection::new("kube-system", "kube-scheduler", "first");
    let end = election.run(&leases.client(), CancellationToken::new(), |_| async {}).await;
    assert_eq!(end, LeaderEnd::Finished);
    assert_eq!(leases.spec("holderIdentity"), "");
}
