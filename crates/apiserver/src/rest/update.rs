//! PUT and PATCH of an object and of its status.

use api::{
    Status, Value,
    decode::{self, Defaults},
    json::{self, Parsed, Repeats},
    patch::{JsonPatch, PatchError, merge, strategic},
    status::{FieldError, Reason},
};
use http::StatusCode;

use super::{
    Answer, Call,
    management::{self, Management},
    options::{self, WriteOptions},
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
        if object.str_at(&["metadata", "name"]).is_empty() {
            let message = "the name of the object ({} based on URL) was undeterminable: name must be provided";
            return Err(Status::bad_request(message.replace("{}", &self.info.name)));
        }
        self.check_place(&mut object)?;
        let mut admitted = Vec::new();
        let change = self.change(options.dry_run, Some(&options.manager));
        let result = change.run_warning(self.scope(), |_| Ok(object.clone()), &mut admitted).await;
        warnings.extend(admitted);
        match result {
            Err(status) if status.reason == Reason::NotFound && self.may_create(&object) => {
                self.authorize_create().await?;
                object.take(&["metadata", "resourceVersion"]);
                self.own_new(&mut object, &options.manager);
                let stored = self.create_object(object, options.dry_run, &mut warnings).await;
                self.warn(warnings);
                self.respond(StatusCode::CREATED, &stored?)
            }
            result => {
                self.warn(warnings);
                self.respond(StatusCode::OK, result?.object())
            }
        }
    }

    fn may_create(&self, object: &Value) -> bool {
        self.info.subresource.is_empty()
            && strategy::of(self.hub()).creates_on_update(self.hub())
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
        let change = self.change(options.dry_run, edit.manager(&options));
        for _ in 0..CREATE_TRIES {
            let (mut warnings, mut admitted) = (Vec::new(), Vec::new());
            let changed = change.run_warning(
                self.scope(),
                |before| {
                    let (object, complaints) = self.edited(&edit, &options, Some(before))?;
                    warnings = complaints;
                    Ok(object)
                },
                &mut admitted,
            );
            let outcome = changed.await;
            warnings.extend(admitted);
            let answer = match outcome {
                Err(status)
                    if status.reason == Reason::NotFound && edit.is_apply() && self.info.subresource.is_empty() =>
                {
                    match self.apply_new(&edit, &options, &mut warnings).await {
                        // Somebody else was quicker.
                        Err(status) if status.reason == Reason::AlreadyExists => continue,
                        stored => stored.and_then(|stored| self.respond(StatusCode::CREATED, &stored)),
                    }
                }
                outcome => outcome.and_then(|outcome| self.respond(StatusCode::OK, outcome.object())),
            };
            self.warn(warnings);
            return answer;
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
        let (object, complaints) = self.edited(edit, options, None)?;
        *warnings = complaints;
        let uid = object.str_at(&["metadata", "uid"]);
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&self.hub().group, &self.resource.plural, &self.info.name, &why));
        }
        self.authorize_create().await?;
        self.create_object(object, options.dry_run, warnings).await
    }

    /// What an edit makes of an object, or of nothing, decoded as a client's own object would be; and what to warn of.
    fn edited(
        &self,
        edit: &Edit,
        options: &WriteOptions,
        before: Option<&Value>,
    ) -> Result<(Value, Vec<String>), Status> {
        let management = Management::of(self.server, &self.resource, &self.info.subresource);
        let edited = || edit.of(&management, options, before.unwrap_or(&Value::object()));
        let mut object = edited()?;
        if let Some(before) = before {
            self.check_kind_kept(&object, before)?;
        }
        let mut unknown = self.decode_edited(&mut object)?;
        // Upstream writes what came of the patch with sorted names before it looks at it.
        unknown.sort();
        let unknown = unknown.iter().map(|path| json::unknown_field(path));
        let complaints: Vec<String> = edit.complaints.iter().cloned().chain(unknown).collect();
        self.check_place(&mut object)?;
        match options.validation {
            FieldValidation::Strict if !complaints.is_empty() => {
                let detail = format!("strict decoding error: {}", complaints.join(", "));
                let shown = match &edit.recipe {
                    Recipe::Strategic(patch) => api::go_text(patch),
                    // Once more, as decoding drops what is unknown.
                    _ => edited()?.to_string(),
                };
                let error = FieldError::invalid("patch", shown, detail);
                Err(Status::invalid("", "", "", vec![error]))
            }
            FieldValidation::Warn => Ok((object, complaints)),
            _ => Ok((object, Vec::new())),
        }
    }

    /// Gives the paths of what the schema does not have.
    pub(crate) fn decode_edited(&self, object: &mut Value) -> Result<Vec<String>, Status> {
        let decoded = decode::decode(self.resource.model(), self.resource.ty, object, Defaults::On);
        decoded.map(|findings| findings.unknown).map_err(|error| {
            let patch: String = String::from_utf8_lossy(&self.body).chars().take(256).collect();
            let error = FieldError::invalid("patch", patch, error.to_string());
            Status::invalid("", "", "", vec![error])
        })
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
}

