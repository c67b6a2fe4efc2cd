//! What every cluster starts with: namespaces, the `kubernetes` Service, priority classes, and upstream's default roles.
//! Roles and bindings are reconciled at each start, as upstream does: what is missing is added, nothing is taken away.

mod policy;

use std::sync::Arc;

use api::{
    ResourceTable, Status, Value,
    decode::{self, Defaults},
    json,
    model::Gvk,
    status::Reason,
};
use http::HeaderMap;
use jiff::Timestamp;

use crate::{
    Server,
    auth::UserInfo,
    negotiate::{Accept, Form, Format},
    request::{Query, RequestInfo},
    rest::{Call, Change, Scope},
};

const OBJECTS: &str = include_str!("bootstrap/objects.yaml");

/// Roles with this annotation set to false are left as they are.
const AUTOUPDATE: [&str; 3] = ["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"];

pub(crate) async fn run(server: &Arc<Server>) -> Result<(), Status> {
    for object in documents(OBJECTS)?.into_iter().chain(addresses(server)).chain([token_tracking(server.clock.now())]) {
        ensure(server, object, false).await?;
    }
    ensure(server, authentication(server), true).await?;
    for object in policy::builtin()? {
        ensure(server, object, true).await?;
    }
    Ok(())
}

fn documents(text: &str) -> Result<Vec<Value>, Status> {
    let trees: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(Status::internal)?;
    trees.iter().map(|tree| json::parse(tree.to_string().as_bytes()).map_err(Status::internal)).collect()
}

/// The `kubernetes` Service with its endpoints, and the range of service addresses.
fn addresses(server: &Server) -> Vec<Value> {
    let config = &server.config;
    let range = config.service_cluster_ip_range;
    let texts = [
        serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [format!("{}/{}", range.network(), range.prefix)]},
        }),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": range.address_at(1), "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}],
            },
        }),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": config.advertise_address}], "ports": [{"name": "https", "port": config.secure_port, "protocol": "TCP"}]}],
        }),
        serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [config.advertise_address], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": config.secure_port, "protocol": "TCP"}],
        }),
    ];
    // No endpoint may have the address of a loopback: a machine without a network has none.
    let places = if config.advertise_address.is_loopback() { 2 } else { texts.len() };
    texts[..places].iter().filter_map(|text| json::parse(text.to_string().as_bytes()).ok()).collect()
}

/// How requests are authenticated, for API servers behind this one and for components that authenticate as it does
/// (upstream pkg/controlplane/controller/clusterauthenticationtrust).
fn authentication(server: &Server) -> Value {
    let mut object = system_config_map("extension-apiserver-authentication");
    if let Some(authorities) = &server.config.client_ca {
        object.set(&["data", "client-ca-file"], authorities.as_str());
    }
    object
}

/// Since when the use of tokens that stand in Secrets is recorded (upstream pkg/controlplane/controller/legacytokentracking):
/// without it the controller manager does not collect those that nobody uses.
fn token_tracking(now: Timestamp) -> Value {
    let mut object = system_config_map("kube-apiserver-legacy-service-account-token-tracking");
    object.set(&["data", "since"], now.strftime("%Y-%m-%d").to_string());
    object
}

fn system_config_map(name: &str) -> Value {
    let mut object = Value::object();
    object.set(&["apiVersion"], "v1");
    object.set(&["kind"], "ConfigMap");
    object.set(&["metadata", "namespace"], "kube-system");
    object.set(&["metadata", "name"], name);
    object
}

/// Creates `object` where it is missing; where `reconcile` says so, or it says where this server is, completes it.
async fn ensure(server: &Arc<Server>, mut object: Value, reconcile: bool) -> Result<(), Status> {
    let gvk = Gvk::of(object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
    // It is there whether it is served or not.
    let resource = ResourceTable::builtin()
        .by_kind(&gvk)
        .cloned()
        .ok_or_else(|| Status::internal(format!("no resource for {gvk:?}")))?;
    decode::decode(server.model, resource.ty, &mut object, Defaults::On).map_err(Status::internal)?;
    let user = UserInfo::apiserver();
    let (namespace, name) =
        (object.str_at(&["metadata", "namespace"]).to_owned(), object.str_at(&["metadata", "name"]).to_owned());
    let key = resource.object_key(&namespace, &name);
    let present = server.cache.shelf(&resource).and_then(|shelf| shelf.get(&key));
    if present.is_some() {
        if !reconcile && !matches!(&*resource.plural, "endpoints" | "endpointslices") {
            return Ok(());
        }
        let change = Change {
            server,
            resource: ResourceTable::hub(&resource),
            served: &resource,
            subresource: "",
            namespace: &namespace,
            name: &name,
            user: &user,
            dry_run: false,
            manager: Some(crate::rest::management::SERVER),
        };
        change.run(Scope::Main, |before| Ok(completed(before, &object))).await?;
        return Ok(());
    }
    let info = RequestInfo {
        is_resource: true,
        verb: "create",
        group: gvk.group.into(),
        version: gvk.version.into(),
        namespace,
        resource: resource.plural.to_string(),
        ..RequestInfo::default()
    };
    let call = Call {
        server,
        info: &info,
        query: &Query::default(),
        headers: &HeaderMap::new(),
        user: &user,
        resource,
        accept: Accept { format: Format::Json, form: Form::Object, pretty: false },
        body: Default::default(),
    };
    call.own_new(&mut object, crate::rest::management::SERVER);
    match call.create_object(object, false, &mut Vec::new()).await {
        Err(status) if status.reason != Reason::AlreadyExists => Err(status),
        _ => Ok(()),
    }
}

/// `before` with what `wanted` has and it lacks: rules and subjects of roles, the addresses of endpoints.
fn completed(before: &Value, wanted: &Value) -> Value {
    let mut object = before.clone();
    if before.at(&AUTOUPDATE).and_then(Value::as_str) == Some("false") {
        return object;
    }
    for name in ["rules", "subjects"] {
        let Some(Value::Array(list)) = wanted.get(name) else { continue };
        let Some(map) = object.as_object_mut() else { continue };
        let Some(have) = map.entry_or_insert_with(name, || Value::Array(Vec::new())).as_array_mut() else { continue };
        for entry in list {
            if !have.contains(entry) {
                have.push(entry.clone());
            }
        }
    }
    for name in ["subsets", "endpoints", "ports", "aggregationRule"] {
        if let Some(value) = wanted.get(name) {
            object.set(&[name], value.clone());
        }
    }
    for path in [&["metadata", "labels"][..], &["metadata", "annotations"], &["data"]] {
        for (key, value) in wanted.at(path).and_then(Value::as_object).into_iter().flat_map(|map| map.iter()) {
            object.set(&[path, &[key]].concat(), value.clone());
        }
    }
    object
}
