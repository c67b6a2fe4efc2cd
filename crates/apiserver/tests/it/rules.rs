//! What kinds ask beyond their own fields when they are written: of the user, of the namespace, of the time and of what was
//! there before.

use http::{Request, StatusCode, header};
use serde_json::json;

use crate::{
    admission::{ADMIN, RBAC, Step, play, request_for},
    harness::Harness,
};

const DEVICES: &str = "/apis/resource.k8s.io/v1/namespaces/default";
const BUNDLES: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
const POD_CERTIFICATES: &str = "/apis/certificates.k8s.io/v1beta1/namespaces/default/podcertificaterequests";

fn claim(name: &str, access: bool) -> String {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "gpu", "adminAccess": access}});
    json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}).to_string()
}

#[tokio::test]
async fn access_to_devices_in_use_is_for_marked_namespaces() {
    let server = Harness::start().await;
    let claims = || format!("{DEVICES}/resourceclaims");
    let refused = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    let template = format!(r#"{{"metadata":{{"name":"t"}},"spec":{}}}"#, claim("t", true));
    let allocated = r#"{"status":{"allocation":{"devices":{"results":[{"request":"r","driver":"d","pool":"p","device":"x","adminAccess":true}]}}}}"#;
    let label = r#"{"metadata":{"labels":{"resource.kubernetes.io/admin-access":"true"}}}"#;
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", claims(), claim("a", true), 422, vec![refused]),
        (ADMIN, "POST", claims(), claim("b", false), 201, vec![]),
        (ADMIN, "POST", format!("{DEVICES}/resourceclaimtemplates"), template, 422, vec!["Forbidden"]),
        (
            ADMIN,
            "PATCH",
            format!("{DEVICES}/resourceclaims/b/status"),
            allocated.into(),
            422,
            vec!["status.allocation.devices.results[0].adminAccess"],
        ),
        (ADMIN, "PATCH", "/api/v1/namespaces/default".into(), label.into(), 200, vec![]),
        (ADMIN, "POST", claims(), claim("a", true), 201, vec![]),
        (ADMIN, "PATCH", format!("{DEVICES}/resourceclaims/b/status"), allocated.into(), 200, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn what_drivers_say_of_devices_goes_with_them() {
    let server = Harness::start().await;
    server.post(&format!("{DEVICES}/resourceclaims"), &claim("c", false)).await;
    let path = format!("{DEVICES}/resourceclaims/c/status");
    let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
    let results: Vec<_> =
        ["x"].iter().map(|name| json!({"request": "r", "driver": "d", "pool": "p", "device": name})).collect();
    let status = json!({"status": {"allocation": {"devices": {"results": results}}, "devices": [device("x")]}});
    let (code, claim) = server.patch(&path, "merge", &status.to_string()).await;
    assert_eq!((code, claim["status"]["devices"][0]["device"].as_str()), (StatusCode::OK, Some("x")), "{claim}");
    let (code, claim) = server.patch(&path, "merge", r#"{"status":{"allocation":null}}"#).await;
    assert_eq!((code, claim["status"].get("devices")), (StatusCode::OK, None), "{claim}");
}

#[tokio::test]
async fn some_updates_name_the_version_they_change() {
    let server = Harness::start().await;
    let path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = r#"{"metadata":{"name":"b"},"spec":{"minAvailable":1}}"#;
    server.post(path, budget).await;
    for subresource in ["", "/status"] {
        let (code, answer) =
            server.put(&format!("{path}/b{subresource}"), &serde_json::from_str(budget).expect("JSON")).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(
            answer["details"]["causes"][0]["message"], "Invalid value: 0: must be specified for an update",
            "{answer}"
        );
    }
    let class = json!({"metadata": {"name": "r"}, "handler": "runc"});
    let (code, answer) = server.put("/apis/node.k8s.io/v1/runtimeclasses/r", &class).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn conditions_of_a_certificate_request_tell_since_when() {
    let server = Harness::start().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"signerName": "example.com/s", "usages": ["client auth"], "request": request_for(&["dev"])});
    server.post(path, &json!({"metadata": {"name": "r"}, "spec": spec}).to_string()).await;
    let approval = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "r"}]}});
    let (code, request) = server.patch(&format!("{path}/r/approval"), "merge", &approval("Approved").to_string()).await;
    assert_eq!(code, StatusCode::OK, "{request}");
    for time in ["lastUpdateTime", "lastTransitionTime"] {
        assert!(request["status"]["conditions"][0][time].is_string(), "{time} in {request}");
    }
    let (code, answer) = server.patch(&format!("{path}/r/approval"), "merge", &approval("Denied").to_string()).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let causes = answer["details"]["causes"].as_array().expect("causes");
    assert!(causes.iter().any(|cause| {
        cause["message"]
            .as_str()
            .is_some_and(|message| message.contains("updates may not remove a condition of type \"Approved\""))
    }));
    // The decision that a status comes with is the one that was made.
    let (code, request) = server.patch(&format!("{path}/r/status"), "merge", &approval("Approved").to_string()).await;
    assert_eq!((code, request["status"]["conditions"][0]["reason"].as_str()), (StatusCode::OK, Some("r")), "{request}");
}

