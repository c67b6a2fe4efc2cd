//! Who is asking, and may they: the types that authentication and authorization share.

mod authentication;
mod authorization;
mod bootstrap;
mod impersonation;
pub(crate) mod keyset;
pub(crate) mod node;
pub(crate) mod rbac;
mod reviews;
mod tokens;

use std::{collections::BTreeMap, sync::Arc};

use crate::request::RequestInfo;

pub use authentication::Authentication;
pub use authorization::Authorization;
pub(crate) use impersonation::impersonation;
pub(crate) use reviews::{review, token_request};

/// An authenticated identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const AUTHENTICATED: &str = "system:authenticated";
/// Members may do everything; not even RBAC is asked.
pub const MASTERS: &str = "system:masters";

impl UserInfo {
    /// A user with these groups, as one that has proven who they are.
    pub fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> UserInfo {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        UserInfo { name: name.into(), groups, ..UserInfo::default() }
    }

    pub fn anonymous() -> UserInfo {
        UserInfo { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..UserInfo::default() }
    }

    /// The server itself, in what it does of its own accord.
    pub fn apiserver() -> UserInfo {
        UserInfo::authenticated("system:apiserver", [MASTERS.to_owned()])
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}

/// What authorization decides on: upstream's `authorizer.Attributes`.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub verb: &'a str,
    /// False for a path that is no resource: then only `path` and `verb` count.
    pub is_resource: bool,
    pub path: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
        Attributes {
            user,
            verb: info.verb,
            is_resource: info.is_resource,
            path: &info.path,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        reason: Arc<str>,
    },
    /// Forbidden, whatever other authorizers say.
    Deny {
        reason: Arc<str>,
    },
    NoOpinion {
        reason: Arc<str>,
    },
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow { .. })
    }
}
