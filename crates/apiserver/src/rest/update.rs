//! PUT and PATCH of an object and of its status.

use api::{
    Model, Status, Value,
    decode::{self, Defaults},
    json::{self, Parsed},
    model::TypeId,
    patch::{JsonPatch, PatchError, merge, strategic},
    status::{FieldError, Reason},
};
use http::StatusCode;

use super::{
    Answer, Call,
    management::{self, Management},
    options::{self, WriteOptions},
    respond,
    write::{self, FieldValidation, Scope},
};
use crate::{auth::Attributes, cache::Object, negotiate, pipeline, request::RequestInfo, strategy};

impl Call<'_> {
    fn scope(&self) -> Scope {
        if self.info.subresource == "status" { Scope::Status } else { Scope::Main }
    }

    pub(super) async fn update(&self) -> Answer {
        let options = WriteOptions::of(self)?;
        let parsed = negotiate::decode_body(self.headers, &self.body)?;
        let (mut object, mut warnings) = write::read_object(&self.resource, parsed, options.validation)?;
        self.check_place(&mut object)?;
        let mut admitted = Vec::new();
        let change = self.change(options.dry_run, Some(&options.manager));
        let result = change.run_warning(self.scope(), |_| Ok(object.clone()), &mut admitted).await;
        warnings.extend(admitted);
        let answer = match result {
            Err(status) if status.reason == Reason::NotFound && self.may_create(&object) => {
                self.authorize_create().await?;
                object.take(&["metadata", "resourceVersion"]);
                self.own_new(&mut object, &options.manager);
                let stored = self.create_object(object, options.dry_run, &mut warnings).await?;
                respond::object(&self.accept, &self.resource, StatusCode::CREATED, &stored)?
            }
            result => respond::object(&self.accept, &self.resource, StatusCode::OK, result?.object())?,
        };
        Ok(write::with_warnings(answer, &warnings))
    }

    fn may_create(&self, object: &Value) -> bool {
        self.info.subresource.is_empty()
            && strategy::of(self.hub()).creates_on_update()
            && object.str_at(&["metadata", "uid"]).is_empty()
    }

    /// Who may change an object that is there may not therefore make one that is not.
    async fn authorize_create(&self) -> Result<(), Status> {
        let info = RequestInfo { verb: "create", ..self.info.clone() };
        let attributes = Attributes::of(self.user, &info);
        let decision = self.server.authorization.authorize(&attributes).await?;
        if decision.is_allowed() { Ok(()) } else { Err(pipeline::forbidden(&attributes, &decision)) }
    }

    /// The object's name and namespace are those of the path.
    pub(crate) fn check_place(&self, object: &mut Value) -> Result<(), Status> {
        let name = object.str_at(&["metadata", "name"]);
        if name.is_empty() {
            object.set(&["metadata", "name"], self.info.name.as_str());
        } else if name != self.info.name {
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", self.info.name);
            return Err(Status::bad_request(message));
        }
        if self.resource.namespaced {
            let namespace = object.str_at(&["metadata", "namespace"]);
            if namespace.is_empty() {
                object.set(&["metadata", "namespace"], self.info.namespace.as_str());
            } else if namespace != self.info.namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        }
        Ok(())
    }

    pub(super) async fn patch(&self) -> Answer {
        let options = WriteOptions::of(self)?;
        let edit = Edit::read(self)?;
        let management = Management::of(self.server, &self.resource, &self.info.subresource);
        let change = self.change(options.dry_run, edit.manager(&options));
        for _ in 0..CREATE_TRIES {
            let mut warnings = edit.warnings(&options);
            let mut admitted = Vec::new();
            let changed = change.run_warning(
                self.scope(),
                |before| {
                    let mut object = edit.of(&management, &options, before)?;
                    self.check_kind_kept(&object, before)?;
                    warnings = edit.warnings(&options);
                    warnings.extend(self.finish_patch(&mut object, options.validation, edit.complaints())?);
                    Ok(object)
                },
                &mut admitted,
            );
            let answer = match (changed.await, &edit) {
                (Err(status), Edit::Apply(_))
                    if status.reason == Reason::NotFound && self.info.subresource.is_empty() =>
                {
                    match self.apply_new(&edit, &options, &mut warnings).await {
                        // Somebody else was quicker.
                        Err(status) if status.reason == Reason::AlreadyExists => continue,
                        stored => respond::object(&self.accept, &self.resource, StatusCode::CREATED, &stored?)?,
                    }
                }
                (outcome, _) => respond::object(&self.accept, &self.resource, StatusCode::OK, outcome?.object())?,
            };
            warnings.extend(admitted);
            return Ok(write::with_warnings(answer, &warnings));
        }
        let why = "the object comes and goes too often; please try again";
        Err(Status::conflict(&self.hub().group, &self.resource.plural, &self.info.name, why))
    }

    /// Applies a configuration of an object that is not there.
    async fn apply_new(
        &self,
        edit: &Edit,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Status> {
        let management = Management::of(self.server, &self.resource, "");
        let mut object = edit.of(&management, options, &Value::object())?;
        warnings.extend(self.finish_patch(&mut object, options.validation, &[])?);
        let uid = object.str_at(&["metadata", "uid"]);
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&self.hub().group, &self.resource.plural, &self.info.name, &why));
        }
        self.authorize_create().await?;
        self.create_object(object, options.dry_run, warnings).await
    }

    fn check_kind_kept(&self, object: &Value, before: &Value) -> Result<(), Status> {
        let kind = &self.resource.kind;
        if object.as_object().is_none() {
            return Err(Status::bad_request("the patch leaves no object"));
        }
        let version = object.str_at(&["apiVersion"]);
        if object.str_at(&["kind"]) == before.str_at(&["kind"])
            && (version == before.str_at(&["apiVersion"]) || version == kind.api_version())
        {
            return Ok(());
        }
        let message =
            format!("the patch would change apiVersion or kind, which must stay {} {}", kind.api_version(), kind.kind);
        Err(Status::bad_request(message))
    }

    /// A patched object is decoded as a client's own would be. `complaints` are those of the patch itself.
    fn finish_patch(
        &self,
        object: &mut Value,
        validation: FieldValidation,
        complaints: &[String],
    ) -> Result<Vec<String>, Status> {
        let kind = &self.resource.kind;
        let patched = if validation == FieldValidation::Strict { object.to_string() } else { String::new() };
        let findings =
            decode::decode(self.resource.model(), self.resource.ty, object, Defaults::On).map_err(|error| {
                let name = &self.info.name;
                let error = FieldError::invalid(
                    "patch",
                    String::from_utf8_lossy(&self.body).chars().take(256).collect::<String>(),
                    error.to_string(),
                );
                Status::invalid(&self.resource.group, &kind.kind, name, vec![error])
            })?;
        let mut unknown = findings.unknown;
        // Upstream writes what came of the patch with sorted names before it looks at it.
        unknown.sort();
        let strict: Vec<String> = complaints.iter().cloned().chain(write::unknowns(&unknown)).collect();
        self.check_place(object)?;
        match validation {
            FieldValidation::Strict if !strict.is_empty() => {
                let detail = format!("strict decoding error: {}", strict.join(", "));
                Err(Status::invalid("", "", "", vec![FieldError::invalid("patch", patched, detail)]))
            }
            FieldValidation::Warn => Ok(strict),
            _ => Ok(Vec::new()),
        }
    }
}

