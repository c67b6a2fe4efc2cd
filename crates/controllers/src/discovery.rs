//! Every resource the API serves, custom ones included: what the garbage collector and the namespace controller work on.

use api::model::split_api_version;
use bytes::Bytes;
use client::Client;
use futures_util::future::join_all;
use http::Method;
use serde::Deserialize;

use crate::plan::ResourceId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub id: ResourceId,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn has_verbs(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|has| has == verb))
    }
}

/// Resources in their group's preferred version, without subresources.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    pub resources: Vec<Resource>,
    /// Group versions that did not answer (an aggregated API whose server is away).
    pub failed: Vec<String>,
}

impl Discovered {
    /// The resource an owner reference's apiVersion and kind name, in whatever version.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, _) = split_api_version(api_version);
        self.resources.iter().find(|resource| resource.id.group == group && resource.id.kind == kind)
    }
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    #[serde(default)]
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Clone, Deserialize, PartialEq)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ListedResource>,
}

#[derive(Deserialize)]
struct ListedResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

async fn get<T: for<'a> Deserialize<'a>>(client: &Client, path: &str) -> client::Result<T> {
    let body = client.raw(Method::GET, path, None, Bytes::new()).await?;
    serde_json::from_slice(&body)
        .map_err(|error| client::Error::Decode { what: path.into(), message: error.to_string() })
}

/// Asks for all groups and versions (client-go `ServerPreferredResources`). An error only where the core of it fails.
pub async fn discover(client: &Client) -> client::Result<Discovered> {
    let groups: GroupList = get(client, "/apis").await?;
    let mut versions = vec![(String::new(), "v1".to_owned())];
    for group in groups.groups {
        let preferred = group.preferred_version.clone();
        let others = group.versions.into_iter().filter(|version| Some(version) != preferred.as_ref());
        for version in preferred.iter().cloned().chain(others) {
            versions.push((group.name.clone(), version.version));
        }
    }
    let answers = join_all(versions.iter().map(|(group, version)| resources(client, group, version))).await;
    let mut discovered = Discovered::default();
    for ((group, version), answer) in versions.iter().zip(answers) {
        match answer {
            Ok(found) => add(&mut discovered.resources, found),
            Err(error) => {
                tracing::info!(%group, %version, %error, "discovery failed");
                discovered.failed.push(format!("{group}/{version}"));
            }
        }
    }
    Ok(discovered)
}

/// Keeps what an earlier, preferred version already has.
fn add(resources: &mut Vec<Resource>, found: Vec<Resource>) {
    for resource in found {
        let is_same =
            |known: &Resource| known.id.group == resource.id.group && known.id.resource == resource.id.resource;
        if !resources.iter().any(is_same) {
            resources.push(resource);
        }
    }
}

async fn resources(client: &Client, group: &str, version: &str) -> client::Result<Vec<Resource>> {
    let path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let list: ResourceList = get(client, &path).await?;
    let listed = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    Ok(listed
        .map(|resource| Resource {
            id: ResourceId {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                resource: resource.name.into(),
                kind: resource.kind.into(),
                namespaced: resource.namespaced,
            },
            verbs: resource.verbs,
        })
        .collect())
}
