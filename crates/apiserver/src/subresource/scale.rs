//! `autoscaling/v1` Scale: the replicas of a workload, whatever its kind.

use api::{Resource, Status, Value, apply::ScaleHandler, model::Gvk, selector::LabelSelector, status::FieldError};
use http::StatusCode;

use super::{answer, body};
use crate::rest::{
    Answer, Call, Edit, Scope, WriteOptions,
    management::{self, MANAGED_FIELDS, Management},
};

const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Where a resource has what its scale shows.
struct Paths<'a> {
    spec: Vec<&'a str>,
    status: Vec<&'a str>,
    /// Of a custom resource: where the selector stands as text.
    selector: Option<Vec<&'a str>>,
    is_custom: bool,
}

impl<'a> Paths<'a> {
    fn of(resource: &'a Resource) -> Paths<'a> {
        let names = |path: &'a [Box<str>]| -> Vec<&'a str> { path.iter().map(|name| &**name).collect() };
        match resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
            Some(scale) => Paths {
                spec: names(&scale.spec_replicas),
                status: names(&scale.status_replicas),
                selector: scale.selector.as_deref().map(names),
                is_custom: true,
            },
            None => {
                Paths { spec: REPLICAS.to_vec(), status: vec!["status", "replicas"], selector: None, is_custom: false }
            }
        }
    }

    /// A custom resource without replicas has no scale yet.
    fn check(&self, object: &Value) -> Result<(), Status> {
        if self.is_custom && object.at(&self.spec).is_none() {
            return Err(Status::internal(format!(
                "the spec replicas field \".{}\" does not exist",
                self.spec.join(".")
            )));
        }
        Ok(())
    }
}

pub(super) async fn serve(call: Call<'_>) -> Answer {
    let resource = call.resource.clone();
    let paths = Paths::of(&resource);
    if call.info.verb == "get" {
        return read(&call, &paths).await;
    }
    let options = WriteOptions::of(&call)?;
    // The entries of the workload follow from those of the scale.
    let change = call.change(options.dry_run, None);
    let edit = if call.info.verb == "patch" { Some(Edit::read(&call)?) } else { None };
    let mut wanted = Value::Null;
    if edit.is_none() {
        wanted = body(&call)?;
        call.check_place(&mut wanted)?;
    }
    let ty = call.server.model.find("autoscaling.v1.Scale").ok_or_else(Status::no_such_resource)?;
    let kind = Gvk::new("autoscaling", "v1", "Scale");
    let management = Management {
        server: call.server,
        model: call.server.model,
        ty,
        kind: &kind,
        resource: None,
        subresource: "scale",
        skip: management::unowned_of_scale(),
    };
    let outcome = change
        .run(Scope::Main, |before| {
            let resources = call.server.resources.load();
            let knows = |version: &str| resources.by_kind(&Gvk::of(version, &call.resource.kind.kind)).is_some();
            let handler = ScaleHandler {
                parent: before.at(&MANAGED_FIELDS),
                api_version: &call.resource.kind.api_version(),
                replicas: &paths.spec,
                knows: &knows,
            };
            let mut old = scale_of(&paths, before);
            let entries = handler.to_subresource().unwrap_or_default();
            if !entries.is_empty() {
                old.set(&MANAGED_FIELDS, entries);
            }
            let mut scale = match &edit {
                Some(edit) => edit.of(&management, &options, &old)?,
                None => wanted.clone(),
            };
            if !edit.as_ref().is_some_and(Edit::is_apply) {
                management.update(&old, &mut scale, &options.manager);
            }
            let mut object = scaled(&paths, before, &scale, &call.info.name)?;
            match handler.to_parent(scale.at(&MANAGED_FIELDS)).unwrap_or_default() {
                entries if entries.is_empty() => object.take(&MANAGED_FIELDS).is_some(),
                entries => object.set(&MANAGED_FIELDS, entries),
            };
            Ok(object)
        })
        .await?;
    answer(&call, StatusCode::OK, &scale_of(&paths, &outcome.object().tree()))
}

async fn read(call: &Call<'_>, paths: &Paths<'_>) -> Answer {
    let object = call.current().await?.tree();
    paths.check(&object)?;
    answer(call, StatusCode::OK, &scale_of(paths, &object))
}

/// The workload with the replicas of its scale.
fn scaled(paths: &Paths<'_>, before: &Value, scale: &Value, name: &str) -> Result<Value, Status> {
    let replicas = match scale.at(&REPLICAS) {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(|| {
            Status::bad_request("Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be a number")
        })?,
    };
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, vec![error]));
    }
    let mut object = before.clone();
    object.set(&paths.spec, replicas);
    // The version that the client saw, where it names one, is the one that is scaled; the same for the object itself.
    for field in ["resourceVersion", "uid"] {
        match scale.str_at(&["metadata", field]) {
            "" => object.take(&["metadata", field]).is_some(),
            value => object.set(&["metadata", field], value),
        };
    }
    Ok(object)
}

fn scale_of(paths: &Paths<'_>, object: &Value) -> Value {
    let mut scale = Value::object();
    scale.set(&["kind"], "Scale");
    scale.set(&["apiVersion"], "autoscaling/v1");
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", name]) {
            scale.set(&["metadata", name], value.clone());
        }
    }
    scale.set(&["spec", "replicas"], object.at(&paths.spec).cloned().unwrap_or(Value::Int(0)));
    scale.set(&["status", "replicas"], object.at(&paths.status).cloned().unwrap_or(Value::Int(0)));
    if paths.is_custom {
        let selector = paths.selector.as_ref().map(|path| object.str_at(path)).filter(|text| !text.is_empty());
        selector.map(|text| scale.set(&["status", "selector"], text));
        return scale;
    }
    let selector = object.at(&["spec", "selector"]);
    // A ReplicationController's selector is a plain map.
    let parsed = if object.str_at(&["kind"]) == "ReplicationController" {
        let labels = selector.and_then(Value::as_object);
        Some(LabelSelector::from_set(
            labels.into_iter().flat_map(|map| map.iter()).map(|(key, value)| (key, value.as_str().unwrap_or_default())),
        ))
    } else {
        LabelSelector::from_value(selector).ok()
    };
    if let Some(parsed) = parsed {
        scale.set(&["status", "selector"], parsed.to_string());
    }
    scale
}