/// How often an apply that found nothing, and then something, is tried.
const CREATE_TRIES: usize = 5;

/// What a PATCH does: change the object by a recipe, or apply a configuration.
pub(crate) enum Edit {
    /// With what a strict decoder complains of in the patch.
    Patch(Patch, Vec<String>),
    Apply(Parsed),
}

impl Edit {
    /// The patch or configuration in a request's body.
    pub(crate) fn read(call: &Call<'_>) -> Result<Edit, Status> {
        if options::is_apply(call) {
            management::read_config(call).map(Edit::Apply)
        } else {
            Patch::read(call).map(|(patch, complaints)| Edit::Patch(patch, complaints))
        }
    }

    /// Who becomes the owner of what changes: an apply says by itself what it owns.
    pub(crate) fn manager<'o>(&self, options: &'o WriteOptions) -> Option<&'o str> {
        match self {
            Edit::Patch(..) => Some(&options.manager),
            Edit::Apply(_) => None,
        }
    }

    /// `before` as it is to be, not yet decoded.
    pub(crate) fn of(
        &self,
        management: &Management<'_>,
        options: &WriteOptions,
        before: &Value,
    ) -> Result<Value, Status> {
        let config = match self {
            Edit::Patch(patch, _) => return patch.apply(management.model, management.ty, before),
            Edit::Apply(config) => config,
        };
        let object = management.apply(before, &config.value, &options.manager, options.force)?;
        match duplicated(config) {
            duplicated if options.validation == FieldValidation::Strict && !duplicated.is_empty() => {
                Err(Status::bad_request(format!("error strict decoding YAML: {}", duplicated.join(", "))))
            }
            _ => Ok(object),
        }
    }

    fn complaints(&self) -> &[String] {
        match self {
            Edit::Patch(_, complaints) => complaints,
            Edit::Apply(_) => &[],
        }
    }

    pub(crate) fn warnings(&self, options: &WriteOptions) -> Vec<String> {
        match self {
            Edit::Apply(config) if options.validation == FieldValidation::Warn => duplicated(config),
            _ => Vec::new(),
        }
    }
}

