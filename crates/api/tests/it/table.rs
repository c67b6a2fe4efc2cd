//! Printed rows: objects in, the cells that `kubectl get -o wide` shows out.

use api::{ResourceTable, Value, json, table};
use jiff::Timestamp;

const META: &str = r#""metadata":{"name":"x","creationTimestamp":"2026-01-01T00:00:00Z"}"#;

fn now() -> Timestamp {
    "2026-01-01T01:30:00Z".parse().unwrap()
}

/// The cells of an object whose members beside the metadata are `rest`.
fn cells(group: &str, kind: &str, rest: &str) -> String {
    let comma = if rest.is_empty() { "" } else { "," };
    let text = format!("{{{META}{comma}{rest}}}");
    let object = json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let cells = table::row(table::columns(group, kind), &object, now());
    let show = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    cells.iter().map(show).collect::<Vec<_>>().join(" | ")
}

#[track_caller]
fn check(group: &str, kind: &str, cases: &[(&str, &str)]) {
    for (rest, expect) in cases {
        assert_eq!(cells(group, kind, rest), *expect, "{kind}: {rest}");
    }
}

/// A pod's ready, status and restarts.
fn pod(spec: &str, status: &str, meta: &str) -> String {
    let text = format!(r#"{{"metadata":{{"name":"x"{meta}}},"spec":{{{spec}}},"status":{{{status}}}}}"#);
    let object = json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let cells = table::row(table::columns("", "Pod"), &object, now());
    cells[1..4].iter().map(|cell| cell.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" | ")
}

#[test]
fn pods_say_what_their_containers_do() {
    let one = r#""containers":[{"name":"a"}]"#;
    let two = r#""containers":[{"name":"a"},{"name":"b"}]"#;
    let init = r#""containers":[{"name":"a"}],"initContainers":[{"name":"i"},{"name":"j"}]"#;
    let sidecar = r#""containers":[{"name":"a"}],"initContainers":[{"name":"s","restartPolicy":"Always"}]"#;
    let running = r#"{"ready":true,"restartCount":0,"state":{"running":{}}}"#;
    let done = r#"{"ready":false,"restartCount":0,"state":{"terminated":{"reason":"Completed","exitCode":0}}}"#;
    let ready = r#""conditions":[{"type":"Ready","status":"True"}]"#;
    let deleted = r#","deletionTimestamp":"2026-01-01T00:00:00Z""#;
    let cases = [
        (one, r#""phase":"Pending""#.to_owned(), "", "0/1 | Pending | 0"),
        (one, format!(r#""phase":"Running","containerStatuses":[{running}]"#), "", "1/1 | Running | 0"),
        (one, r#""phase":"Running","containerStatuses":[{"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"finishedAt":"2026-01-01T01:25:00Z"}}}]"#.to_owned(), "", "0/1 | CrashLoopBackOff | 3 (5m ago)"),
        (one, r#""phase":"Failed","reason":"Evicted""#.to_owned(), "", "0/1 | Evicted | 0"),
        (one, format!(r#""phase":"Succeeded","containerStatuses":[{done}]"#), "", "0/1 | Completed | 0"),
        (two, format!(r#""phase":"Running",{ready},"containerStatuses":[{done},{running}]"#), "", "1/2 | Running | 0"),
        (two, format!(r#""phase":"Running","containerStatuses":[{done},{running}]"#), "", "1/2 | NotReady | 0"),
        (two, format!(r#""phase":"Running","containerStatuses":[{done},{{"restartCount":0,"state":{{"terminated":{{"exitCode":2}}}}}}]"#), "", "0/2 | ExitCode:2 | 0"),
        (one, r#""phase":"Failed","containerStatuses":[{"restartCount":0,"state":{"terminated":{"exitCode":137,"signal":9}}}]"#.to_owned(), "", "0/1 | Signal:9 | 0"),
        (one, r#""phase":"Running""#.to_owned(), deleted, "0/1 | Terminating | 0"),
        (one, r#""phase":"Succeeded""#.to_owned(), deleted, "0/1 | Succeeded | 0"),
        (one, r#""phase":"Running","reason":"NodeLost""#.to_owned(), deleted, "0/1 | Unknown | 0"),
        (one, r#""phase":"Pending","conditions":[{"type":"PodScheduled","reason":"SchedulingGated"}]"#.to_owned(), "", "0/1 | SchedulingGated | 0"),
        (init, r#""phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":0,"state":{"running":{}}},{"name":"j"}]"#.to_owned(), "", "0/1 | Init:0/2 | 0"),
        (init, r#""phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":1,"state":{"terminated":{"exitCode":0}}},{"name":"j","restartCount":2,"state":{"waiting":{"reason":"PodInitializing"}}}]"#.to_owned(), "", "0/1 | Init:1/2 | 3"),
        (init, r#""phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":4,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]"#.to_owned(), "", "0/1 | Init:CrashLoopBackOff | 4"),
        (init, r#""phase":"Failed","initContainerStatuses":[{"name":"i","restartCount":0,"state":{"terminated":{"exitCode":1}}}]"#.to_owned(), "", "0/1 | Init:ExitCode:1 | 0"),
        (init, r#""phase":"Failed","initContainerStatuses":[{"name":"i","restartCount":0,"state":{"terminated":{"exitCode":1,"reason":"Error"}}}]"#.to_owned(), "", "0/1 | Init:Error | 0"),
        (sidecar, format!(r#""phase":"Running","initContainerStatuses":[{{"name":"s","restartCount":2,"started":true,"ready":true,"state":{{"running":{{}}}}}}],"containerStatuses":[{running}]"#), "", "2/2 | Running | 2"),
    ];
    for (spec, status, meta, expect) in cases {
        assert_eq!(pod(spec, &status, meta), expect, "{spec} {status}");
    }
    let rest = r#""spec":{"containers":[],"nodeName":"n","readinessGates":[{"conditionType":"g"},{"conditionType":"h"}]},"status":{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"g","status":"True"}]}"#;
    assert_eq!(cells("", "Pod", rest), "x | 0/0 | Running | 0 | 90m | 10.0.0.1 | n | <none> | 1/2");
}

#[test]
fn done_pods_have_row_conditions() {
    let failed = json::parse(br#"{"status":{"phase":"Failed"}}"#).unwrap();
    let condition = r#"[{"type":"Completed","status":"True","reason":"Failed","message":"The pod failed."}]"#;
    assert_eq!(table::row_conditions("", "Pod", &failed).map(|value| value.to_string()).as_deref(), Some(condition));
    assert_eq!(table::row_conditions("batch", "Job", &failed), None);
}

#[test]
fn workloads() {
    let template = r#""selector":{"matchLabels":{"a":"b"}},"template":{"spec":{"containers":[{"name":"c","image":"i:1"},{"name":"d","image":"j"}]}}"#;
    let spec = format!(
        r#""spec":{{"replicas":3,{template}}},"status":{{"replicas":3,"readyReplicas":1,"updatedReplicas":2,"availableReplicas":1}}"#
    );
    check("apps", "Deployment", &[(&spec, "x | 1/3 | 2 | 1 | 90m | c,d | i:1,j | a=b")]);
    check("apps", "ReplicaSet", &[(&spec, "x | 3 | 3 | 1 | 90m | c,d | i:1,j | a=b")]);
    check("apps", "StatefulSet", &[(&spec, "x | 1/3 | 90m | c,d | i:1,j")]);
    let spec = format!(
        r#""spec":{{{template}}},"status":{{"desiredNumberScheduled":2,"currentNumberScheduled":2,"numberReady":1}}"#
    );
    check("apps", "DaemonSet", &[(&spec, "x | 2 | 2 | 1 | 0 | 0 | <none> | 90m | c,d | i:1,j | a=b")]);
    let job = |spec: &str, status: &str| cells("batch", "Job", &format!(r#""spec":{{{spec}}},"status":{{{status}}}"#));
    let done = r#""succeeded":1,"startTime":"2026-01-01T00:00:00Z","completionTime":"2026-01-01T00:00:30Z","conditions":[{"type":"Complete","status":"True"}]"#;
    assert_eq!(job(r#""completions":1"#, done), "x | Complete | 1/1 | 30s | 90m |  |  | <none>");
    assert_eq!(job(r#""parallelism":4"#, ""), "x | Running | 0/1 of 4 |  | 90m |  |  | <none>");
    assert_eq!(
        job(r#""completions":3"#, r#""conditions":[{"type":"Suspended","status":"True"}]"#),
        "x | Suspended | 0/3 |  | 90m |  |  | <none>"
    );
    check(
        "batch",
        "CronJob",
        &[(
            r#""spec":{"schedule":"* * * * *","suspend":false,"jobTemplate":{}},"status":{"active":[{}],"lastScheduleTime":"2026-01-01T01:29:00Z"}"#,
            "x | * * * * * | <none> | False | 1 | 60s | 90m |  |  | <none>",
        )],
    );
    let owned = r#""revision":4"#;
    check("apps", "ControllerRevision", &[(owned, "x | <none> | 4 | 90m")]);
    check(
        "policy",
        "PodDisruptionBudget",
        &[(r#""spec":{"minAvailable":"50%"},"status":{"disruptionsAllowed":1}"#, "x | 50% | N/A | 1 | 90m")],
    );
}

#[test]
fn autoscalers() {
    let cases = [
        (
            r#""spec":{"maxReplicas":5,"scaleTargetRef":{"kind":"Deployment","name":"d"},"targetCPUUtilizationPercentage":80},"status":{"currentReplicas":1,"currentCPUUtilizationPercentage":7}"#,
            "x | Deployment/d | cpu: 7%/80% | <unset> | 5 | 1 | 90m",
        ),
        (
            r#""spec":{"minReplicas":2,"maxReplicas":5,"scaleTargetRef":{"kind":"D","name":"d"},"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"averageUtilization":50}}},{"type":"Pods","pods":{"target":{"averageValue":"10"}}},{"type":"External","external":{"target":{"value":"1"}}}]},"status":{}"#,
            "x | D/d | cpu: <unknown>/50%, <unknown>/10 + 1 more... | 2 | 5 | 0 | 90m",
        ),
        (
            r#""spec":{"maxReplicas":1,"metrics":[{"type":"Resource","resource":{"name":"memory","target":{"averageValue":"1Gi"}}}]},"status":{"currentMetrics":[{"type":"Resource","resource":{"name":"memory","current":{"averageValue":"5Mi"}}}]}"#,
            "x | / | memory: 5Mi/1Gi | <unset> | 1 | 0 | 90m",
        ),
    ];
    check("autoscaling", "HorizontalPodAutoscaler", &cases);
}

#[test]
fn networking() {
    check(
        "",
        "Service",
        &[
            (
                r#""spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"protocol":"TCP"},{"port":53,"nodePort":30053,"protocol":"UDP"}],"selector":{"a":"b"}}"#,
                "x | ClusterIP | 10.0.0.1 | <none> | 80/TCP,53:30053/UDP | 90m | a=b",
            ),
            (
                r#""spec":{"type":"LoadBalancer","clusterIPs":["10.0.0.1"]}"#,
                "x | LoadBalancer | 10.0.0.1 | <pending> | <none> | 90m | <none>",
            ),
            (
                r#""spec":{"type":"LoadBalancer","externalIPs":["9.9.9.9"]},"status":{"loadBalancer":{"ingress":[{"ip":"2.2.2.2"},{"hostname":"h"}]}}"#,
                "x | LoadBalancer | <none> | 2.2.2.2,h,9.9.9.9 | <none> | 90m | <none>",
            ),
            (
                r#""spec":{"type":"ExternalName","externalName":"a.b"}"#,
                "x | ExternalName | <none> | a.b | <none> | 90m | <none>",
            ),
        ],
    );
    check(
        "",
        "Endpoints",
        &[
            ("", "x | <none> | 90m"),
            (
                r#""subsets":[{"addresses":[{"ip":"1.1.1.1"},{"ip":"::1"}],"ports":[{"port":80},{"port":81}]}]"#,
                "x | 1.1.1.1:80,[::1]:80,1.1.1.1:81 + 1 more... | 90m",
            ),
            (r#""subsets":[{"addresses":[{"ip":"1.1.1.1"}]}]"#, "x | 1.1.1.1 | 90m"),
        ],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        &[
            (
                r#""addressType":"IPv4","ports":[{"port":80},{"name":"n"},{}],"endpoints":[{"addresses":["1","2"]},{"addresses":["3","4"]}]"#,
                "x | IPv4 | 80,n,* | 1,2,3 + 1 more... | 90m",
            ),
            (r#""addressType":"IPv4""#, "x | IPv4 | <unset> | <unset> | 90m"),
        ],
    );
    check(
        "networking.k8s.io",
        "Ingress",
        &[
            (r#""spec":{}"#, "x | <none> | * |  | 80 | 90m"),
            (
                r#""spec":{"ingressClassName":"c","tls":[{}],"rules":[{"host":"a"},{"host":"b"},{"host":"c"},{"host":"d"}]},"status":{"loadBalancer":{"ingress":[{"ip":"1.1.1.1"}]}}"#,
                "x | c | a,b,c + 1 more... | 1.1.1.1 | 80, 443 | 90m",
            ),
        ],
    );
    check(
        "networking.k8s.io",
        "IngressClass",
        &[(r#""spec":{"controller":"c","parameters":{"apiGroup":"g","kind":"K","name":"n"}}"#, "x | c | K.g/n | 90m")],
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        &[
            (r#""spec":{"podSelector":{}}"#, "x | <none> | 90m"),
            (r#""spec":{"podSelector":{"matchLabels":{"a":"b"}}}"#, "x | a=b | 90m"),
        ],
    );
    check(
        "networking.k8s.io",
        "IPAddress",
        &[(r#""spec":{"parentRef":{"resource":"services","namespace":"n","name":"s"}}"#, "x | services/n/s")],
    );
}

#[test]
fn nodes_and_volumes() {
    let node = r#""spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"1.2.3.4"}],"nodeInfo":{"kubeletVersion":"v1.36.0","kernelVersion":"6.1","architecture":"amd64"}}"#;
    check(
        "",
        "Node",
        &[(
            node,
            "x | Ready,SchedulingDisabled | <none> | 90m | v1.36.0 | 1.2.3.4 | <none> | <unknown> | 6.1 (amd64) | <unknown>",
        )],
    );
    let labelled = json::parse(br#"{"metadata":{"name":"n","labels":{"node-role.kubernetes.io/worker":"","node-role.kubernetes.io/control-plane":"","kubernetes.io/role":"worker"}}}"#).unwrap();
    let row = table::row(table::columns("", "Node"), &labelled, now());
    assert_eq!(row[1..4], [Value::from("Unknown"), "control-plane,worker".into(), "<unknown>".into()]);
    check(
        "",
        "PersistentVolume",
        &[(
            r#""spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteMany","ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Retain","claimRef":{"namespace":"n","name":"c"},"storageClassName":"s","volumeMode":"Filesystem"},"status":{"phase":"Bound"}"#,
            "x | 1Gi | RWO,RWX | Retain | Bound | n/c | s | <unset> |  | 90m | Filesystem",
        )],
    );
    check(
        "",
        "PersistentVolumeClaim",
        &[
            (
                r#""spec":{"storageClassName":"s"},"status":{"phase":"Pending"}"#,
                "x | Pending |  |  |  | s | <unset> | 90m | <unset>",
            ),
            (
                r#""spec":{"volumeName":"v"},"status":{"phase":"Bound","capacity":{"storage":"2Gi"},"accessModes":["ReadWriteOncePod"]}"#,
                "x | Bound | v | 2Gi | RWOP |  | <unset> | 90m | <unset>",
            ),
        ],
    );
    check("storage.k8s.io", "StorageClass", &[(r#""provisioner":"p""#, "x | p | Delete | Immediate | false | 90m")]);
    check(
        "storage.k8s.io",
        "CSIDriver",
        &[(
            r#""spec":{"attachRequired":false,"tokenRequests":[{"audience":"a"}],"volumeLifecycleModes":["Ephemeral"]}"#,
            "x | false | false | false | a | false | Ephemeral | 90m",
        )],
    );
}

#[test]
fn the_rest() {
    check(
        "",
        "Event",
        &[
            (
                r#""lastTimestamp":"2026-01-01T01:29:00Z","firstTimestamp":"2026-01-01T01:20:00Z","count":4,"type":"Warning","reason":"R","message":" m\n","involvedObject":{"kind":"Pod","name":"p","fieldPath":"f"},"source":{"component":"kubelet","host":"n"}"#,
                "60s | Warning | R | pod/p | f | kubelet, n | m | 10m | 4 | x",
            ),
            (
                r#""eventTime":"2026-01-01T01:29:00.000000Z","type":"Normal","involvedObject":{"kind":"Node"},"reportingComponent":"c""#,
                "60s | Normal |  | node |  | c |  | 60s | 1 | x",
            ),
        ],
    );
    check(
        "events.k8s.io",
        "Event",
        &[(
            r#""eventTime":"2026-01-01T01:29:00.000000Z","series":{"count":7,"lastObservedTime":"2026-01-01T01:29:30.000000Z"},"note":"n","regarding":{"kind":"Pod","name":"p"},"reportingController":"c","reportingInstance":"i""#,
            "30s |  |  | pod/p |  | c, i | n | 60s | 7 | x",
        )],
    );
    check("", "ConfigMap", &[(r#""data":{"a":"1"},"binaryData":{"b":"","c":""}"#, "x | 3 | 90m")]);
    check("", "Secret", &[(r#""type":"Opaque","data":{"a":""}"#, "x | Opaque | 1 | 90m")]);
    check(
        "",
        "ResourceQuota",
        &[(
            r#""status":{"hard":{"pods":"10","limits.cpu":"2","cpu":"1"},"used":{"pods":"3","cpu":"500m"}}"#,
            "x | cpu: 500m/1, pods: 3/10 | limits.cpu: 0/2 | 90m",
        )],
    );
    check("", "LimitRange", &[("", "x | 2026-01-01T00:00:00Z")]);
    check("rbac.authorization.k8s.io", "Role", &[("", "x | 2026-01-01T00:00:00Z")]);
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        &[(
            r#""roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"},{"kind":"User","name":"v"},{"kind":"ServiceAccount","namespace":"n","name":"s"}]"#,
            "x | Role/r | 90m | u, v |  | n/s",
        )],
    );
    check(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &[(
            r#""spec":{"signerName":"s","username":"u","expirationSeconds":86400},"status":{"certificate":"eA==","conditions":[{"type":"Approved"}]}"#,
            "x | 90m | s | u | 24h | Approved,Issued",
        )],
    );
    check(
        "apiregistration.k8s.io",
        "APIService",
        &[
            (
                r#""spec":{},"status":{"conditions":[{"type":"Available","status":"True","reason":"Local"}]}"#,
                "x | Local | True | 90m",
            ),
            (
                r#""spec":{"service":{"namespace":"n","name":"s"}},"status":{"conditions":[{"type":"Available","status":"False","reason":"Gone"}]}"#,
                "x | n/s | False (Gone) | 90m",
            ),
        ],
    );
    check(
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        &[(
            r#""spec":{"type":"Limited","limited":{"nominalConcurrencyShares":30,"limitResponse":{"type":"Reject"}}}"#,
            "x | Limited | 30 | <none> | <none> | <none> | 90m",
        )],
    );
    check(
        "resource.k8s.io",
        "ResourceClaim",
        &[
            ("", "x | pending | 90m"),
            (r#""status":{"allocation":{},"reservedFor":[{}]}"#, "x | allocated,reserved | 90m"),
        ],
    );
    check(
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicyBinding",
        &[(r#""spec":{"policyName":"p","paramRef":{"name":"n"}}"#, "x | p | */n | 90m")],
    );
    check("coordination.k8s.io", "Lease", &[(r#""spec":{"holderIdentity":"h"}"#, "x | h | 90m")]);
}

#[test]
fn every_kind_has_one_cell_per_column() {
    for resource in ResourceTable::builtin().resources() {
        let columns = table::columns(&resource.kind.group, &resource.kind.kind);
        let empty = table::row(columns, &Value::object(), now());
        assert_eq!(empty.len(), columns.len());
        let mut names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        assert!(names.contains(&"Name"), "{}", resource.plural);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), columns.len(), "{}", resource.plural);
    }
}

#[test]
fn custom_resources_have_the_columns_they_state() {
    let definitions = json::parse(
        br#"[{"name":"Replicas","type":"integer","jsonPath":".spec.n"},{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","priority":1},
            {"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"},{"name":"Missing","type":"string","jsonPath":".x"},{"name":"List","type":"string","jsonPath":".spec.list"}]"#,
    )
    .unwrap();
    let columns = table::custom_columns(definitions.as_array().unwrap()).unwrap();
    let object = json::parse(
        format!(
            r#"{{{META},"spec":{{"n":3,"list":["a"]}},"status":{{"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
        )
        .as_bytes(),
    )
    .unwrap();
    let row = Value::Array(table::row(&columns, &object, now()));
    assert_eq!(row.to_string(), r#"["x",3,"True","90m",null,"[\"a\"]"]"#);
    assert_eq!(
        columns[2].definition().to_string(),
        r#"{"name":"Ready","type":"string","format":"","description":"Custom resource definition column (in JSONPath format): .status.conditions[?(@.type==\"Ready\")].status","priority":1}"#
    );
    let bad = json::parse(br#"[{"name":"a","type":"string","jsonPath":"spec"}]"#).unwrap();
    assert_eq!(
        table::custom_columns(bad.as_array().unwrap()).unwrap_err().to_string(),
        "unrecognized column definition \"spec\""
    );
    let none = table::custom_columns(&[]).unwrap();
    assert_eq!(none.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["Name", "Age"]);
}
