//! Three API servers on one etcd: what is kept in one process must not make them disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use apiserver::Config;
use futures_util::{
    StreamExt,
    future::{join_all, try_join_all},
    stream,
};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{etcd::Member, harness, harness::Harness};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
const SOON: Duration = Duration::from_secs(10);

struct Cluster {
    servers: Vec<Harness>,
    _member: Member,
}

impl Cluster {
    /// All three at once, on an empty store, each with a connection of its own.
    async fn start() -> Cluster {
        let member = Member::start();
        let config = harness::config();
        let servers = (1..=3).map(async |n| {
            let address = Ipv4Addr::new(192, 0, 2, n).into();
            let host_name = Some(format!("master-{n}"));
            let config = Config { advertise_address: address, host_name, ..config.clone() };
            Harness::on(member.store().await, config).await
        });
        Cluster { servers: join_all(servers).await, _member: member }
    }

    fn each(&self) -> impl Iterator<Item = &Harness> {
        self.servers.iter()
    }

    /// The server whose turn it is.
    fn turn(&self, n: usize) -> &Harness {
        &self.servers[n % self.servers.len()]
    }
}

/// Asks until the answer is as wanted.
async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Addresses in the Endpoints and in the EndpointSlice, as far as the two agree.
async fn addresses(server: &Harness) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (_, endpoints) = server.get(ENDPOINTS).await;
    let (_, slice) = server.get(SLICE).await;
    let listed: Vec<String> = all(&endpoints["subsets"][0]["addresses"]).iter().map(|at| text(&at["ip"])).collect();
    let sliced: Vec<String> = all(&slice["endpoints"]).iter().map(|at| text(&at["addresses"][0])).collect();
    if listed == sliced { listed } else { vec![format!("{listed:?} and {sliced:?}")] }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_kubernetes_leads_to_the_servers_that_live() {
    let cluster = Cluster::start().await;
    let is = async |server: usize, wanted: &[&str], within: Duration| {
        let server = &cluster.servers[server];
        until("endpoints", within, async || (addresses(server).await == wanted).then_some(())).await;
    };
    for server in 0..3 {
        is(server, &["192.0.2.1", "192.0.2.2", "192.0.2.3"], SOON).await;
    }
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?labelSelector=apiserver.kubernetes.io/identity%3Dkube-apiserver";
    let hosts = async || {
        let (_, leases) = cluster.servers[2].get(leases).await;
        let all = leases["items"].as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|lease| lease["metadata"]["labels"]["kubernetes.io/hostname"].to_string())
            .collect::<BTreeSet<_>>()
    };
    until("identity leases", SOON, async || (hosts().await.len() == 3).then_some(())).await;

    // Who leaves in order is gone at once, and says so before it no longer serves.
    cluster.servers[0].server.leave().await;
    assert_eq!(addresses(&cluster.servers[1]).await, ["192.0.2.2", "192.0.2.3"]);
    assert!(!hosts().await.contains("\"master-1\""));
    let (status, text) = cluster.servers[0].get("/readyz?verbose").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.to_string().contains("[-]shutdown failed"), "{text}");
    assert_eq!(cluster.servers[0].get("/livez").await.0, StatusCode::OK);
    assert_eq!(cluster.servers[0].get(MAPS).await.0, StatusCode::OK, "what still comes is served");

    // Who is killed is gone when its lease has run out: 15 s, and what etcd takes to notice.
    cluster.servers[1].stop().cancel();
    is(2, &["192.0.2.3"], Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_through_several_servers_are_one_order() {
    let cluster = Cluster::start().await;
    // One name, one winner.
    for n in 0..20 {
        let body = json!({"metadata": {"name": format!("one-{n}")}}).to_string();
        let mut answers: Vec<StatusCode> =
            join_all(cluster.each().map(|server| server.post(MAPS, &body))).await.into_iter().map(|a| a.0).collect();
        answers.sort();
        assert_eq!(answers, [StatusCode::CREATED, StatusCode::CONFLICT, StatusCode::CONFLICT]);
    }

    // Compare and swap: every acknowledged addition is in the sum.
    cluster.turn(0).post(MAPS, r#"{"metadata":{"name":"sum"},"data":{"n":"0"}}"#).await;
    let path = &format!("{MAPS}/sum");
    join_all(cluster.each().map(async |server| {
        for _ in 0..20 {
            loop {
                let (_, mut object) = server.get(path).await;
                let n: u32 = object["data"]["n"].as_str().and_then(|n| n.parse().ok()).expect("a number");
                object["data"]["n"] = (n + 1).to_string().into();
                match server.put(path, &object).await {
                    (StatusCode::OK, _) => break,
                    (status, answer) => assert_eq!(status, StatusCode::CONFLICT, "{answer}"),
                }
            }
        }
    }))
    .await;
    for server in cluster.each() {
        assert_eq!(server.get(path).await.1["data"]["n"], "60");
    }

    // Changes that name no version are merged, whichever server they come through.
    let patches = (0..60).map(async |n| {
        let body = json!({"data": {format!("key-{n}"): "x"}}).to_string();
        let (status, answer) = cluster.turn(n).patch(path, "merge", &body).await;
        (status == StatusCode::OK).then_some(()).ok_or(answer)
    });
    try_join_all(patches).await.expect("every patch");
    assert_eq!(cluster.turn(0).get(path).await.1["data"].as_object().map(serde_json::Map::len), Some(61));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_wrote_the_others_read() {
    let cluster = Cluster::start().await;
    for n in 0..60 {
        let (writer, reader, other) = (cluster.turn(n), cluster.turn(n + 1), cluster.turn(n + 2));
        let name = format!("read-{n}");
        let (_, made) = writer.post(MAPS, &json!({"metadata": {"name": name}}).to_string()).await;
        let version = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        let path = format!("{MAPS}/{name}");
        assert_eq!(reader.get(&path).await.0, StatusCode::OK);
        let (_, list) = other.get(MAPS).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(n + 1), "a list without version is of now");
        // Deleted through one: gone through the others, and a version from before is still served.
        if n % 10 == 9 {
            let (status, answer) = reader.patch(&path, "merge", r#"{"data":{"a":"b"}}"#).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(other.get(&format!("{path}?resourceVersion={version}")).await.0, StatusCode::OK);
            let (_, got) = writer.get(&path).await;
            assert_eq!(got["data"]["a"], "b");
        }
    }

    // A version that no server has seen.
    let ahead = "99999999";
    for path in [format!("{MAPS}/read-1?resourceVersion={ahead}"), format!("{MAPS}?resourceVersion={ahead}")] {
        let (status, answer) = cluster.turn(0).get(&path).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{answer}");
        assert_eq!(answer["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "{answer}");
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|text| text.contains("Too large resource version: 99999999, current: "))
        );
    }

    // A watch from a version that another server gave, which this one may not have seen yet: that event is not told again,
    // the next one is.
    for n in 0..20 {
        let (writer, watched) = (cluster.turn(n), cluster.turn(n + 1));
        let (_, first) = writer.post(MAPS, &json!({"metadata": {"name": format!("first-{n}")}}).to_string()).await;
        let version = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        let request = Request::get(format!("{MAPS}?watch=1&resourceVersion={version}"));
        let watch = watched.send(request.body(Default::default()).expect("a request")).await;
        writer.post(MAPS, &json!({"metadata": {"name": format!("second-{n}")}}).to_string()).await;
        let mut body = watch.into_body();
        let frame = timeout(SOON, body.frame()).await.expect("an event").expect("a frame").expect("bytes");
        let frame: Value = serde_json::from_slice(&frame.into_data().expect("data")).expect("json");
        assert_eq!(frame["object"]["metadata"]["name"], format!("second-{n}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_out_is_given_once() {
    let cluster = Cluster::start().await;
    let services = "/api/v1/namespaces/default/services";
    let made = (0..60).map(async |n| {
        let service =
            json!({"metadata": {"name": format!("s-{n}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let (status, service) = cluster.turn(n).post(services, &service.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{service}");
        (service["spec"]["clusterIP"].to_string(), service["spec"]["ports"][0]["nodePort"].to_string())
    });
    let made = join_all(made).await;
    let (ips, ports): (BTreeSet<String>, BTreeSet<String>) = made.into_iter().unzip();
    assert_eq!((ips.len(), ports.len()), (60, 60));
    // One address that all want.
    let wanted = (0..3).map(async |n| {
        let service = json!({"metadata": {"name": format!("same-{n}")}, "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}});
        cluster.turn(n).post(services, &service.to_string()).await.0
    });
    let mut answers = join_all(wanted).await;
    answers.sort();
    assert_eq!(answers, [StatusCode::CREATED, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNPROCESSABLE_ENTITY]);

    // A quota is charged in the store, whoever charges.
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    cluster.turn(0).post(quotas, r#"{"metadata":{"name":"q"},"spec":{"hard":{"configmaps":"10"}}}"#).await;
    let counted = r#"{"status":{"hard":{"configmaps":"10"},"used":{"configmaps":"0"}}}"#;
    let (status, answer) = cluster.turn(0).patch(&format!("{quotas}/q/status"), "merge", counted).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // Upstream's servers, too, find a quota by their caches: it counts once all have seen it.
    let seen = answer["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    for server in cluster.each() {
        server.get(&format!("{quotas}/q?resourceVersion={seen}")).await;
    }
    let made = stream::iter(0..60).map(async |n| {
        let body = json!({"metadata": {"name": format!("charged-{n}")}}).to_string();
        cluster.turn(n).post(MAPS, &body).await
    });
    let mut answers: BTreeMap<StatusCode, usize> = BTreeMap::new();
    for (status, _) in made.buffer_unordered(12).collect::<Vec<_>>().await {
        *answers.entry(status).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([(StatusCode::CREATED, 10), (StatusCode::FORBIDDEN, 50)]));
    let (_, quota) = cluster.turn(1).get(&format!("{quotas}/q")).await;
    assert_eq!(quota["status"]["used"]["configmaps"], "10", "{quota}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_served_and_let_go_by_all() {
    let cluster = Cluster::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "metadata": {"name": "ships.sea.example"},
        "spec": {
            "group": "sea.example", "scope": "Namespaced",
            "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "listKind": "ShipList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    let ships = "/apis/sea.example/v1/namespaces/default/ships";
    for round in 0..3 {
        let (status, answer) = cluster.turn(round).post(crds, &definition.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        for (n, server) in cluster.each().enumerate() {
            until("served", SOON, async || (server.get(ships).await.0 == StatusCode::OK).then_some(())).await;
            let ship =
                json!({"apiVersion": "sea.example/v1", "kind": "Ship", "metadata": {"name": format!("ship-{n}")}});
            let (status, answer) = server.post(ships, &ship.to_string()).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            assert_eq!(cluster.turn(n).get(ships).await.1["items"].as_array().map(Vec::len), Some(n + 1));
        }
        let path = format!("{crds}/ships.sea.example");
        cluster.turn(round + 1).delete(&path).await;
        for server in cluster.each() {
            until("gone", SOON, async || (server.get(&path).await.0 == StatusCode::NOT_FOUND).then_some(())).await;
            until("unserved", SOON, async || (server.get(ships).await.0 == StatusCode::NOT_FOUND).then_some(())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_server_is_good_at_the_others() {
    let cluster = Cluster::start().await;
    for n in 0..9 {
        let (issuer, asked) = (cluster.turn(n), cluster.turn(n + 1));
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        issuer.post(accounts, &json!({"metadata": {"name": format!("account-{n}")}}).to_string()).await;
        let (status, answer) = issuer.post(&format!("{accounts}/account-{n}/token"), r#"{"spec":{}}"#).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let token = answer["status"]["token"].as_str().expect("a token");
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let request = Request::post(review)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(net::full(r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#));
        // At once: the other server may not have seen the account.
        let answer = asked.server.handle(request.expect("a request")).await;
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let who: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(
            who["status"]["userInfo"]["username"],
            format!("system:serviceaccount:default:account-{n}"),
            "{who}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paged_list_goes_on_through_another_server() {
    let cluster = Cluster::start().await;
    for n in 0..25 {
        let (status, answer) =
            cluster.turn(n).post(MAPS, &json!({"metadata": {"name": format!("m-{n:02}")}}).to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    let (mut names, mut next, mut version) = (Vec::new(), String::new(), Value::Null);
    for page in 0.. {
        let (status, list) = cluster.turn(page).get(&format!("{MAPS}?limit=5&continue={next}")).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        if page == 0 {
            version = list["metadata"]["resourceVersion"].clone();
            // What happens in the meantime is not in the list.
            cluster.turn(1).delete(&format!("{MAPS}/m-07")).await;
            cluster.turn(2).post(MAPS, r#"{"metadata":{"name":"m-08-late"}}"#).await;
            cluster.turn(0).patch(&format!("{MAPS}/m-09"), "merge", r#"{"data":{"late":"yes"}}"#).await;
        }
        assert_eq!(list["metadata"]["resourceVersion"], version);
        for item in list["items"].as_array().expect("items") {
            assert_eq!(item.get("data"), None, "{item}");
            names.push(item["metadata"]["name"].as_str().expect("a name").to_owned());
        }
        match list["metadata"]["continue"].as_str() {
            Some(token) => next = token.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("m-{n:02}")).collect::<Vec<_>>());
    // The same state again, by its version.
    let version = version.as_str().expect("a version").to_owned();
    for server in cluster.each() {
        let path = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
        let (status, list) = server.get(&path).await;
        assert_eq!((status, list["items"].as_array().map(Vec::len)), (StatusCode::OK, Some(25)), "{list}");
    }
}
