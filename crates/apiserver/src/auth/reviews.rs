//! Reviews: questions about identity and permission that are answered and not kept; and the token subresource.

use api::{
    Status, Value,
    decode::{self, Defaults},
    status::FieldError,
};
use http::StatusCode;

use super::{
    Attributes, Decision, UserInfo,
    rbac::Rule,
    tokens::{Reference, Request},
};
use crate::{
    negotiate::{self, Form},
    rest::{Answer, Call, partial, respond_json},
    strategy,
};

/// Answers a create of a kind that is not stored.
pub(crate) async fn review(call: &Call<'_>, mut object: Value) -> Answer {
    let errors = strategy::of(&call.resource).validate(&call.resource, &object);
    if !errors.is_empty() {
        return Err(Status::invalid(&call.resource.group, &call.resource.kind.kind, "", errors));
    }
    match &*call.resource.plural {
        "subjectaccessreviews" | "localsubjectaccessreviews" => subject_access(call, &mut object, None).await?,
        "selfsubjectaccessreviews" => subject_access(call, &mut object, Some(call.user)).await?,
        "selfsubjectrulesreviews" => rules(call, &mut object),
        "selfsubjectreviews" => {
            object.set(&["status", "userInfo"], user_value(call.user));
        }
        "tokenreviews" => token_review(call, &mut object).await?,
        _ => return Err(Status::method_not_allowed()),
    }
    object.set(&["metadata", "creationTimestamp"], Value::Null);
    object.take(&["metadata", "creationTimestamp"]);
    // A client may leave out what the path says.
    if let Some(map) = object.as_object_mut() {
        map.insert_first("apiVersion", call.resource.kind.api_version());
        map.insert_first("kind", &*call.resource.kind.kind);
    }
    if call.accept.form == Form::PartialMetadata {
        object = partial(&object);
    }
    respond_json(StatusCode::CREATED, call.accept.format, object.to_json().into())
}

fn user_value(user: &UserInfo) -> Value {
    let mut value = Value::object();
    value.set(&["username"], user.name.as_str());
    if !user.uid.is_empty() {
        value.set(&["uid"], user.uid.as_str());
    }
    value.set(&["groups"], user.groups.iter().map(|group| Value::from(group.as_str())).collect::<Vec<_>>());
    for (key, values) in &user.extra {
        value.set(&["extra", key], values.iter().map(|value| Value::from(value.as_str())).collect::<Vec<_>>());
    }
    value
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `of`: the asker, or nobody where the review names its user.
async fn subject_access(call: &Call<'_>, object: &mut Value, of: Option<&UserInfo>) -> Result<(), Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let named = UserInfo {
        name: spec.str_at(&["user"]).to_owned(),
        uid: spec.str_at(&["uid"]).to_owned(),
        groups: strings(spec.get("groups")),
        extra: Default::default(),
    };
    let user = of.unwrap_or(&named);
    let text = |name: &str| resource.map(|resource| resource.str_at(&[name])).unwrap_or_default();
    let attributes = Attributes {
        user,
        verb: resource.or(path).map(|attributes| attributes.str_at(&["verb"])).unwrap_or_default(),
        is_resource: resource.is_some(),
        path: path.map(|path| path.str_at(&["path"])).unwrap_or_default(),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
    };
    let decision = call.server.authorization.authorize(&attributes).await?;
    object.set(&["status", "allowed"], decision.is_allowed());
    if matches!(decision, Decision::Deny { .. }) {
        object.set(&["status", "denied"], true);
    }
    let (Decision::Allow { reason } | Decision::Deny { reason } | Decision::NoOpinion { reason }) = decision;
    if !reason.is_empty() {
        object.set(&["status", "reason"], &*reason);
    }
    Ok(())
}

fn rules(call: &Call<'_>, object: &mut Value) {
    let namespace = object.str_at(&["spec", "namespace"]).to_owned();
    let mut rules = call.server.authorization.rbac.rules_of(call.user, &namespace);
    if call.user.in_group(super::MASTERS) {
        let all = || vec![Box::from("*")];
        rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
        rules.push(Rule { verbs: all(), urls: all(), ..Rule::default() });
    }
    let list = |values: &[Box<str>]| values.iter().map(|value| Value::from(&**value)).collect::<Vec<_>>();
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &rules {
        let mut entry = Value::object();
        entry.set(&["verbs"], list(&rule.verbs));
        if rule.urls.is_empty() {
            entry.set(&["apiGroups"], list(&rule.groups));
            entry.set(&["resources"], list(&rule.resources));
            if !rule.names.is_empty() {
                entry.set(&["resourceNames"], list(&rule.names));
            }
            resources.push(entry);
        } else {
            entry.set(&["nonResourceURLs"], list(&rule.urls));
            paths.push(entry);
        }
    }
    object.set(&["status", "resourceRules"], resources);
    object.set(&["status", "nonResourceRules"], paths);
    object.set(&["status", "incomplete"], false);
}

async fn token_review(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    let audiences = strings(object.at(&["spec", "audiences"]));
    let token = object.str_at(&["spec", "token"]).to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    object.set(&["status"], Value::object());
    match call.server.authentication.verify(&token, &audiences).await {
        Some(verified) => {
            object.set(&["status", "authenticated"], true);
            object.set(&["status", "user"], user_value(&verified.user));
            object.set(&["status", "audiences"], verified.audiences.into_iter().map(Value::from).collect::<Vec<_>>());
        }
        None => {
            object.set(&["status", "user"], Value::object());
            object.set(&["status", "error"], "invalid bearer token");
        }
    }
    Ok(())
}