/// How often an apply that found nothing, and then something, is tried.
const CREATE_TRIES: usize = 5;

/// What a PATCH does to an object.
pub(crate) struct Edit {
    recipe: Recipe,
    /// What a strict decoder complains of in the request's body.
    complaints: Vec<String>,
}

enum Recipe {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
    /// The configuration that is applied.
    Apply(Value),
}

impl Edit {
    /// The patch or configuration in a request's body.
    pub(crate) fn read(call: &Call<'_>) -> Result<Edit, Status> {
        let media_type = options::media_type(call);
        // What merges by the tags of Go types is not for custom resources.
        let known: &[&str] =
            if call.resource.custom.is_some() { &[PATCHES[0], PATCHES[1], PATCHES[3]] } else { &PATCHES };
        if !known.contains(&media_type) {
            return Err(Status::unsupported_media_type(known));
        }
        if media_type == options::APPLY {
            let Parsed { value, repeats } = management::read_config(call)?;
            return Ok(Edit { recipe: Recipe::Apply(value), complaints: repeats.complaints(&[]) });
        }
        let Parsed { value, repeats } = json::parse_noting_repeats(&call.body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        if media_type == PATCHES[0] {
            let complaints = operations_complaints(&value, &repeats);
            let patch = JsonPatch::decode(value).map_err(|error| error.status())?;
            return Ok(Edit { recipe: Recipe::Json(patch), complaints });
        }
        if value.as_object().is_none() {
            return Err(Status::bad_request("error decoding patch: the patch is not a JSON object"));
        }
        let recipe = if media_type == PATCHES[1] { Recipe::Merge(value) } else { Recipe::Strategic(value) };
        Ok(Edit { recipe, complaints: repeats.complaints(&[]) })
    }

    pub(crate) fn is_apply(&self) -> bool {
        matches!(self.recipe, Recipe::Apply(_))
    }

    /// Who becomes the owner of what changes: an apply says by itself what it owns.
    pub(crate) fn manager<'o>(&self, options: &'o WriteOptions) -> Option<&'o str> {
        (!self.is_apply()).then_some(&options.manager)
    }

    /// `before` as it is to be, not yet decoded.
    pub(crate) fn of(
        &self,
        management: &Management<'_>,
        options: &WriteOptions,
        before: &Value,
    ) -> Result<Value, Status> {
        let edited = match &self.recipe {
            Recipe::Json(patch) => patch.apply(before.clone()).map_err(PatchError::from),
            Recipe::Merge(patch) => merge::apply(before.clone(), patch.clone()),
            Recipe::Strategic(patch) => {
                strategic::apply(management.model, management.ty, before.clone(), patch.clone())
            }
            Recipe::Apply(config) => {
                let object = management.apply(before, config, &options.manager, options.force)?;
                if options.validation == FieldValidation::Strict && !self.complaints.is_empty() {
                    let why = format!("error strict decoding YAML: {}", self.complaints.join(", "));
                    return Err(Status::bad_request(why));
                }
                Ok(object)
            }
        };
        edited.map_err(|error| error.status())
    }
}

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    options::APPLY,
];

/// What operations say that they do not have, and what they say twice.
fn operations_complaints(patch: &Value, repeats: &Repeats) -> Vec<String> {
    let operations = patch.as_array().unwrap_or_default().iter().enumerate();
    let unknown: Vec<String> = operations
        .flat_map(|(at, operation)| {
            operation.as_object().into_iter().flat_map(|map| map.keys()).map(move |name| (at, name))
        })
        .filter(|(_, name)| !matches!(*name, "op" | "from" | "path" | "value"))
        .map(|(at, name)| format!("[{at}].{name}"))
        .collect();
    repeats.complaints(&unknown).into_iter().map(|complaint| format!("json patch {complaint}")).collect()
}
