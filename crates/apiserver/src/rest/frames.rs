//! How a watcher is shown what happens: the form of the objects, and the frames around them.

use std::sync::Arc;

use api::{Resource, Status, Value, protobuf};
use bytes::Bytes;
use store::Revision;

use super::{Call, respond};
use crate::{
    Clock,
    cache::{Event, EventKind, Object, frame},
    negotiate::{self, Form, Format, JSON},
};

/// How objects are shown to one watcher.
pub(super) struct Transform {
    resource: Arc<Resource>,
    format: Format,
    form: Form,
    include: Option<String>,
    clock: Arc<dyn Clock>,
    /// A table's columns have been sent.
    headed: bool,
}

impl Transform {
    pub(super) fn of(call: &Call<'_>) -> Transform {
        // Upstream has no stream of YAML documents either.
        let format = if call.accept.format == Format::Protobuf { Format::Protobuf } else { Format::Json };
        let include = call.query.get("includeObject").map(Into::into);
        Transform {
            resource: call.resource.clone(),
            format,
            form: call.accept.form,
            include,
            clock: call.server.clock.clone(),
            headed: false,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => JSON,
        }
    }

    pub(super) fn object(&mut self, kind: &str, object: &Object) -> Bytes {
        match self.form {
            Form::Object | Form::Discovery if self.format == Format::Protobuf => self.protobuf_frame(kind, object),
            Form::Object | Form::Discovery => frame(kind, &object.as_version(&self.resource)),
            Form::PartialMetadata => self.frame(kind, respond::partial(&object.tree()).to_json()),
            Form::Table => {
                let rows = if self.headed { crate::table::Rows::Next } else { crate::table::Rows::One };
                self.headed = true;
                let table = crate::table::of_objects(
                    &self.resource,
                    &[object.tree()],
                    rows,
                    self.include.as_deref(),
                    self.clock.now(),
                );
                frame(kind, &table.to_json())
            }
        }
    }

    /// `own_version`: the watcher asked for the version that objects are stored as, so it shares its frames.
    pub(super) fn event(&mut self, kind: EventKind, event: &Event, own_version: bool) -> Bytes {
        match self.format {
            _ if self.form != Form::Object || !own_version => self.object(kind.as_str(), &event.object),
            Format::Protobuf => event.protobuf_frame(kind, || self.protobuf_frame(kind.as_str(), &event.object)),
            _ => event.frame(kind),
        }
    }

    pub(super) fn error(&self, status: &Status) -> Bytes {
        self.frame("ERROR", status.to_json())
    }

    pub(super) fn bookmark(&self, revision: Revision, end_of_list: bool) -> Bytes {
        let mut object = Value::object();
        object.set(&["kind"], &*self.resource.kind.kind);
        object.set(&["apiVersion"], self.resource.kind.api_version());
        object.set(&["metadata", "resourceVersion"], revision.to_string());
        if end_of_list {
            object.set(&["metadata", "annotations", "k8s.io/initial-events-end"], "true");
        }
        if self.form == Form::PartialMetadata {
            object = respond::partial(&object);
        }
        self.frame("BOOKMARK", object.to_json())
    }

    fn protobuf_frame(&self, kind: &str, object: &Object) -> Bytes {
        match object.protobuf(&self.resource) {
            Ok(message) => protobuf::watch_frame(kind, &message).into(),
            Err(error) => self.error(&Status::internal(error)),
        }
    }

    fn frame(&self, kind: &str, json: Vec<u8>) -> Bytes {
        if self.format != Format::Protobuf {
            return frame(kind, &json);
        }
        match negotiate::encode(self.format, json.into()) {
            Ok(message) => protobuf::watch_frame(kind, &message).into(),
            Err(status) => {
                tracing::error!(status = status.message, "an object of a watch has no protobuf form");
                Bytes::new()
            }
        }
    }
}
