//! Versions of a kind: which differ, and that nothing a client said is lost on the way to the stored version and back.

use std::collections::BTreeSet;

use api::{
    Model, Resource, ResourceTable, Value, json,
    model::{Shape, TypeId},
};

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn resource(group: &str, version: &str, plural: &str) -> &'static Resource {
    ResourceTable::builtin().find(group, version, plural).unwrap_or_else(|| panic!("{group}/{version} {plural}"))
}

fn stored(resource: &Resource, mut object: Value) -> Value {
    resource.to_stored(&mut object);
    object
}

fn served(resource: &Resource, mut object: Value) -> Value {
    resource.from_stored(&mut object);
    object
}

/// Whether two types have the same members of the same shapes, all the way down.
fn is_same(one: TypeId, other: TypeId, seen: &mut BTreeSet<(TypeId, TypeId)>) -> bool {
    let model = Model::builtin();
    let (a, b) = (model.get(one), model.get(other));
    fn shapes(a: &Shape, b: &Shape, seen: &mut BTreeSet<(TypeId, TypeId)>) -> bool {
        match (a, b) {
            (Shape::Type(a), Shape::Type(b)) => is_same(*a, *b, seen),
            (Shape::List(a), Shape::List(b)) | (Shape::Map(a), Shape::Map(b)) => shapes(a, b, seen),
            _ => a == b,
        }
    }
    one == other
        || !seen.insert((one, other))
        || a.fields.len() == b.fields.len()
            && a.fields.iter().zip(&b.fields).all(|(a, b)| a.name == b.name && shapes(&a.shape, &b.shape, seen))
}

#[test]
fn versions_with_another_schema_have_a_conversion_and_no_others() {
    let table = ResourceTable::builtin();
    let mut converted = Vec::new();
    for entry in table.resources().filter(|entry| entry.is_stored()) {
        let stored = table.storage_version(entry).unwrap_or_else(|| panic!("{:?} is stored as nothing", entry.kind));
        assert!(stored.is_storage_version() && stored.storage == entry.storage, "{:?}", entry.kind);
        let same = is_same(entry.ty, stored.ty, &mut BTreeSet::new());
        assert_eq!(entry.conversion.is_none(), same, "{:?} stored as {:?}", entry.kind, stored.kind);
        if !same {
            converted.push(format!("{} {}", entry.api_version(), entry.kind.kind));
        }
    }
    let expected = [
        "events.k8s.io/v1 Event",
        "autoscaling/v1 HorizontalPodAutoscaler",
        "resource.k8s.io/v1beta1 ResourceClaim",
        "resource.k8s.io/v1beta1 ResourceClaimTemplate",
        "resource.k8s.io/v1beta1 ResourceSlice",
    ];
    assert_eq!(converted, expected);
}

#[test]
fn objects_are_stored_as_upstream_stores_them() {
    // Where it is not the version that clients prefer; discovery publishes a hash of it.
    for (group, version, plural, expected) in [
        ("events.k8s.io", "v1", "events", "v1"),
        ("autoscaling", "v1", "horizontalpodautoscalers", "autoscaling/v2"),
        ("resource.k8s.io", "v1beta1", "resourceclaims", "resource.k8s.io/v1"),
        ("resource.k8s.io", "v1beta2", "resourceclaims", "resource.k8s.io/v1"),
        ("resource.k8s.io", "v1beta2", "devicetaintrules", "resource.k8s.io/v1alpha3"),
        ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "admissionregistration.k8s.io/v1beta1"),
        (
            "admissionregistration.k8s.io",
            "v1alpha1",
            "mutatingadmissionpolicybindings",
            "admissionregistration.k8s.io/v1beta1",
        ),
        ("certificates.k8s.io", "v1alpha1", "clustertrustbundles", "certificates.k8s.io/v1beta1"),
        ("coordination.k8s.io", "v1alpha2", "leasecandidates", "coordination.k8s.io/v1beta1"),
        ("networking.k8s.io", "v1beta1", "ipaddresses", "networking.k8s.io/v1"),
        ("storage.k8s.io", "v1beta1", "volumeattributesclasses", "storage.k8s.io/v1"),
    ] {
        let entry = resource(group, version, plural);
        assert_eq!(entry.stored_as.api_version(), expected, "{group}/{version} {plural}");
        let object = stored(entry, parse(r#"{"metadata":{"name":"a"}}"#));
        assert_eq!(object.str_at(&["apiVersion"]), expected);
        assert_eq!(served(entry, object).str_at(&["apiVersion"]), entry.kind.api_version());
    }
}

#[test]
fn discovery_publishes_upstreams_hashes_of_the_stored_versions() {
    for (group, version, plural, expected) in [
        ("", "v1", "pods", "xPOwRZ+Yhw8="),
        ("events.k8s.io", "v1", "events", "r2yiGXH7wu8="),
        ("autoscaling", "v1", "horizontalpodautoscalers", "qwQve8ut294="),
        ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "LYmCf+UMVdg="),
        ("resource.k8s.io", "v1beta2", "devicetaintrules", "DJ3UJ0fj8MI="),
    ] {
        let document = api::discovery::resources(ResourceTable::builtin(), group, version).unwrap();
        let entries = document.get("resources").and_then(Value::as_array).unwrap();
        let entry = entries.iter().find(|entry| entry.str_at(&["name"]) == plural).unwrap();
        assert_eq!(entry.str_at(&["storageVersionHash"]), expected, "{group}/{version} {plural}");
    }
}

