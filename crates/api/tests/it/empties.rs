//! What upstream's JSON always has, be it empty: structs, and fields without `omitempty`.

use api::{
    Model, Value,
    decode::{self, Defaults},
    json, protobuf,
};

fn decoded(kind: &str, mut object: Value) -> Value {
    let model = Model::builtin();
    decode::decode(model, model.find(kind).unwrap(), &mut object, Defaults::On).unwrap();
    object
}

fn read(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

/// `(type, what a client sends, what stands there then)`; the last is what Go's encoder writes of the same, after defaults.
const SAMPLES: &[(&str, &str, &str)] = &[
    (
        "resource.v1.ResourceClaim",
        r#"{"metadata":{"name":"c"}}"#,
        r#"{"metadata":{"name":"c"},"spec":{"devices":{"requests":null}},"status":{}}"#,
    ),
    ("rbac.v1.ClusterRole", "{}", r#"{"metadata":{},"rules":null}"#),
    ("rbac.v1.ClusterRole", r#"{"rules":[]}"#, r#"{"metadata":{},"rules":null}"#),
    ("rbac.v1.PolicyRule", r#"{"verbs":null}"#, r#"{"verbs":null}"#),
    ("core.v1.ServiceAccount", r#"{"metadata":null}"#, r#"{"metadata":{}}"#),
    (
        "core.v1.ContainerStatus",
        "{}",
        r#"{"name":"","state":{},"lastState":{},"ready":false,"restartCount":0,"image":"","imageID":""}"#,
    ),
    (
        "core.v1.PodCondition",
        r#"{"type":"Ready","status":"True"}"#,
        r#"{"type":"Ready","status":"True","lastProbeTime":null,"lastTransitionTime":null}"#,
    ),
    ("core.v1.ResourceFieldSelector", r#"{"resource":"limits.cpu"}"#, r#"{"resource":"limits.cpu","divisor":"0"}"#),
    ("core.v1.TypedLocalObjectReference", r#"{"name":"n"}"#, r#"{"apiGroup":null,"kind":"","name":"n"}"#),
    (
        "core.v1.PersistentVolumeClaim",
        "{}",
        r#"{"metadata":{},"spec":{"resources":{},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}"#,
    ),
    (
        "core.v1.NodeStatus",
        "{}",
        r#"{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}"#,
    ),
    (
        "apps.v1.DaemonSetStatus",
        "{}",
        r#"{"currentNumberScheduled":0,"numberMisscheduled":0,"desiredNumberScheduled":0,"numberReady":0}"#,
    ),
    ("autoscaling.v2.HorizontalPodAutoscalerStatus", "{}", r#"{"desiredReplicas":0,"currentMetrics":null}"#),
    // Behind a pointer, and with `omitempty`, nothing is added.
    ("networking.v1.IngressRule", r#"{"host":"h"}"#, r#"{"host":"h"}"#),
    ("networking.v1.ParentReference", "{}", "{}"),
    ("meta.v1.ObjectMeta", "{}", "{}"),
    (
        "apiextensions.v1.CustomResourceDefinitionStatus",
        "{}",
        r#"{"acceptedNames":{"plural":"","kind":""},"conditions":null,"storedVersions":null}"#,
    ),
];

#[test]
fn what_is_never_left_out_is_there() {
    for (kind, sent, expected) in SAMPLES {
        assert_eq!(decoded(kind, read(sent)), read(expected), "{kind} {sent}");
    }
}

/// No type holds itself by value, a second reading adds nothing, and a message carries the same.
#[test]
fn every_type_is_complete_after_one_reading() {
    let model = Model::builtin();
    for (id, ty) in model.types().filter(|(_, ty)| !ty.wire_only && ty.scalar.is_none()) {
        let complete = decoded(&ty.name, Value::object());
        assert_eq!(decoded(&ty.name, complete.clone()), complete, "{}", ty.name);
        let Some(gvk) = &ty.kind else { continue };
        let message = protobuf::message(model, id, &complete).unwrap();
        let envelope = protobuf::envelope(&gvk.api_version(), &gvk.kind, &message);
        let mut read = protobuf::decode(model, Some(id), &envelope).unwrap();
        for name in ["kind", "apiVersion"] {
            read.take(&[name]);
        }
        assert_eq!(decoded(&ty.name, read), complete, "{}", ty.name);
    }
}

#[test]
fn patches_and_applied_configurations_stay_as_they_are() {
    let model = Model::builtin();
    let mut object = read(r#"{"spec":{"template":{}}}"#);
    decode::decode(model, model.find("apps.v1.Deployment").unwrap(), &mut object, Defaults::Off).unwrap();
    assert_eq!(object, read(r#"{"spec":{"template":{}}}"#));
}

#[test]
fn a_status_that_says_nothing_has_its_defaults() {
    let model = Model::builtin();
    let status = |kind: &str| decode::unsaid(model, model.find(kind).unwrap(), "status");
    assert_eq!(status("core.v1.PersistentVolumeClaim"), Some(read(r#"{"phase":"Pending"}"#)));
    assert_eq!(status("apps.v1.StatefulSet"), Some(read(r#"{"replicas":0,"availableReplicas":0}"#)));
    assert_eq!(status("core.v1.ConfigMap"), None);
}
