//! The verbs of the API, once for all resources.

mod create;
mod delete;
mod frames;
mod list;
mod list_options;
pub(crate) mod management;
mod options;
mod read;
mod respond;
mod update;
mod warnings;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use api::{Resource, ResourceTable, Status, resource::Verb};
use bytes::Bytes;
use http::{HeaderMap, Response};
use net::Body;
pub(crate) use warnings::Warnings;

use crate::{
    Server,
    auth::UserInfo,
    cache::ReadError,
    negotiate::Accept,
    request::{Query, RequestInfo},
};

pub(crate) use delete::{
    DELETIONS_AT_ONCE, DeleteOptions, FOREGROUND as FOREGROUND_FINALIZER, ORPHAN as ORPHAN_FINALIZER,
};
pub(crate) use options::WriteOptions;
pub(crate) use respond::{failure, partial, respond, respond_json};
pub(crate) use update::Edit;
pub(crate) use write::{BODY_BYTES_MAX, Change, Scope};

/// One request to a resource, authorized.
pub struct Call<'a> {
    pub server: &'a Arc<Server>,
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub user: &'a UserInfo,
    pub resource: Arc<Resource>,
    pub accept: Accept,
    pub body: Bytes,
    /// Where what the client is told besides goes, if somebody listens.
    pub warnings: Option<&'a Warnings>,
}

pub type Answer = Result<Response<Body>, Status>;

impl Call<'_> {
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        if let Some(all) = self.warnings {
            all.add(warnings);
        }
    }

    /// The beginning that all keys of the request's namespace share; empty for all namespaces.
    fn namespace_prefix(&self) -> String {
        if self.resource.namespaced && !self.info.namespace.is_empty() {
            format!("{}/", self.info.namespace)
        } else {
            String::new()
        }
    }

    /// Serves the resource itself or one of its subresources that read and write the same object.
    pub async fn serve(self) -> Answer {
        let verb = Verb::parse(self.info.verb).ok_or_else(Status::method_not_allowed)?;
        if !self.info.subresource.is_empty() {
            let sub = self.resource.subresource(&self.info.subresource).ok_or_else(Status::no_such_resource)?;
            if !sub.verbs.contains(&verb) {
                return Err(Status::method_not_allowed());
            }
        }
        if !self.resource.allows(verb) && self.info.subresource.is_empty() {
            return Err(Status::method_not_allowed());
        }
        // Collections are created in; single objects are replaced, patched and deleted.
        let on_one = !self.info.name.is_empty();
        if matches!(verb, Verb::Update | Verb::Patch) && !on_one || verb == Verb::Create && on_one {
            return Err(Status::method_not_allowed());
        }
        if self.resource.namespaced
            && self.info.namespace.is_empty()
            && !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection | Verb::Create)
        {
            return Err(Status::no_such_resource());
        }
        if !self.resource.namespaced && !self.info.namespace.is_empty() && &*self.resource.plural != "namespaces" {
            return Err(Status::no_such_resource());
        }
        if &*self.resource.kind.kind == "ComponentStatus" && self.resource.group.is_empty() {
            return crate::components::serve(&self).await;
        }
        match verb {
            Verb::Get => self.get().await,
            Verb::List => self.list().await,
            Verb::Watch => self.watch().await,
            Verb::Create => self.create().await,
            Verb::Update => self.update().await,
            Verb::Patch => self.patch().await,
            Verb::Delete => self.delete().await,
            Verb::DeleteCollection => self.delete_collection().await,
        }
    }

    /// See [`ResourceTable::hub`].
    pub(crate) fn hub(&self) -> &Arc<Resource> {
        ResourceTable::hub(&self.resource)
    }

    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.hub().group, &self.resource.plural, name)
    }

    /// A change of the object that the request names, through the endpoint that it came to.
    pub(crate) fn change<'c>(&'c self, dry_run: bool, manager: Option<&'c str>) -> Change<'c> {
        Change {
            server: self.server,
            resource: self.hub(),
            served: &self.resource,
            verb: self.info.verb,
            subresource: &self.info.subresource,
            namespace: &self.info.namespace,
            name: &self.info.name,
            user: self.user,
            dry_run,
            manager,
        }
    }
}

/// A failure of the store in the API's terms. Conflicts and absence are handled where their meaning is known.
pub(crate) fn store_status(error: store::Error) -> Status {
    match error {
        store::Error::TooLarge { bytes, limit, .. } => Status::too_large(format!(
            "Request is too large: object of {bytes} bytes is above the store's limit of {limit} bytes"
        )),
        store::Error::NoSpace { message } => Status::failure(
            api::status::Reason::InternalError,
            format!("the store is out of space, nothing was written: {message}"),
        ),
        store::Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        store::Error::Unavailable { message } => Status::unavailable(format!("store unavailable: {message}")),
        // As upstream answers where etcd timed out: whoever asks again must look first.
        store::Error::Unknown { message } => {
            Status::timeout(format!("the outcome of the write is not known: {message}"), 0)
        }
        other => Status::internal(other),
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Status {
        match error {
            ReadError::Behind(behind) => Status::timeout(behind.to_string(), 1),
            ReadError::Store(error) => store_status(error),
        }
    }
}
