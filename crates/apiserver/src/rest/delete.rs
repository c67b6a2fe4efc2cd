//! DELETE of an object and of a collection: preconditions, grace, finalizers, propagation.
//! Follows apiserver `pkg/registry/rest/delete.go` (BeforeDelete) and `pkg/registry/generic/registry/store.go` (Delete).

use std::sync::Arc;

use api::{
    Resource, Status, Value,
    decode::{self, Defaults},
    status::{Details, FieldError},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::{
    Answer, Call, options, respond,
    write::{Change, Outcome, Scope, is_finished},
};
use crate::{
    admission::{Operation, Review},
    cache::Object,
    filter::Filter,
    negotiate, strategy,
};

pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`, as far as it decides something.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    /// From a request's body, or from its query where there is no body.
    pub(crate) fn read(call: &Call<'_>) -> Result<DeleteOptions, Status> {
        let mut tree = if call.body.is_empty() { of_query(call)? } else { of_body(call)? };
        if let all @ [_, ..] = call.query.all("dryRun") {
            tree.set(&["dryRun"], all.iter().map(|value| Value::from(value.as_str())).collect::<Vec<_>>());
        }
        DeleteOptions::parse(&tree)
    }

    pub(crate) fn parse(tree: &Value) -> Result<DeleteOptions, Status> {
        let invalid = |error: FieldError| Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![error]);
        let text = |path: &[&str]| Some(tree.str_at(path)).filter(|text| !text.is_empty()).map(str::to_owned);
        let propagation = match text(&["propagationPolicy"]).as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(invalid(FieldError::not_supported(
                    "propagationPolicy",
                    other,
                    &["Background", "Foreground", "Orphan", "nil"],
                )));
            }
        };
        let orphans = tree.get("orphanDependents").and_then(Value::as_bool);
        if orphans.is_some() && propagation.is_some() {
            return Err(invalid(FieldError::invalid(
                "propagationPolicy",
                "",
                "orphanDependents and deletionPropagation cannot be both set",
            )));
        }
        let dry_run: Vec<String> = tree
            .get("dryRun")
            .and_then(Value::as_array)
            .unwrap_or_default()
            .iter()
            .map(|value| value.as_str().unwrap_or_default().to_owned())
            .collect();
        if let Some(problem) = options::dry_run_problem(&dry_run) {
            return Err(invalid(problem));
        }
        // Upstream takes a negative grace period as the shortest one.
        let grace = tree.get("gracePeriodSeconds").and_then(Value::as_i64);
        Ok(DeleteOptions {
            grace_period_seconds: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            propagation: propagation
                .or(orphans.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })),
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn of_query(call: &Call<'_>) -> Result<Value, Status> {
    let mut tree = Value::object();
    if let Some(seconds) = call.query.get("gracePeriodSeconds") {
        let seconds: i64 = seconds.parse().map_err(|_| Status::bad_request("gracePeriodSeconds: must be a number"))?;
        tree.set(&["gracePeriodSeconds"], seconds);
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        tree.set(&["propagationPolicy"], policy);
    }
    Ok(tree)
}

fn of_body(call: &Call<'_>) -> Result<Value, Status> {
    let mut tree = negotiate::decode_body(call.headers, &call.body)?.value;
    let kind = tree.str_at(&["kind"]);
    if !matches!(kind, "" | "DeleteOptions") {
        let version = tree.str_at(&["apiVersion"]);
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?}: a deletion takes DeleteOptions"
        )));
    }
    if let Some(ty) = call.server.model.find("meta.v1.DeleteOptions") {
        decode::decode(call.server.model, ty, &mut tree, Defaults::Off)
            .map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))?;
    }
    Ok(tree)
}

/// Deletions of a collection that are under way together: they share the store's syncs. Upstream's default is one after
/// the other.
pub(crate) const DELETIONS_AT_ONCE: usize = 128;

impl Call<'_> {
    pub(super) async fn delete(&self) -> Answer {
        let options = DeleteOptions::read(self)?;
        let outcome = self.delete_one(&self.info.namespace, &self.info.name, &options).await?;
        match outcome {
            Outcome::Deleted(object) => self.deleted(&object),
            outcome => self.respond(StatusCode::OK, outcome.object()),
        }
    }

    /// What is answered once an object is gone: a Status; the object itself where clients rely on it.
    fn deleted(&self, object: &Object) -> Answer {
        let returns_object = matches!(
            (&*self.resource.group, &*self.resource.plural),
            (
                "",
                "pods"
                    | "services"
                    | "persistentvolumes"
                    | "persistentvolumeclaims"
                    | "serviceaccounts"
                    | "podtemplates"
                    | "resourcequotas"
            ) | ("policy", "podsecuritypolicies")
                | ("storage.k8s.io", _)
        );
        if returns_object {
            return self.respond(StatusCode::OK, object);
        }
        let status = Status::success().with_details(Details {
            name: object.name().to_owned(),
            group: self.resource.group.to_string(),
            kind: self.resource.plural.to_string(),
            uid: object.tree().str_at(&["metadata", "uid"]).to_owned(),
            ..Details::default()
        });
        respond::respond_json(StatusCode::OK, self.accept.format, status.to_json().into())
    }

    pub(crate) async fn delete_one(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Outcome, Status> {
        let change = Change {
            // A deletion is the same in all versions.
            served: self.hub(),
            subresource: "",
            namespace,
            name,
            ..self.change(options.dry_run, None)
        };
        let shelf = change.shelf()?;
        let key = self.resource.object_key(namespace, name);
        self.server.cache.wait_until_current().await?;
        let first = shelf.get(&key).ok_or_else(|| self.not_found(name))?;
        let tree = first.tree();
        let review = Review {
            server: self.server,
            operation: Operation::Delete,
            verb: self.info.verb,
            resource: self.hub(),
            subresource: "",
            namespace,
            name,
            user: self.user,
            dry_run: options.dry_run,
            old: Some(&tree),
            warnings: Default::default(),
        };
        self.server.admission.admit(&review, &mut Value::Null).await?;
        self.server.admission.validate(&review, &Value::Null).await?;
        let now = self.server.clock.now();
        // Marked for deletion and, where nothing holds it, gone within the same step.
        let mut at_once = false;
        let outcome = change
            .run(Scope::Free, |before| {
                self.check_preconditions(before, name, options)?;
                let object = mark(self.hub(), before, options, now);
                at_once = is_finished(&object);
                Ok(object)
            })
            .await;
        tracing::trace!(name, at_once, "deletion");
        outcome
    }

    pub(crate) fn check_preconditions(
        &self,
        before: &Value,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let conflict = |what: &str, want: &str, have: &str, might: &str| {
            let why = format!(
                "the {what} in the precondition ({want}) does not match the {what} in record ({have}). The object might have been {might}"
            );
            Err(Status::conflict(&self.hub().group, &self.resource.kind.kind, name, &why))
        };
        let (uid, version) = (before.str_at(&["metadata", "uid"]), before.str_at(&["metadata", "resourceVersion"]));
        match (&options.uid, &options.resource_version) {
            (Some(want), _) if want != uid => conflict("UID", want, uid, "deleted and then recreated"),
            (_, Some(want)) if want != version => conflict("ResourceVersion", want, version, "modified"),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_collection(&self) -> Answer {
        let options = DeleteOptions::read(self)?;
        let filter = Filter::new(self.query, &self.resource, "")?;
        self.server.cache.wait_until_current().await?;
        let shelf = self.server.cache.shelf(&self.resource).ok_or_else(Status::no_such_resource)?;
        let view = self.server.cache.view(&shelf);
        let prefix = self.namespace_prefix();
        let chosen: Vec<Arc<Object>> = view
            .under(&prefix)
            .filter(|(_, object)| filter.matches(object))
            .map(|(_, object)| object.clone())
            .collect();
        let deletions = chosen.into_iter().map(|object| async {
            match self.delete_one(object.namespace(), object.name(), &options).await {
                Ok(_) => Ok(Some(object)),
                // Somebody else was quicker.
                Err(status) if status.reason == api::status::Reason::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        });
        let deleted: Vec<Arc<Object>> = stream::iter(deletions)
            .buffered(DELETIONS_AT_ONCE)
            .try_filter_map(|deleted| std::future::ready(Ok(deleted)))
            .try_collect()
            .await?;
        let kind = &self.resource.kind;
        let mut out = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"items\":[",
            self.resource.list_kind(),
            kind.api_version(),
            view.revision
        )
        .into_bytes();
        for (index, object) in deleted.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            out.extend_from_slice(&object.item_of(&self.resource));
        }
        out.extend_from_slice(b"]}\n");
        respond::respond_json(StatusCode::OK, self.accept.format, Bytes::from(out))
    }
}

/// The object as the request to delete leaves it: with its deletion time, what is left of its grace period, and the
/// finalizers that the propagation policy asks for.
fn mark(resource: &Resource, before: &Value, options: &DeleteOptions, now: Timestamp) -> Value {
    let strategy = strategy::of(resource);
    let mut object = before.clone();
    let finalizers = propagation_finalizers(strategy, before, options);
    let grace = strategy.grace_period_seconds(before, options.grace_period_seconds).unwrap_or(0);
    let Some(metadata) = object.make_object(&["metadata"]) else { return object };
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers", finalizers.into_iter().map(Value::from).collect::<Vec<_>>());
    }
    match metadata.get("deletionTimestamp").and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok()) {
        // A second request may only shorten the grace period.
        Some(until) => {
            let granted = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
            if options.grace_period_seconds.is_some() && grace < granted {
                let since = until - SignedDuration::from_secs(granted);
                metadata.insert(
                    "deletionTimestamp",
                    api::time::format((since + SignedDuration::from_secs(grace)).max(now)),
                );
                metadata.insert("deletionGracePeriodSeconds", grace);
            }
        }
        None => {
            metadata.insert("deletionTimestamp", api::time::format(now + SignedDuration::from_secs(grace)));
            metadata.insert("deletionGracePeriodSeconds", grace);
            if let Some(generation) =
                metadata.get("generation").and_then(Value::as_i64).filter(|generation| *generation > 0)
            {
                metadata.insert("generation", generation + 1);
            }
            strategy.mark_deleted(&mut object, now);
        }
    }
    if &*resource.plural == "namespaces" && resource.group.is_empty() {
        object.set(&["status", "phase"], "Terminating");
    }
    object
}

/// The orphan and foreground finalizers follow the policy; all others stay.
fn propagation_finalizers(strategy: &dyn strategy::Strategy, before: &Value, options: &DeleteOptions) -> Vec<String> {
    let present: Vec<String> = before
        .at(&["metadata", "finalizers"])
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let has = |name: &str| present.iter().any(|finalizer| finalizer == name);
    let wanted = match options.propagation {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) => None,
        None if has(ORPHAN) => Some(ORPHAN),
        None if has(FOREGROUND) => Some(FOREGROUND),
        None if strategy.orphans_by_default() => Some(ORPHAN),
        None => None,
    };
    let mut finalizers: Vec<String> =
        present.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    finalizers.extend(wanted.map(str::to_owned));
    finalizers
}
