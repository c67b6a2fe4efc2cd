//! Admission through the whole path: scripts of requests, each with its answer.

use std::sync::Arc;

use apiserver::UserInfo;
use http::{Request, StatusCode};
use http_body_util::BodyExt;

use crate::harness::Harness;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
pub const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
pub const ADMIN: &str = "";

/// `who method path body`, then the answer's code and texts that it contains; a text that begins with `!` must be missing,
/// one with `warning: ` is looked for in the warnings.
pub type Step<'a> = (&'a str, &'a str, String, String, u16, Vec<&'a str>);

pub async fn play(server: &Harness, steps: Vec<Step<'_>>) {
    for (who, method, path, body, code, texts) in steps {
        let (got, warnings, answer) = ask(server, who, method, &path, &body).await;
        assert_eq!(got.as_u16(), code, "{who} {method} {path} {body}: {answer}");
        // Plugins read what the watch cache has; a read answers once that is current.
        server.get("/api/v1/namespaces/default").await;
        for text in texts {
            let holds = match (text.strip_prefix('!'), text.strip_prefix("warning: ")) {
                (Some(text), _) => !answer.contains(text),
                (_, Some(text)) => warnings.contains(text),
                _ => answer.contains(text),
            };
            assert!(holds, "{who} {method} {path} {body}: no {text} in {answer} {warnings}");
        }
    }
}

async fn ask(server: &Harness, who: &str, method: &str, path: &str, body: &str) -> (StatusCode, String, String) {
    let user = match who {
        ADMIN => UserInfo::authenticated("admin", ["system:masters".to_owned()]),
        name => UserInfo::authenticated(name, []),
    };
    let kind = match (method, body.starts_with('[')) {
        ("PATCH", true) => "application/json-patch+json",
        ("PATCH", false) => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body.to_owned().into());
    let response = server.server.handle_local(Arc::new(user), request.expect("a request")).await;
    let warnings =
        response.headers().get_all("warning").iter().map(|value| value.to_str().unwrap_or_default().replace('\\', ""));
    let warnings = warnings.collect::<Vec<_>>().join("\n");
    let code = response.status();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // A message is told without the escapes of its JSON.
    let message = value["message"].as_str().unwrap_or_default().to_owned();
    (code, warnings, if value["kind"] == "Status" { message } else { value.to_string() })
}

fn pod(name: &str, spec: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i"{spec}}}]}}}}"#)
}

fn claim(name: &str, storage: &str, more: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"accessModes":["ReadWriteOnce"],"resources":{{"requests":{{"storage":"{storage}"}}}}{more}}}}}"#
    )
}