/// A value with everything that its type has, no two texts or numbers the same.
fn full(shape: &Shape, path: &str, count: &mut i64) -> Value {
    *count += 1;
    match shape {
        Shape::Type(id) => {
            let ty = Model::builtin().get(*id);
            if let Some(scalar) = &ty.scalar {
                return full(scalar, path, count);
            }
            // Metadata is the same everywhere.
            if &*ty.name == "meta.v1.ObjectMeta" {
                return parse(r#"{"name":"a","annotations":{"k":"v"}}"#);
            }
            let mut object = Value::object();
            for field in &ty.fields {
                object.set(&[&*field.name], full(&field.shape, &format!("{path}.{}", field.name), count));
            }
            object
        }
        Shape::List(item) => vec![full(item, path, count), full(item, &format!("{path}2"), count)].into(),
        Shape::Map(item) => {
            let mut map = Value::object();
            map.set(&["k"], full(item, path, count));
            map
        }
        Shape::Bool => true.into(),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => (*count).into(),
        _ => path.into(),
    }
}

#[test]
fn all_that_there_is_survives_both_ways() {
    for (group, version, plural) in [
        ("events.k8s.io", "v1", "events"),
        ("resource.k8s.io", "v1beta1", "resourceclaims"),
        ("resource.k8s.io", "v1beta1", "resourceclaimtemplates"),
        ("resource.k8s.io", "v1beta1", "resourceslices"),
    ] {
        let entry = resource(group, version, plural);
        let hub = ResourceTable::builtin().storage_version(entry).unwrap();
        let mut own = full(&Shape::Type(entry.ty), "", &mut 0);
        own.set(&["apiVersion"], entry.kind.api_version());
        own.set(&["kind"], &*entry.kind.kind);
        let there = stored(entry, own.clone());
        assert_ne!(there, own);
        assert_eq!(served(entry, there), own, "{plural}");
        let mut hubs = full(&Shape::Type(hub.ty), "", &mut 0);
        hubs.set(&["apiVersion"], hub.kind.api_version());
        hubs.set(&["kind"], &*hub.kind.kind);
        assert_eq!(stored(entry, served(entry, hubs.clone())), hubs, "{plural}");
    }
}

/// What a client of a version says, and what is stored; each follows from the other.
const PAIRS: &[(&str, &str, &str)] = &[
    (
        "events.k8s.io/v1/events",
        r#"{"regarding":{"kind":"Pod","namespace":"a"},"note":"n","deprecatedSource":{"component":"c"},"deprecatedFirstTimestamp":"2026-05-04T03:02:01Z","deprecatedLastTimestamp":"2026-05-04T03:02:02Z","deprecatedCount":3,"reportingController":"r","reportingInstance":"i","series":{"count":2,"lastObservedTime":"2026-05-04T03:02:01.000005Z"},"type":"Normal"}"#,
        r#"{"involvedObject":{"kind":"Pod","namespace":"a"},"message":"n","source":{"component":"c"},"firstTimestamp":"2026-05-04T03:02:01Z","lastTimestamp":"2026-05-04T03:02:02Z","count":3,"reportingComponent":"r","reportingInstance":"i","series":{"count":2,"lastObservedTime":"2026-05-04T03:02:01.000005Z"},"type":"Normal"}"#,
    ),
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"metadata":{"annotations":{"own":"x"}},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":50},"status":{"currentReplicas":1}}"#,
        r#"{"metadata":{"annotations":{"own":"x"}},"spec":{"maxReplicas":3,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}]},"status":{"currentReplicas":1}}"#,
    ),
    // Of the metrics v1 has a field for one; the text is byte for byte what Go writes.
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/metrics":"[{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"Service\",\"name\":\"s\"},\"metricName\":\"m\",\"targetValue\":\"0\",\"averageValue\":\"7\"}},{\"type\":\"Pods\",\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":\"8\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}},{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\"targetAverageValue\":\"9Mi\"}},{\"type\":\"ContainerResource\",\"containerResource\":{\"name\":\"cpu\",\"targetAverageUtilization\":10,\"container\":\"c\"}},{\"type\":\"External\",\"external\":{\"metricName\":\"m\",\"metricSelector\":{\"matchLabels\":{\"a\":\"b\"}},\"targetValue\":\"11\"}}]"}},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":50}}"#,
        r#"{"metadata":{},"spec":{"maxReplicas":3,"metrics":[{"type":"Object","object":{"describedObject":{"kind":"Service","name":"s"},"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"7"}}},{"type":"Pods","pods":{"metric":{"name":"m","selector":{"matchLabels":{"a":"b"}}},"target":{"type":"AverageValue","averageValue":"8"}}},{"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"9Mi"}}},{"type":"ContainerResource","containerResource":{"name":"cpu","container":"c","target":{"type":"Utilization","averageUtilization":10}}},{"type":"External","external":{"metric":{"name":"m","selector":{"matchLabels":{"a":"b"}}},"target":{"type":"Value","value":"11"}}},{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}]}}"#,
    ),
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/behavior":"{\"ScaleUp\":{\"StabilizationWindowSeconds\":0,\"SelectPolicy\":\"Max\",\"Policies\":[{\"Type\":\"Pods\",\"Value\":4,\"PeriodSeconds\":15}],\"Tolerance\":\"100m\"},\"ScaleDown\":null}","autoscaling.alpha.kubernetes.io/conditions":"[{\"type\":\"AbleToScale\",\"status\":\"True\",\"lastTransitionTime\":\"2026-05-04T03:02:01Z\",\"reason\":\"r\",\"message\":\"m\"}]","autoscaling.alpha.kubernetes.io/current-metrics":"[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"currentAverageUtilization\":40,\"currentAverageValue\":\"4m\"}},{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"Service\",\"name\":\"s\"},\"metricName\":\"m\",\"currentValue\":\"5\"}}]"}},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":80},"status":{"currentReplicas":1,"currentCPUUtilizationPercentage":40}}"#,
        r#"{"metadata":{},"spec":{"maxReplicas":3,"behavior":{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":4,"periodSeconds":15}],"tolerance":"100m"}},"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]},"status":{"currentReplicas":1,"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":40,"averageValue":"4m"}}},{"type":"Object","object":{"describedObject":{"kind":"Service","name":"s"},"metric":{"name":"m"},"current":{"value":"5"}}}],"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-05-04T03:02:01Z","reason":"r","message":"m"}]}}"#,
    ),
    (
        "resource.k8s.io/v1beta1/resourceclaims",
        r#"{"spec":{"devices":{"requests":[{"name":"r","deviceClassName":"c","allocationMode":"ExactCount","count":1},{"name":"q","firstAvailable":[{"name":"s","deviceClassName":"c"}]}]}}}"#,
        r#"{"spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}},{"name":"q","firstAvailable":[{"name":"s","deviceClassName":"c"}]}]}}}"#,
    ),
    (
        "resource.k8s.io/v1beta1/resourceclaimtemplates",
        r#"{"spec":{"spec":{"devices":{"requests":[{"name":"r","deviceClassName":"c","adminAccess":false}]}}}}"#,
        r#"{"spec":{"spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","adminAccess":false}}]}}}}"#,
    ),
    (
        "resource.k8s.io/v1beta1/resourceslices",
        r#"{"spec":{"driver":"d","nodeName":"n","devices":[{"name":"d","basic":{"attributes":{"a":{"int":1}},"taints":[{"key":"k"}]}},{"name":"e","basic":{}}]}}"#,
        r#"{"spec":{"driver":"d","nodeName":"n","devices":[{"name":"d","attributes":{"a":{"int":1}},"taints":[{"key":"k"}]},{"name":"e"}]}}"#,
    ),
];

