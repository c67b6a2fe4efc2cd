//! GET of one object.

use std::{sync::Arc, time::Duration};

use api::Status;
use http::StatusCode;
use store::Revision;

use super::{Answer, Call};
use crate::cache::Object;

impl Call<'_> {
    pub(super) async fn get(&self) -> Answer {
        match self.query.get("resourceVersion") {
            None | Some("") => self.server.cache.wait_until_current().await?,
            Some("0") => {}
            Some(version) => self.wait_for_version(version).await?,
        }
        self.respond(StatusCode::OK, &*self.present()?)
    }

    /// The newest state of the object that the request names.
    pub(crate) async fn current(&self) -> Result<Arc<Object>, Status> {
        self.server.cache.wait_until_current().await?;
        self.present()
    }

    fn present(&self) -> Result<Arc<Object>, Status> {
        let shelf = self.server.cache.shelf(&self.resource).ok_or_else(Status::no_such_resource)?;
        let (namespace, name) = (&self.info.namespace, &self.info.name);
        shelf.get(&self.resource.object_key(namespace, name)).ok_or_else(|| self.not_found(name))
    }

    /// Answers once the cache shows a client's resourceVersion; one from the future is refused after a while.
    pub(super) async fn wait_for_version(&self, version: &str) -> Result<(), Status> {
        let wanted = parse_version(version)?;
        self.server.cache.wait_for(wanted, Duration::from_secs(3)).await.map_err(|behind| {
            let mut status = Status::timeout(
                format!("Timeout: Too large resource version: {}, current: {}", behind.want, behind.have),
                1,
            );
            if let Some(details) = &mut status.details {
                details.causes.push(api::status::Cause {
                    reason: "ResourceVersionTooLarge".into(),
                    message: "Too large resource version".into(),
                    field: String::new(),
                });
            }
            status
        })
    }
}

/// A resourceVersion that a client gives back to us.
pub(super) fn parse_version(version: &str) -> Result<Revision, Status> {
    version.parse().map(Revision).map_err(|_| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
        ))
    })
}