#[tokio::test]
async fn limit_ranges_default_and_bound() {
    let server = Harness::start().await;
    let range = r#"{"metadata":{"name":"l"},"spec":{"limits":[
        {"type":"Container","max":{"cpu":"1"},"min":{"cpu":"100m"},"defaultRequest":{"cpu":"200m","memory":"1Mi"}},
        {"type":"PersistentVolumeClaim","min":{"storage":"1Gi"},"max":{"storage":"2Gi"}}]}}"#;
    let resources = |text: &str| format!(r#","resources":{text}"#);
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", "/api/v1/namespaces/default/limitranges".into(), range.into(), 201, vec![]),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("a", ""),
            201,
            vec![
                r#""kubernetes.io/limit-ranger":"LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c""#,
                r#""requests":{"cpu":"200m","memory":"1Mi"}"#,
                r#""qosClass":"Burstable""#,
            ],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("b", &resources(r#"{"limits":{"cpu":"2"}}"#)),
            403,
            vec!["pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("b", &resources(r#"{"requests":{"cpu":"50m"},"limits":{"cpu":"1"}}"#)),
            403,
            vec!["pods \"b\" is forbidden: minimum cpu usage per Container is 100m, but request is 50m"],
        ),
        (
            ADMIN,
            "POST",
            CLAIMS.into(),
            claim("c", "3Gi", ""),
            403,
            vec![
                "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi",
            ],
        ),
        (ADMIN, "POST", CLAIMS.into(), claim("c", "1Gi", ""), 201, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn classes_are_chosen_and_storage_is_protected() {
    let server = Harness::start().await;
    let class = |name: &str, default: bool, grows: bool| {
        format!(
            r#"{{"metadata":{{"name":"{name}","annotations":{{"storageclass.kubernetes.io/is-default-class":"{default}"}}}},"provisioner":"p","allowVolumeExpansion":{grows}}}"#
        )
    };
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let ingress = |name: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"defaultBackend":{{"service":{{"name":"s","port":{{"number":80}}}}}}}}}}"#
        )
    };
    let volume = r#"{"metadata":{"name":"v"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/x"}}}"#;
    let grow = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    let bound = r#"{"status":{"phase":"Bound"}}"#;
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", CLAIMS.into(), claim("none", "1Gi", ""), 201, vec!["!storageClassName", r#""finalizers":["kubernetes.io/pvc-protection"]"#]),
        (ADMIN, "POST", classes.into(), class("slow", false, false), 201, vec![]),
        (ADMIN, "POST", classes.into(), class("fast", true, true), 201, vec![]),
        (ADMIN, "POST", CLAIMS.into(), claim("a", "1Gi", ""), 201, vec![r#""storageClassName":"fast""#]),
        (ADMIN, "POST", CLAIMS.into(), claim("b", "1Gi", r#","storageClassName":"""#), 201, vec![r#""storageClassName":"""#]),
        (ADMIN, "POST", CLAIMS.into(), claim("s", "1Gi", r#","storageClassName":"slow""#), 201, vec![r#""storageClassName":"slow""#]),
        (ADMIN, "POST", "/api/v1/persistentvolumes".into(), volume.into(), 201, vec![r#""finalizers":["kubernetes.io/pv-protection"]"#]),
        (ADMIN, "PATCH", format!("{CLAIMS}/a"), grow.into(), 422, vec!["spec is immutable after creation except resources.requests"]),
        (ADMIN, "PATCH", format!("{CLAIMS}/a/status"), bound.into(), 200, vec![]),
        (ADMIN, "PATCH", format!("{CLAIMS}/a"), grow.into(), 200, vec![r#""storage":"2Gi""#]),
        (ADMIN, "PATCH", format!("{CLAIMS}/s/status"), bound.into(), 200, vec![]),
        (ADMIN, "PATCH", format!("{CLAIMS}/s"), grow.into(), 403, vec!["the storageclass that provisions the pvc must support resize"]),
        (ADMIN, "POST", ingresses.into(), ingress("one"), 201, vec!["!ingressClassName"]),
        (
            ADMIN, "POST", "/apis/networking.k8s.io/v1/ingressclasses".into(),
            r#"{"metadata":{"name":"nginx","annotations":{"ingressclass.kubernetes.io/is-default-class":"true"}},"spec":{"controller":"k8s.io/nginx"}}"#.into(),
            201, vec![],
        ),
        (ADMIN, "POST", ingresses.into(), ingress("two"), 201, vec![r#""ingressClassName":"nginx""#]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn pods_take_on_their_runtime_class_and_their_nodes_place() {
    let server = Harness::start().await;
    let class = r#"{"metadata":{"name":"vm"},"handler":"vm","overhead":{"podFixed":{"cpu":"250m"}},
        "scheduling":{"nodeSelector":{"vm":"yes"},"tolerations":[{"key":"vm","operator":"Exists"}]}}"#;
    let pod = |name: &str, more: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{{more}"containers":[{{"name":"c","image":"i"}}]}}}}"#)
    };
    let node = r#"{"metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z1","topology.kubernetes.io/region":"r1","other":"x"}}}"#;
    let binding = r#"{"metadata":{"name":"a"},"target":{"kind":"Node","name":"n"}}"#;
    let steps: Vec<Step<'_>> = vec![
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("a", r#""runtimeClassName":"vm","#),
            403,
            vec!["pods \"a\" is forbidden: pod rejected: RuntimeClass \"vm\" not found"],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("a", r#""overhead":{"cpu":"1"},"#),
            403,
            vec!["pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"],
        ),
        (ADMIN, "POST", "/apis/node.k8s.io/v1/runtimeclasses".into(), class.into(), 201, vec![]),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("a", r#""runtimeClassName":"vm","nodeSelector":{"own":"1"},"#),
            201,
            vec![
                r#""overhead":{"cpu":"250m"}"#,
                r#""nodeSelector":{"own":"1","vm":"yes"}"#,
                r#"{"key":"vm","operator":"Exists"}"#,
            ],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("b", r#""runtimeClassName":"vm","overhead":{"cpu":"1"},"#),
            403,
            vec!["pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("b", r#""runtimeClassName":"vm","nodeSelector":{"vm":"no"},"#),
            403,
            vec!["conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"],
        ),
        (ADMIN, "POST", "/api/v1/nodes".into(), node.into(), 201, vec![]),
        (ADMIN, "POST", format!("{PODS}/a/binding"), binding.into(), 201, vec![]),
        (
            ADMIN,
            "GET",
            format!("{PODS}/a"),
            String::new(),
            200,
            vec![r#""labels":{"topology.kubernetes.io/region":"r1","topology.kubernetes.io/zone":"z1"}"#],
        ),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn pods_keep_to_their_namespaces_standard() {
    let server = Harness::start().await;
    let namespace = "/api/v1/namespaces/default".to_owned();
    let label = |labels: &str| format!(r#"{{"metadata":{{"labels":{{{labels}}}}}}}"#);
    let key = "pod-security.kubernetes.io";
    let privileged = r#","securityContext":{"privileged":true}"#;
    let deployment = format!(
        r#"{{"metadata":{{"name":"d"}},"spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},"template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{{"containers":[{{"name":"c","image":"i"{privileged}}}]}}}}}}}}"#
    );
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let says = "violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)";
    let denied = format!("pods \"b\" is forbidden: {says}");
    let would = "warning: would violate PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)";
    let (first, second) = (
        "warning: existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "warning: a: privileged",
    );
    let hard = r#","securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"},"capabilities":{"drop":["ALL"]}}"#;
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", PODS.into(), pod("a", privileged), 201, vec![]),
        (
            ADMIN,
            "PATCH",
            namespace.clone(),
            label(&format!(r#""{key}/enforce":"lax""#)),
            422,
            vec![
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"lax\": must be one of privileged, baseline, restricted",
            ],
        ),
        (ADMIN, "PATCH", namespace.clone(), label(&format!(r#""{key}/warn":"baseline""#)), 200, vec![]),
        (ADMIN, "POST", PODS.into(), pod("w", privileged), 201, vec![would]),
        (ADMIN, "DELETE", format!("{PODS}/w"), String::new(), 200, vec![]),
        (ADMIN, "POST", deployments.into(), deployment, 201, vec![would]),
        (ADMIN, "PATCH", format!("{deployments}/d"), r#"{"spec":{"replicas":2}}"#.into(), 200, vec![would]),
        (ADMIN, "PATCH", namespace.clone(), label(&format!(r#""{key}/enforce":"baseline""#)), 200, vec![first, second]),
        (ADMIN, "POST", PODS.into(), pod("b", privileged), 403, vec![&denied]),
        (ADMIN, "POST", PODS.into(), pod("b", ""), 201, vec![]),
        // What was there stays, unless it is changed in a way that counts.
        (ADMIN, "PATCH", format!("{PODS}/a"), r#"{"metadata":{"labels":{"x":"y"}}}"#.into(), 200, vec![]),
        (
            ADMIN,
            "PATCH",
            format!("{PODS}/a"),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"j"}]"#.into(),
            403,
            vec![says],
        ),
        (
            ADMIN,
            "PATCH",
            namespace,
            label(&format!(r#""{key}/enforce":"restricted","{key}/enforce-version":"v1.30""#)),
            200,
            vec![],
        ),
        (
            ADMIN,
            "POST",
            PODS.into(),
            pod("r", ""),
            403,
            vec!["violates PodSecurity \"restricted:v1.30\": allowPrivilegeEscalation != false"],
        ),
        (ADMIN, "POST", PODS.into(), pod("r", hard), 201, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let server = Harness::start().await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let rule = |verbs: &str| format!(r#"{{"apiGroups":[""],"resources":["pods"],"verbs":[{verbs}]}}"#);
    let writes = r#"{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings","clusterroles"],"verbs":["create","update","patch","get"]}"#;
    let role = |name: &str, rules: &str| format!(r#"{{"metadata":{{"name":"{name}"}},"rules":[{rules}]}}"#);
    let bind = |name: &str, kind: &str, role: &str, user: &str| {
        format!(
            r#"{{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{{"name":"{name}"}},"roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"{kind}","name":"{role}"}},"subjects":[{{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"{user}"}}]}}"#
        )
    };
    let missing = "user \"eve\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"list\"]}";
    let all = r#"{"metadata":{"name":"sum"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[]}"#;
    let escalate = r#"{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"verbs":["escalate"]}"#;
    let may_bind = r#"{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["system:aggregate-to-view"],"verbs":["bind"]}"#;
    let cluster_bindings = format!("{RBAC}/clusterrolebindings");
    let steps: Vec<Step<'_>> = vec![
        (
            ADMIN,
            "POST",
            format!("{RBAC}/clusterroles"),
            role("writer", &format!("{writes},{}", rule(r#""get""#))),
            201,
            vec![],
        ),
        (
            ADMIN,
            "POST",
            cluster_bindings,
            bind("eve", "ClusterRole", "writer", "eve").replace("RoleBinding", "ClusterRoleBinding"),
            201,
            vec![],
        ),
        ("eve", "POST", roles.clone(), role("a", &rule(r#""get""#)), 201, vec![]),
        ("eve", "POST", roles.clone(), role("b", &rule(r#""delete","get","list""#)), 403, vec![missing]),
        (
            "eve",
            "PATCH",
            format!("{roles}/a"),
            format!(r#"{{"rules":[{}]}}"#, rule(r#""*""#)),
            403,
            vec!["Verbs:[\"*\"]"],
        ),
        ("eve", "PATCH", format!("{roles}/a"), r#"{"metadata":{"finalizers":["example.com/x"]}}"#.into(), 200, vec![]),
        ("eve", "POST", bindings.clone(), bind("a", "Role", "a", "bob"), 201, vec![]),
        (
            "eve",
            "POST",
            bindings.clone(),
            bind("v", "ClusterRole", "system:aggregate-to-view", "bob"),
            403,
            vec!["not currently held"],
        ),
        (
            "eve",
            "POST",
            bindings.clone(),
            bind("x", "ClusterRole", "nope", "bob"),
            404,
            vec!["clusterroles.rbac.authorization.k8s.io \"nope\" not found"],
        ),
        (
            "eve",
            "POST",
            format!("{RBAC}/clusterroles"),
            all.into(),
            403,
            vec!["must have cluster-admin privileges to use the aggregationRule"],
        ),
        // Explicitly allowed: to escalate, and to bind one role.
        (ADMIN, "POST", roles.clone(), role("more", &format!("{escalate},{may_bind}")), 201, vec![]),
        (ADMIN, "POST", bindings.clone(), bind("more", "Role", "more", "eve"), 201, vec![]),
        ("eve", "POST", roles, role("b", &rule(r#""delete","get","list""#)), 201, vec![]),
        ("eve", "POST", bindings.clone(), bind("v", "ClusterRole", "system:aggregate-to-view", "bob"), 201, vec![]),
        (
            "eve",
            "POST",
            bindings,
            bind("e", "ClusterRole", "system:aggregate-to-edit", "bob"),
            403,
            vec!["not currently held"],
        ),
    ];
    play(&server, steps).await;
}

pub fn request_for(groups: &[&str]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut params = rcgen::CertificateParams::default();
    for group in groups {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    STANDARD.encode(params.serialize_request(&key).expect("a request").pem().expect("PEM"))
}

fn certificate() -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate").cert.pem())
}

#[tokio::test]
async fn certificates_are_for_those_who_may() {
    let server = Harness::start().await;
    let csr = |name: &str, signer: &str, request: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"signerName":"{signer}","usages":["client auth"],"username":"someone-else","groups":["system:masters"],"request":"{request}"}}}}"#
        )
    };
    let client = "kubernetes.io/kube-apiserver-client";
    let rules = |verbs: &str, name: &str| {
        format!(
            r#"{{"metadata":{{"name":"{verbs}"}},"rules":[
            {{"apiGroups":["certificates.k8s.io"],"resources":["certificatesigningrequests","certificatesigningrequests/approval","certificatesigningrequests/status"],"verbs":["create","update","patch","get"]}},
            {{"apiGroups":["certificates.k8s.io"],"resources":["signers"],"resourceNames":["{name}"],"verbs":["{verbs}"]}}]}}"#
        )
    };
    let bind = |name: &str, user: &str| {
        format!(
            r#"{{"metadata":{{"name":"{user}"}},"roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"{name}"}},"subjects":[{{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"{user}"}}]}}"#
        )
    };
    let approved = r#"{"status":{"conditions":[{"type":"Approved","status":"True","reason":"r","message":"m"}]}}"#;
    let signed = format!(r#"{{"status":{{"certificate":"{}"}}}}"#, certificate());
    let good = request_for(&["dev"]);
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", format!("{RBAC}/clusterroles"), rules("approve", "kubernetes.io/*"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterroles"), rules("sign", "example.com/own"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("approve", "amy"), 201, vec![]),
        (ADMIN, "POST", format!("{RBAC}/clusterrolebindings"), bind("sign", "sue"), 201, vec![]),
        ("amy", "POST", CSRS.into(), csr("a", client, &good), 201, vec![r#""username":"amy""#, "!system:masters"]),
        (
            ADMIN,
            "POST",
            CSRS.into(),
            csr("m", client, &request_for(&["dev", "system:masters"])),
            403,
            vec!["use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"],
        ),
        (ADMIN, "POST", CSRS.into(), csr("m", client, "QQ=="), 422, vec!["PEM block type must be CERTIFICATE REQUEST"]),
        (
            "sue",
            "PATCH",
            format!("{CSRS}/a/approval"),
            approved.into(),
            403,
            vec!["user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""],
        ),
        ("amy", "PATCH", format!("{CSRS}/a/approval"), approved.into(), 200, vec![]),
        (
            "amy",
            "PATCH",
            format!("{CSRS}/a/status"),
            signed.clone(),
            403,
            vec!["user not permitted to sign requests with signerName \"kubernetes.io/kube-apiserver-client\""],
        ),
        ("sue", "POST", CSRS.into(), csr("o", "example.com/own", &good), 201, vec![]),
        ("sue", "PATCH", format!("{CSRS}/o/status"), signed, 200, vec![r#""certificate":"LS0t"#]),
    ];
    play(&server, steps).await;
}

/// A quota with the status that the quota controller would give it at once.
async fn quota(server: &Harness, name: &str, spec: &str, hard: &str, used: &str) {
    let steps: Vec<Step<'_>> = vec![
        (
            ADMIN,
            "POST",
            QUOTAS.into(),
            format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"hard":{hard}{spec}}}}}"#),
            201,
            vec![],
        ),
        (
            ADMIN,
            "PATCH",
            format!("{QUOTAS}/{name}/status"),
            format!(r#"{{"status":{{"hard":{hard},"used":{used}}}}}"#),
            200,
            vec![],
        ),
    ];
    play(server, steps).await;
}

#[tokio::test]
async fn quotas_are_charged_and_kept() {
    let server = Harness::start().await;
    quota(&server, "q", "", r#"{"pods":"2","requests.cpu":"1"}"#, r#"{"pods":"0","requests.cpu":"0"}"#).await;
    quota(&server, "counts", "", r#"{"configmaps":"2","count/leases.coordination.k8s.io":"0","services.nodeports":"1","requests.storage":"1Gi"}"#, r#"{"configmaps":"1","count/leases.coordination.k8s.io":"0","services.nodeports":"0","requests.storage":"0"}"#).await;
    quota(&server, "ending", r#","scopes":["Terminating"]"#, r#"{"pods":"0"}"#, r#"{"pods":"0"}"#).await;
    let cpu = |amount: &str| format!(r#","resources":{{"requests":{{"cpu":"{amount}"}}}}"#);
    let (maps, services) = ("/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/services");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let dry = format!("{PODS}?dryRun=All");
    let used = format!("{QUOTAS}/q");
    let steps: Vec<Step<'_>> = vec![
        (ADMIN, "POST", PODS.into(), pod("a", ""), 403, vec!["pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c"]),
        (
            ADMIN, "POST", PODS.into(), pod("a", &cpu("1500m")), 403,
            vec!["pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=0, limited: requests.cpu=1"],
        ),
        (ADMIN, "POST", dry, pod("a", &cpu("500m")), 201, vec![]),
        (ADMIN, "GET", used.clone(), String::new(), 200, vec![r#""used":{"pods":"0","requests.cpu":"0"}"#]),
        (ADMIN, "POST", PODS.into(), pod("a", &cpu("500m")), 201, vec![]),
        (ADMIN, "GET", used.clone(), String::new(), 200, vec![r#""used":{"pods":"1","requests.cpu":"500m"}"#]),
        (
            ADMIN, "POST", PODS.into(),
            r#"{"metadata":{"name":"t"},"spec":{"activeDeadlineSeconds":5,"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"1m"}}}]}}"#.into(),
            403, vec!["exceeded quota: ending, requested: pods=1, used: pods=0, limited: pods=0"],
        ),
        // What a scope's quota refuses has not charged the other.
        (ADMIN, "GET", used, String::new(), 200, vec![r#""used":{"pods":"1","requests.cpu":"500m"}"#]),
        (ADMIN, "POST", maps.into(), r#"{"metadata":{"name":"m1"}}"#.into(), 201, vec![]),
        (ADMIN, "POST", maps.into(), r#"{"metadata":{"name":"m2"}}"#.into(), 403, vec!["exceeded quota: counts, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"]),
        (ADMIN, "POST", leases.into(), r#"{"metadata":{"name":"l"},"spec":{}}"#.into(), 403, vec!["requested: count/leases.coordination.k8s.io=1"]),
        (ADMIN, "POST", services.into(), r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}"#.into(), 201, vec![]),
        (ADMIN, "PATCH", format!("{services}/s"), r#"{"spec":{"type":"NodePort"}}"#.into(), 200, vec![]),
        (ADMIN, "POST", services.into(), r#"{"metadata":{"name":"s2"},"spec":{"type":"NodePort","ports":[{"port":80}]}}"#.into(), 403, vec!["requested: services.nodeports=1, used: services.nodeports=1"]),
        (ADMIN, "POST", CLAIMS.into(), claim("c", "2Gi", ""), 403, vec!["requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi"]),
        (ADMIN, "POST", CLAIMS.into(), claim("c", "1Gi", ""), 201, vec![]),
    ];
    play(&server, steps).await;
}

#[tokio::test]
async fn concurrent_creates_do_not_share_what_is_left() {
    let server = Arc::new(Harness::start().await);
    quota(&server, "q", "", r#"{"count/configmaps":"5"}"#, r#"{"count/configmaps":"0"}"#).await;
    let tries: Vec<_> = (0..20)
        .map(|index| {
            let server = server.clone();
            tokio::spawn(async move {
                let body = format!(r#"{{"metadata":{{"name":"m{index}"}}}}"#);
                server.post("/api/v1/namespaces/default/configmaps", &body).await.0
            })
        })
        .collect();
    let (mut created, mut refused) = (0, 0);
    for attempt in tries {
        match attempt.await.expect("a task") {
            StatusCode::CREATED => created += 1,
            StatusCode::FORBIDDEN => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((created, refused), (5, 15));
    let (_, quota) = server.get(&format!("{QUOTAS}/q")).await;
    assert_eq!(quota["status"]["used"]["count/configmaps"], "5");
}