/// The complaints about members that stand twice.
fn duplicated(config: &Parsed) -> Vec<String> {
    config.complaints(&[])
}

/// A patch of one of the kinds that Kubernetes knows.
pub(crate) enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    options::APPLY,
];

impl Patch {
    fn read(call: &Call<'_>) -> Result<(Patch, Vec<String>), Status> {
        let media_type = options::media_type(call);
        // What merges by the tags of Go types is not for custom resources.
        let known: &[&str] =
            if call.resource.custom.is_some() { &[PATCHES[0], PATCHES[1], PATCHES[3]] } else { &PATCHES };
        if !known.contains(&media_type) {
            return Err(Status::unsupported_media_type(known));
        }
        let mut parsed = json::parse_with_duplicates(&call.body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        if media_type == PATCHES[0] {
            let complaints = operations_complaints(&parsed);
            let patch = JsonPatch::decode(parsed.value).map_err(|error| error.status())?;
            return Ok((Patch::Json(patch), complaints));
        }
        if parsed.value.as_object().is_none() {
            return Err(Status::bad_request("error decoding patch: the patch is not a JSON object"));
        }
        let complaints = parsed.complaints(&[]);
        let tree = std::mem::take(&mut parsed.value);
        Ok((if media_type == PATCHES[1] { Patch::Merge(tree) } else { Patch::Strategic(tree) }, complaints))
    }

    /// `before`, patched; `ty` is its type.
    fn apply(&self, model: &Model, ty: TypeId, before: &Value) -> Result<Value, Status> {
        let before = before.clone();
        let patched = match self {
            Patch::Json(patch) => patch.apply(before).map_err(PatchError::from),
            Patch::Merge(patch) => merge::apply(before, patch.clone()),
            Patch::Strategic(patch) => strategic::apply(model, ty, before, patch.clone()),
        };
        patched.map_err(|error| error.status())
    }
}

/// What operations say that they do not have, and what they say twice.
fn operations_complaints(patch: &Parsed) -> Vec<String> {
    let operations = patch.value.as_array().unwrap_or_default().iter().enumerate();
    let unknown: Vec<String> = operations
        .flat_map(|(at, operation)| {
            operation.as_object().into_iter().flat_map(|map| map.keys()).map(move |name| (at, name))
        })
        .filter(|(_, name)| !matches!(*name, "op" | "from" | "path" | "value"))
        .map(|(at, name)| format!("[{at}].{name}"))
        .collect();
    patch.complaints(&unknown).into_iter().map(|complaint| format!("json patch {complaint}")).collect()
}
