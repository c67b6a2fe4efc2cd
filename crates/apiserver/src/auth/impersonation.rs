//! Acting as somebody else: the headers, and what must be allowed for them.

use api::Status;
use http::HeaderMap;

use super::{Attributes, UserInfo};

/// Who is to be acted as, and what that takes.
pub struct Impersonation {
    pub user: UserInfo,
    pub checks: Vec<Check>,
}

/// One thing that is impersonated: verb `impersonate` on users, groups, serviceaccounts, uids or userextras/KEY.
pub struct Check {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

impl Check {
    pub fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            user,
            verb: "impersonate",
            is_resource: true,
            path: "",
            group: self.group,
            version: "v1",
            resource: self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
        }
    }
}

/// `None` where nobody is impersonated.
pub fn impersonation(headers: &HeaderMap) -> Result<Option<Impersonation>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let name = text("impersonate-user");
    let uid = text("impersonate-uid");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let extras: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(key, value)| Some((key.as_str().strip_prefix("impersonate-extra-")?, value.to_str().ok()?)))
        .map(|(key, value)| (crate::request::unescape(key, false), value.to_owned()))
        .collect();
    if name.is_empty() {
        if !groups.is_empty() || !extras.is_empty() || !uid.is_empty() {
            return Err(Status::bad_request(
                "requested impersonation of groups, extra or uid without impersonating a user",
            ));
        }
        return Ok(None);
    }
    let check = |group, resource, subresource: &str, namespace: &str, name: &str| Check {
        group,
        resource,
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut checks = Vec::new();
    let mut implied = Vec::new();
    match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            checks.push(check("", "serviceaccounts", "", namespace, account));
            if groups.is_empty() {
                implied = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => checks.push(check("", "users", "", "", &name)),
    }
    checks.extend(groups.iter().map(|group| check("", "groups", "", "", group)));
    checks.extend(extras.iter().map(|(key, value)| check(AUTHENTICATION, "userextras", key, "", value)));
    if !uid.is_empty() {
        checks.push(check(AUTHENTICATION, "uids", "", "", &uid));
    }
    let mut user = if name == super::ANONYMOUS {
        UserInfo { name, groups, ..UserInfo::anonymous() }
    } else {
        UserInfo::authenticated(name, groups.into_iter().chain(implied))
    };
    user.uid = uid;
    for (key, value) in extras {
        user.extra.entry(key).or_default().push(value);
    }
    Ok(Some(Impersonation { user, checks }))
}