/// Tokens live ten minutes at least and 2^32 seconds at most (`pkg/apis/authentication/validation`).
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
const SECONDS_DEFAULT: i64 = 3600;

/// What the request says of the account is what its path says.
fn names_the_account(object: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let said = object.str_at(&["metadata", "namespace"]);
    if !said.is_empty() && said != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    let said = object.str_at(&["metadata", "name"]);
    if !said.is_empty() && said != name {
        let error = FieldError::invalid("metadata.name", said, "must match the service account name if specified");
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![error]));
    }
    Ok(())
}

/// `serviceaccounts/NAME/token` (`pkg/registry/core/serviceaccount/storage/token.go`).
pub(crate) async fn token_request(call: Call<'_>) -> Answer {
    let mut object = negotiate::decode_body(call.headers, &call.body)?.value;
    if let Some(ty) = call.server.model.find("authentication.v1.TokenRequest") {
        decode::decode(call.server.model, ty, &mut object, Defaults::On).map_err(|error| {
            let what = "TokenRequest in version \"v1\" cannot be handled as a TokenRequest";
            Status::bad_request(format!("{what}: {error}"))
        })?;
    }
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    names_the_account(&object, namespace, name)?;
    let account = call.current().await?.tree();
    let (said, own) = (object.str_at(&["metadata", "uid"]), account.str_at(&["metadata", "uid"]));
    if !said.is_empty() && said != own {
        let why =
            format!("the UID in the token request ({said}) does not match the UID of the service account ({own})");
        return Err(Status::conflict("authentication.k8s.io", "TokenRequest", name, &why));
    }
    let tokens = &call.server.authentication.tokens;
    let mut audiences = strings(object.at(&["spec", "audiences"]));
    if audiences.is_empty() {
        audiences = tokens.default_audiences().to_vec();
    }
    let seconds = object.at(&["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(SECONDS_DEFAULT);
    let invalid = |error: FieldError| Status::invalid("authentication.k8s.io", "TokenRequest", "", vec![error]);
    if seconds < SECONDS_MIN {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 10 minutes",
        )));
    }
    if seconds > SECONDS_MAX {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )));
    }
    let mut request = Request {
        namespace,
        account: Reference { name: name.to_owned(), uid: account.str_at(&["metadata", "uid"]).to_owned() },
        pod: None,
        secret: None,
        node: None,
        audiences,
        seconds,
    };
    bind(&call, &object, &mut request)?;
    let audiences = request.audiences.clone();
    let (token, expires) = tokens.issue(request).map_err(Status::internal)?;
    object.set(&["kind"], "TokenRequest");
    object.set(&["apiVersion"], "authentication.k8s.io/v1");
    object.set(&["metadata", "name"], name);
    object.set(&["metadata", "namespace"], namespace);
    object.set(&["metadata", "uid"], account.str_at(&["metadata", "uid"]));
    object.set(&["metadata", "creationTimestamp"], api::time::format(call.server.clock.now()));
    object.set(&["spec", "audiences"], audiences.into_iter().map(Value::from).collect::<Vec<_>>());
    object.set(&["spec", "expirationSeconds"], seconds);
    object.set(&["status", "token"], token);
    let expires = jiff::Timestamp::from_second(expires).map_err(Status::internal)?;
    object.set(&["status", "expirationTimestamp"], api::time::format(expires));
    respond_json(StatusCode::CREATED, call.accept.format, object.to_json().into())
}

fn unbindable(version: &str, kind: &str) -> Status {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Status::bad_request(format!("cannot bind token to object of type {group}/{version}, Kind={kind}"))
}

/// Binds the token to the object that the request names; the object must be there and be that one.
fn bind(call: &Call<'_>, object: &Value, request: &mut Request<'_>) -> Result<(), Status> {
    let Some(bound) = object.at(&["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) else { return Ok(()) };
    let (kind, name, uid) = (bound.str_at(&["kind"]), bound.str_at(&["name"]), bound.str_at(&["uid"]));
    let version = bound.str_at(&["apiVersion"]);
    let (storage, key) = match kind {
        _ if !matches!(version, "" | "v1") => return Err(unbindable(version, kind)),
        "Pod" => ("pods", format!("{}/{name}", request.namespace)),
        "Secret" => ("secrets", format!("{}/{name}", request.namespace)),
        "Node" => ("minions", name.to_owned()),
        _ => return Err(unbindable(version, kind)),
    };
    let find = |storage: &str, key: &str| {
        call.server.cache.shelf_at(storage).and_then(|shelf| shelf.get(key)).map(|object| object.tree())
    };
    let plural = if kind == "Node" { "nodes" } else { storage };
    let target = find(storage, &key).ok_or_else(|| Status::not_found("", plural, name))?;
    let actual = target.str_at(&["metadata", "uid"]);
    if !uid.is_empty() && uid != actual {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", kind, name, &why));
    }
    let reference = Reference { name: name.to_owned(), uid: actual.to_owned() };
    match kind {
        "Pod" => {
            if target.str_at(&["spec", "serviceAccountName"]) != request.account.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    request.account.name
                )));
            }
            let node = target.str_at(&["spec", "nodeName"]);
            if !node.is_empty() {
                let uid =
                    find("minions", node).map(|node| node.str_at(&["metadata", "uid"]).to_owned()).unwrap_or_default();
                request.node = Some(Reference { name: node.to_owned(), uid });
            }
            request.pod = Some(reference);
        }
        "Secret" => request.secret = Some(reference),
        _ => request.node = Some(reference),
    }
    Ok(())
}
