//! Carries plans out: the one place in the controllers that writes to the API.

use api::status::Reason;
use bytes::Bytes;
use client::{Client, DeleteParams, Error, EventRecorder, Propagation};
use futures_util::future::join_all;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    expectations::Written,
    plan::{Plan, PlannedEvent, Target, Verb, Write},
};

/// Why a pass stopped. Kept by the runtime and shown to the key's next pass, so that a controller can report it in status.
#[derive(Clone, Debug)]
pub struct WriteFailure {
    pub verb: &'static str,
    /// Kind the write was for.
    pub kind: String,
    pub reason: Option<Reason>,
    pub message: String,
    /// The namespace is being deleted: nothing to retry.
    pub namespace_terminating: bool,
}

/// What the server said about an object written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    metadata: AnswerMeta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AnswerMeta {
    name: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
}

pub struct Executor {
    client: Client,
    recorder: EventRecorder,
}

impl Executor {
    pub fn new(client: Client, recorder: EventRecorder) -> Self {
        Executor { client, recorder }
    }

    /// Writes in order, up to the first failure. `written` tells what the informers must show before the next pass.
    pub async fn execute(&self, plan: &Plan, written: &mut Written) -> Result<(), WriteFailure> {
        for event in &plan.events {
            self.record(event, "", "");
        }
        let mut rest = plan.writes.as_slice();
        while let Some(first) = rest.first() {
            let run = 1 + rest[1..].iter().take_while(|next| together(first, next)).count();
            let (batch, tail) = rest.split_at(run);
            self.slow_start(batch, written).await?;
            rest = tail;
        }
        Ok(())
    }

    /// Batches of 1, 2, 4 … so that a failure every write would meet (a full quota) costs few calls
    /// (upstream controller_utils `slowStartBatch`).
    async fn slow_start(&self, mut writes: &[Write], written: &mut Written) -> Result<(), WriteFailure> {
        let mut size = 1;
        while !writes.is_empty() {
            let (batch, tail) = writes.split_at(size.min(writes.len()));
            let answers = join_all(batch.iter().map(|write| self.write(write))).await;
            let mut failure = None;
            for (write, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(Some(answer)) => self.succeeded(write, &answer, written),
                    Ok(None) => {}
                    Err(error) => failure = self.failed(write, &error).or(failure),
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            writes = tail;
            size *= 2;
        }
        Ok(())
    }

    async fn is_alive(&self, target: &Target, uid: &str) -> Result<bool, Error> {
        let path = format!("{}/{}", target.resource.path(&target.namespace), target.name);
        let answer = match self.client.raw(Method::GET, &path, None, Bytes::new()).await {
            Err(error) if error.is_not_found() => return Ok(false),
            answer => answer?,
        };
        let owner: Answer = serde_json::from_slice(&answer)
            .map_err(|error| Error::Decode { what: target.to_string(), message: error.to_string() })?;
        Ok(owner.metadata.uid == uid && owner.metadata.deletion_timestamp.is_none())
    }

    /// `None` where the write was left out.
    async fn write(&self, write: &Write) -> Result<Option<Bytes>, Error> {
        if let Some((owner, uid)) = &write.while_alive
            && !self.is_alive(owner, uid).await?
        {
            return Ok(None);
        }
        let target = &write.target;
        let collection = target.resource.path(&target.namespace);
        let item = |sub: Option<&str>| match sub {
            None => format!("{collection}/{}", target.name),
            Some(sub) => format!("{collection}/{}/{sub}", target.name),
        };
        let (method, path, content_type, body) = match &write.verb {
            Verb::Create => (Method::POST, collection, JSON, write.body.clone()),
            Verb::Update => (Method::PUT, item(None), JSON, write.body.clone()),
            Verb::UpdateStatus => (Method::PUT, item(Some("status")), JSON, write.body.clone()),
            Verb::UpdateSub(sub) => (Method::PUT, item(Some(sub)), JSON, write.body.clone()),
            Verb::CreateSub(sub) => (Method::POST, item(Some(sub)), JSON, write.body.clone()),
            Verb::Patch { kind, subresource } => {
                (Method::PATCH, item(*subresource), kind.content_type(), write.body.clone())
            }
            Verb::Delete(params) => (Method::DELETE, item(None), JSON, delete_options(params)),
            Verb::DeleteCollection(params) => (Method::DELETE, collection, JSON, delete_options(params)),
        };
        self.client.raw(method, &path, Some(content_type), body).await.map(Some)
    }

    fn succeeded(&self, write: &Write, answer: &[u8], written: &mut Written) {
        let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
        let target = &write.target;
        match &write.verb {
            Verb::Delete(params) => written.deleted(target, params.uid.as_deref()),
            Verb::CreateSub(_) | Verb::DeleteCollection(_) => {}
            _ => written.wrote(&target.resource, &answer.metadata.resource_version),
        }
        if let Some(event) = &write.then {
            let name = if answer.metadata.name.is_empty() { &target.name } else { &answer.metadata.name };
            self.record(event, name, "");
        }
    }

    /// `None` where the write said this answer is fine.
    fn failed(&self, write: &Write, error: &Error) -> Option<WriteFailure> {
        let tolerate = write.tolerate;
        let fine = (tolerate.not_found && error.is_not_found())
            || (tolerate.already_exists && error.is_already_exists())
            || (tolerate.conflict && error.is_conflict());
        if fine {
            return None;
        }
        if tolerate.any {
            tracing::info!(target = %write.target, %error, "write failed; going on");
            return None;
        }
        let namespace_terminating = error.is_namespace_terminating();
        if let (Some(event), false) = (&write.on_failure, namespace_terminating) {
            self.record(event, &write.target.name, &error.to_string());
        }
        Some(WriteFailure {
            verb: write.verb.name(),
            kind: write.target.resource.kind.to_string(),
            reason: error.reason(),
            message: error.to_string(),
            namespace_terminating,
        })
    }

    fn record(&self, event: &PlannedEvent, name: &str, suffix: &str) {
        let message = event.message.replace("{name}", name) + suffix;
        self.recorder.event(event.regarding.clone(), event.kind, event.reason, message);
    }
}

const JSON: &str = "application/json";

/// Creations and deletions of one kind do not depend on each other.
fn together(first: &Write, next: &Write) -> bool {
    let same_verb = matches!(
        (&first.verb, &next.verb),
        (Verb::Create, Verb::Create)
            | (Verb::Delete(_), Verb::Delete(_))
            | (Verb::CreateSub(_), Verb::CreateSub(_))
            | (Verb::DeleteCollection(_), Verb::DeleteCollection(_))
    );
    let is_collection = matches!(first.verb, Verb::DeleteCollection(_));
    same_verb && (is_collection || first.target.resource == next.target.resource)
}

impl Verb {
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Create | Verb::CreateSub(_) => "create",
            Verb::Update | Verb::UpdateStatus | Verb::UpdateSub(_) => "update",
            Verb::Patch { .. } => "patch",
            Verb::Delete(_) | Verb::DeleteCollection(_) => "delete",
        }
    }
}

fn delete_options(params: &DeleteParams) -> Bytes {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = params.grace_period_seconds {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(propagation) = params.propagation {
        options["propagationPolicy"] = Value::from(match propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        });
    }
    if let Some(uid) = &params.uid {
        options["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(version) = &params.resource_version {
        options["preconditions"]["resourceVersion"] = version.as_str().into();
    }
    options.to_string().into()
}