/// What is stored cannot always tell how it was said.
const ONE_WAY: &[(&str, &str, &str)] = &[
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"spec":{"maxReplicas":3}}"#,
        r#"{"spec":{"maxReplicas":3,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]}}"#,
    ),
    // Annotations that make no sense say nothing, and go.
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/metrics":"[7]","autoscaling.alpha.kubernetes.io/behavior":"{","autoscaling.alpha.kubernetes.io/conditions":"[{\"type\":[]}]","autoscaling.alpha.kubernetes.io/current-metrics":"{}"}},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":1}}"#,
        r#"{"metadata":{},"spec":{"maxReplicas":3,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":1}}}]}}"#,
    ),
    (
        "autoscaling/v1/horizontalpodautoscalers",
        r#"{"status":{"currentCPUUtilizationPercentage":7},"spec":{"targetCPUUtilizationPercentage":1}}"#,
        r#"{"status":{"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":7}}}]},"spec":{"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":1}}}]}}"#,
    ),
    (
        "resource.k8s.io/v1beta1/resourceclaims",
        r#"{"spec":{"devices":{"requests":[{"name":"r","deviceClassName":"","count":0}]}}}"#,
        r#"{"spec":{"devices":{"requests":[{"name":"r"}]}}}"#,
    ),
    (
        "resource.k8s.io/v1beta1/resourceslices",
        r#"{"spec":{"driver":"d","nodeName":"","allNodes":false,"devices":[{"name":"d"}]}}"#,
        r#"{"spec":{"driver":"d","devices":[{"name":"d"}]}}"#,
    ),
];