fn role(verb: &str) -> String {
    json!({"metadata": {"name": verb}, "rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["*"], "verbs": ["create", "update", "patch", "get"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"], "verbs": [verb]}
    ]})
    .to_string()
}

fn bind(verb: &str, user: &str) -> String {
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": verb});
    json!({"metadata": {"name": user}, "roleRef": role, "subjects": [subject]}).to_string()
}

#[tokio::test]
async fn bundles_and_certificates_of_pods_are_for_those_who_may_sign() {
    let server = Harness::serving("certificates.k8s.io/v1beta1=true").await;
    let params = || {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let anchor = params().self_signed(&key).expect("a certificate").pem();
    let bundle = json!({"metadata": {"name": "example.com:s:b"}, "spec": {"signerName": "example.com/s", "trustBundle": anchor}});
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    use base64::{Engine, engine::general_purpose::STANDARD};
    let spec = json!({
        "signerName": "example.com/s", "podName": "p", "podUID": "u", "serviceAccountName": "s", "serviceAccountUID": "u",
        "nodeName": "n", "nodeUID": "u", "maxExpirationSeconds": 86400, "stubPKCS10Request": STANDARD.encode(request.der()),
    });
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    let denied = json!({"status": {"conditions": [
        {"type": "Denied", "status": "True", "reason": "r", "lastTransitionTime": "2024-01-01T00:00:00Z"}
    ]}});
    let status = format!("{POD_CERTIFICATES}/p/status");
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", format!("{RBAC}/clusterroles"), role("attest"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterroles"), role("sign"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("attest", "amy"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("sign", "sue"), 201, vec![]),
        (
            "sue",
            "POST",
            BUNDLES.into(),
            bundle.to_string(),
            403,
            vec!["user not permitted to attest for signerName \"example.com/s\""],
        ),
        ("amy", "POST", BUNDLES.into(), bundle.to_string(), 201, vec![]),
        ("amy", "POST", POD_CERTIFICATES.into(), pod.to_string(), 201, vec![]),
        (
            "amy",
            "PATCH",
            status.clone(),
            denied.to_string(),
            422,
            vec!["User \"amy\" is not permitted to \"sign\" for signer \"example.com/s\""],
        ),
        ("sue", "PATCH", status, denied.to_string(), 200, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn a_token_is_asked_for_the_account_of_the_path() {
    let server = Harness::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    for (body, code, message) in [
        (json!({"metadata": {"name": "x"}}), 422, "must match the service account name if specified"),
        (json!({"metadata": {"namespace": "x"}}), 400, "does not match the namespace sent on the request"),
        (json!({"metadata": {"uid": "x"}}), 409, "the UID in the token request (x) does not match"),
        (json!({"spec": {"audiences": "a"}}), 400, "cannot unmarshal string"),
        (json!({"spec": {"boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": "n"}}}), 404, "nodes \"n\""),
        (json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "apps/v1"}}}), 400, "apps/v1, Kind=Pod"),
    ] {
        let (got, answer) = server.post(path, &body.to_string()).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(got.as_u16() == code && said.contains(message), "{body}: {got} {said}");
    }
    let (code, answer) = server.post(path, "{}").await;
    assert_eq!((code, answer["metadata"]["name"].as_str()), (StatusCode::CREATED, Some("default")), "{answer}");
}

