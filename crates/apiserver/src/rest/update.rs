//! PUT and PATCH of an object and of its status.

use api::{
    Model, Status, Value,
    decode::{self, Defaults},
    json,
    model::TypeId,
    patch::{JsonPatch, PatchError, merge, strategic},
    status::{FieldError, Reason},
};
use http::{StatusCode, header};

use super::{
    Answer, Call, respond,
    write::{self, Change, FieldValidation, Scope},
};
use crate::{negotiate, strategy};

impl Call<'_> {
    fn change(&self) -> Result<Change<'_>, Status> {
        Ok(Change {
            server: self.server,
            resource: &self.resource,
            subresource: &self.info.subresource,
            namespace: &self.info.namespace,
            name: &self.info.name,
            user: self.user,
            dry_run: self.dry_run()?,
        })
    }

    fn scope(&self) -> Scope {
        if self.info.subresource == "status" { Scope::Status } else { Scope::Main }
    }

    pub(super) async fn update(&self) -> Answer {
        let validation = FieldValidation::of(self)?;
        let parsed = negotiate::decode_body(self.headers, &self.body)?;
        let (mut object, mut warnings) = write::read_object(self, &self.resource, parsed, validation)?;
        self.check_place(&mut object)?;
        let mut admitted = Vec::new();
        let result = self.change()?.run_warning(self.scope(), |_| Ok(object.clone()), &mut admitted).await;
        warnings.extend(admitted);
        let answer = match result {
            Err(status) if status.reason == Reason::NotFound && self.may_create(&object) => {
                object.take(&["metadata", "resourceVersion"]);
                let stored = self.create_object(object, &mut warnings).await?;
                respond::object(&self.accept, &self.resource, StatusCode::CREATED, &stored)?
            }
            result => respond::object(&self.accept, &self.resource, StatusCode::OK, result?.object())?,
        };
        Ok(write::with_warnings(answer, &warnings))
    }

    fn may_create(&self, object: &Value) -> bool {
        self.info.subresource.is_empty()
            && strategy::of(&self.resource).creates_on_update()
            && object.str_at(&["metadata", "uid"]).is_empty()
    }

    /// The object's name and namespace are those of the path.
    pub(crate) fn check_place(&self, object: &mut Value) -> Result<(), Status> {
        let name = object.str_at(&["metadata", "name"]);
        if name.is_empty() {
            object.set(&["metadata", "name"], self.info.name.as_str());
        } else if name != self.info.name {
            let message = format!("the name of the object ({name}) does not match the name on the URL ({})", self.info.name);
            return Err(Status::bad_request(message));
        }
        if self.resource.namespaced {
            let namespace = object.str_at(&["metadata", "namespace"]);
            if namespace.is_empty() {
                object.set(&["metadata", "namespace"], self.info.namespace.as_str());
            } else if namespace != self.info.namespace {
                return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
            }
        }
        Ok(())
    }

    pub(super) async fn patch(&self) -> Answer {
        let validation = FieldValidation::of(self)?;
        let patch = Patch::read(self)?;
        let mut warnings = Vec::new();
        let change = self.change()?;
        let mut admitted = Vec::new();
        let outcome = change
            .run_warning(self.scope(), |before| {
                let mut object = patch.apply(self.server.model, self.resource.ty, before)?;
                warnings = self.finish_patch(&mut object, before, validation)?;
                Ok(object)
            }, &mut admitted)
            .await?;
        warnings.extend(admitted);
        let answer = respond::object(&self.accept, &self.resource, StatusCode::OK, outcome.object())?;
        Ok(write::with_warnings(answer, &warnings))
    }

    /// A patched object is decoded as a client's own would be.
    fn finish_patch(&self, object: &mut Value, before: &Value, validation: FieldValidation) -> Result<Vec<String>, Status> {
        let kind = &self.resource.kind;
        if object.as_object().is_none() {
            return Err(Status::bad_request("the patch leaves no object"));
        }
        if object.str_at(&["kind"]) != before.str_at(&["kind"]) || object.str_at(&["apiVersion"]) != before.str_at(&["apiVersion"]) {
            let message = format!("the patch would change apiVersion or kind, which must stay {} {}", kind.api_version(), kind.kind);
            return Err(Status::bad_request(message));
        }
        let findings = decode::decode(self.server.model, self.resource.ty, object, Defaults::On).map_err(|error| {
            let name = &self.info.name;
            let error = FieldError::invalid("patch", String::from_utf8_lossy(&self.body).chars().take(256).collect::<String>(), error.to_string());
            Status::invalid(&self.resource.group, &kind.kind, name, vec![error])
        })?;
        let strict = write::strictness(&findings.unknown, &[]);
        self.check_place(object)?;
        match validation {
            FieldValidation::Strict if !strict.is_empty() => {
                Err(Status::bad_request(format!("strict decoding error: {}", strict.join(", "))))
            }
            FieldValidation::Warn => Ok(strict),
            _ => Ok(Vec::new()),
        }
    }
}

/// A patch of one of the kinds that Kubernetes knows.
pub(crate) enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

impl Patch {
    /// The patch in a request's body.
    pub(crate) fn read(call: &Call<'_>) -> Result<Patch, Status> {
        let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type == "application/apply-patch+yaml" {
            return Err(Status::failure(
                Reason::UnsupportedMediaType,
                "server-side apply is not served yet; apply on the client's side (kubectl apply without --server-side)",
            ));
        }
        if !PATCHES.contains(&media_type) {
            return Err(Status::unsupported_media_type(&PATCHES));
        }
        let tree = json::parse(&call.body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        match media_type {
            "application/json-patch+json" => JsonPatch::decode(tree).map(Patch::Json).map_err(|error| error.status()),
            _ if tree.as_object().is_none() => Err(Status::bad_request("error decoding patch: the patch is not a JSON object")),
            "application/merge-patch+json" => Ok(Patch::Merge(tree)),
            _ => Ok(Patch::Strategic(tree)),
        }
    }

    /// `before`, patched; `ty` is its type.
    pub(crate) fn apply(&self, model: &Model, ty: TypeId, before: &Value) -> Result<Value, Status> {
        let before = before.clone();
        let patched = match self {
            Patch::Json(patch) => patch.apply(before).map_err(PatchError::from),
            Patch::Merge(patch) => merge::apply(before, patch.clone()),
            Patch::Strategic(patch) => strategic::apply(model, ty, before, patch.clone()),
        };
        patched.map_err(|error| error.status())
    }
}