fn entry(place: &str) -> &'static Resource {
    let [group, version, plural] = place.split('/').collect::<Vec<_>>()[..] else { panic!("{place}") };
    resource(group, version, plural)
}

fn as_stored(place: &str, text: &str) -> Value {
    let mut object = stored(entry(place), parse(text));
    object.take(&["kind"]);
    object.take(&["apiVersion"]);
    object
}

#[test]
fn what_is_said_in_one_version_is_read_in_the_other() {
    for (place, own, expected) in PAIRS {
        assert_eq!(as_stored(place, own), parse(expected), "{own}");
        let mut back = served(entry(place), parse(expected));
        back.take(&["kind"]);
        back.take(&["apiVersion"]);
        assert_eq!(back, parse(own), "{expected}");
    }
    for (place, own, expected) in ONE_WAY {
        assert_eq!(as_stored(place, own), parse(expected), "{own}");
    }
}

#[test]
fn hostile_shapes_are_left_as_they_are() {
    for entry in ResourceTable::builtin().resources().filter(|entry| entry.conversion.is_some()) {
        for text in [
            "7",
            "[]",
            "{}",
            r#"{"metadata":7,"spec":[],"status":"x"}"#,
            r#"{"metadata":{"annotations":[]},"spec":{"devices":{"requests":[7,null]},"metrics":{"a":1}}}"#,
            r#"{"metadata":{"annotations":null},"spec":{"devices":[null,[]],"metrics":[7,null]}}"#,
        ] {
            stored(entry, parse(text));
            served(entry, parse(text));
        }
    }
}

#[test]
fn selectors_name_fields_as_their_version_does() {
    let events = resource("events.k8s.io", "v1", "events").conversion.unwrap();
    assert_eq!(events.field_label("regarding.name"), Some("involvedObject.name"));
    assert_eq!(events.field_label("reportingController"), Some("reportingComponent"));
    assert_eq!(events.field_label("involvedObject.name"), None);
    assert_eq!(events.field_label("source"), None);
    let claims = resource("resource.k8s.io", "v1beta1", "resourceclaims").conversion.unwrap();
    assert_eq!(claims.field_label("spec.nodeName"), Some("spec.nodeName"));
}