#[tokio::test]
async fn ephemeral_containers_come_and_stay() {
    let server = Harness::start().await;
    let path = "/api/v1/namespaces/default/pods";
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let (_, mut pod) = server.post(path, pod).await;
    let part = format!("{path}/p/ephemeralcontainers");
    // What a client leaves out has its default, as everywhere.
    pod["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
    let (code, mut pod) = server.put(&part, &pod).await;
    assert_eq!(code, StatusCode::OK, "{pod}");
    for (list, said) in [
        (json!([]), "existing ephemeral containers \"e\" may not be removed"),
        (json!([{"name": "e", "image": "j"}]), "existing ephemeral containers \"e\" may not be changed"),
    ] {
        pod["spec"]["ephemeralContainers"] = list;
        let (code, answer) = server.put(&part, &pod).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains(said)), "{answer}");
    }
    pod["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}, {"name": "f", "image": "i"}]);
    let (code, answer) = server.put(&part, &pod).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn who_binds_claims_and_who_drives_devices_have_their_parts() {
    let server = Harness::start().await;
    let path = format!("{DEVICES}/resourceclaims");
    let status = format!("{path}/c/status");
    let rule = |resource: &str, verbs: &[&str], names: &[&str]| json!({"apiGroups": ["resource.k8s.io"], "resources": [resource], "verbs": verbs, "resourceNames": names});
    let role = |name: &str, more: serde_json::Value| {
        let rules = [rule("resourceclaims/status", &["patch", "update"], &[]), more];
        json!({"metadata": {"name": name}, "rules": rules}).to_string()
    };
    let allocation =
        r#"{"status":{"allocation":{"devices":{"results":[{"request":"r","driver":"d","pool":"p","device":"x"}]}}}}"#;
    let device = r#"{"status":{"devices":[{"driver":"d","pool":"p","device":"x"}]}}"#;
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", path, claim("c", false), 201, vec![]),
        (
            ADMIN,
            "POST",
            format!("{RBAC}/clusterroles"),
            role("binds", rule("resourceclaims/binding", &["patch"], &[])),
            201,
            vec![],
        ),
        (
            ADMIN,
            "POST",
            format!("{RBAC}/clusterroles"),
            role("drives", rule("resourceclaims/driver", &["arbitrary-node:patch"], &["d"])),
            201,
            vec![],
        ),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("binds", "bob"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("drives", "dan"), 201, vec![]),
        (
            "dan",
            "PATCH",
            status.clone(),
            allocation.into(),
            422,
            vec![
                "status.allocation: Forbidden: changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"patch\" permission: ",
            ],
        ),
        ("bob", "PATCH", status.clone(), allocation.into(), 200, vec![]),
        (
            "bob",
            "PATCH",
            status.clone(),
            device.into(),
            422,
            vec![
                "status.devices: Forbidden: changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:patch]\" permission: ",
            ],
        ),
        ("dan", "PATCH", status, device.into(), 200, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn changes_are_counted_completed_and_refused() {
    let server = Harness::start().await;
    let default = |plural: &str| format!("/api/v1/namespaces/default/{plural}");
    let deployment = r#"{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    let deployments = || "/apis/apps/v1/namespaces/default/deployments".to_owned();
    let expression = r#"{"key":"kubernetes.io/hostname","operator":"In","values":["n"]}"#;
    let affinity = format!(r#"{{"required":{{"nodeSelectorTerms":[{{"matchExpressions":[{expression}]}}]}}}}"#);
    let volume = format!(
        r#"{{"metadata":{{"name":"v"}},"spec":{{"capacity":{{"storage":"1Gi"}},"accessModes":["ReadWriteOnce"],"local":{{"path":"/x"}},"nodeAffinity":{affinity}}}}}"#
    );
    let volumes = |rest: &str| format!("/api/v1/persistentvolumes{rest}");
    let event = r#"{"metadata":{"name":"e","namespace":"default"},"involvedObject":{"kind":"Pod","namespace":"default","name":"x"},"reason":"R","message":"m"}"#;
    let labelled = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let runtimes = |rest: &str| format!("/apis/node.k8s.io/v1/runtimeclasses{rest}");
    let refused = |what: &'static str| vec![what];
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", deployments(), deployment.into(), 201, vec![r#""generation":1"#]),
        // Its ReplicaSets get its annotations.
        (ADMIN, "PATCH", deployments() + "/d", labelled.into(), 200, vec![r#""generation":1"#]),
        (
            ADMIN,
            "PATCH",
            deployments() + "/d",
            labelled.replace("labels", "annotations"),
            200,
            vec![r#""generation":2"#],
        ),
        (ADMIN, "POST", volumes(""), volume, 201, vec![]),
        (
            ADMIN,
            "PATCH",
            volumes("/v/status"),
            r#"{"status":{"lastPhaseTransitionTime":"2020-01-01T00:00:00Z"}}"#.into(),
            200,
            vec!["2020-01-01"],
        ),
        (
            ADMIN,
            "PATCH",
            volumes("/v/status"),
            r#"{"status":{"phase":"Available"}}"#.into(),
            200,
            vec!["lastPhaseTransitionTime", "!2020-01-01"],
        ),
        (
            ADMIN,
            "PATCH",
            volumes("/v"),
            r#"{"spec":{"nodeAffinity":null}}"#.into(),
            422,
            refused("nodeAffinity: Invalid"),
        ),
        (ADMIN, "POST", runtimes(""), r#"{"metadata":{"name":"r"},"handler":"h"}"#.into(), 201, vec![]),
        (
            ADMIN,
            "PATCH",
            runtimes("/r"),
            r#"{"overhead":{"podFixed":{"cpu":"-1"}}}"#.into(),
            422,
            refused("overhead.limits[cpu]: Invalid"),
        ),
        (ADMIN, "POST", default("events"), event.into(), 201, vec![]),
        (
            ADMIN,
            "PATCH",
            "/apis/events.k8s.io/v1/namespaces/default/events/e".into(),
            labelled.into(),
            200,
            vec!["!reportingController"],
        ),
        (ADMIN, "POST", default("pods"), pod.into(), 201, vec![r#""preemptionPolicy":"PreemptLowerPriority""#]),
        // What no client may change comes back, and counts as no change.
        (
            ADMIN,
            "PATCH",
            default("pods/p"),
            r#"{"spec":{"preemptionPolicy":null,"tolerations":null}}"#.into(),
            200,
            vec![r#""preemptionPolicy":"PreemptLowerPriority""#, r#""generation":1"#],
        ),
        (
            ADMIN,
            "PATCH",
            default("pods/p/status"),
            r#"{"status":{"podIP":"10.0.0.1"}}"#.into(),
            200,
            vec![r#""podIPs":[{"ip":"10.0.0.1"}]"#],
        ),
        (
            ADMIN,
            "PATCH",
            default("pods/p"),
            r#"{"metadata":{"finalizers":["a"]}}"#.into(),
            422,
            refused("metadata.finalizers[0]: Invalid value: \"a\": name is neither a standard finalizer name"),
        ),
        (
            ADMIN,
            "PATCH",
            default("pods/p"),
            r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}"#.into(),
            422,
            refused("metadata.deletionTimestamp: Invalid"),
        ),
        (
            ADMIN,
            "POST",
            default("services"),
            r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}],"ipFamilyPolicy":"RequireDualStack"}}"#.into(),
            422,
            refused("this cluster is not configured for dual-stack services"),
        ),
        (
            ADMIN,
            "POST",
            default("services"),
            r#"{"metadata":{"name":"s"},"spec":{"type":"ExternalName","externalName":"a.b","clusterIP":"10.0.0.9"}}"#
                .into(),
            422,
            refused("spec.clusterIPs: Forbidden: may not be set for ExternalName services"),
        ),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn images_without_a_tag_are_pulled_always() {
    let server = Harness::start().await;
    let images = [
        ("nginx", "Always"),
        ("reg.example:5000/a/b", "Always"),
        ("localhost/x:latest", "Always"),
        ("Example/x", "Always"),
        ("a/b__c-d:1.2", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
        // These are no images.
        ("A_b!", "IfNotPresent"),
        ("/a/b", "IfNotPresent"),
        ("a//b", "IfNotPresent"),
    ];
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(index, (image, _))| json!({"name": format!("c{index}"), "image": image}))
        .collect();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
    let (code, pod) = server.post("/api/v1/namespaces/default/pods", &pod.to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{pod}");
    for (index, (image, policy)) in images.iter().enumerate() {
        assert_eq!(pod["spec"]["containers"][index]["imagePullPolicy"], *policy, "{image}");
    }
}

#[tokio::test]
async fn warnings_come_with_failures_and_not_again() {
    let server = Harness::start().await;
    let constraint = json!({"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"});
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "topologySpreadConstraints": [constraint]});
    let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
    let warned = async |method: &str, path: &str, body: String| {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let response = server.send(request.body(body.into()).expect("request")).await;
        let warnings = response.headers().get_all("warning").iter().count();
        (response.status(), warnings)
    };
    let pods = "/api/v1/namespaces/default/pods";
    pod["spec"]["overhead"] = json!({"cpu": "1"});
    assert_eq!(warned("POST", pods, pod.to_string()).await, (StatusCode::FORBIDDEN, 1));
    pod["spec"].as_object_mut().expect("a spec").remove("overhead");
    assert_eq!(warned("POST", pods, pod.to_string()).await, (StatusCode::CREATED, 1));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(warned("PATCH", &format!("{pods}/p"), label.to_string()).await, (StatusCode::OK, 0));
}
