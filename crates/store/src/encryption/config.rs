//! Upstream's EncryptionConfiguration file (apiserver.config.k8s.io/v1), and what must hold of it:
//! apiserver/pkg/apis/apiserver/validation/validation_encryption.go.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use crate::{Error, Result};

const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";
const KMS_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EncryptionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub resources: Vec<ResourceConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourceConfiguration {
    #[serde(default)]
    pub resources: Vec<String>,
    #[serde(default)]
    pub providers: Vec<ProviderConfiguration>,
}

/// Exactly one is set.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProviderConfiguration {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<KmsConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    name: String,
    /// base64.
    secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KmsConfiguration {
    #[serde(default)]
    api_version: String,
    name: String,
    #[serde(rename = "cachesize")]
    cache_size: Option<i32>,
    endpoint: String,
    timeout: Option<String>,
}

/// What one entry of `providers` asks for. The first key of the first provider writes; all read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Identity,
    AesGcm(Vec<NamedKey>),
    AesCbc(Vec<NamedKey>),
    Secretbox(Vec<NamedKey>),
    Kms(KmsPlugin),
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct NamedKey {
    pub name: String,
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedKey").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KmsPlugin {
    pub name: String,
    pub socket: PathBuf,
    pub timeout: Duration,
}

/// Resources and providers, in the file's order. Errors name the place.
pub(super) fn parse(yaml: &str) -> Result<Vec<(Vec<GroupResource>, Vec<Provider>)>> {
    let file: EncryptionConfiguration = serde_saphyr::from_str(yaml).map_err(|error| invalid("file", &error))?;
    if (file.api_version.as_str(), file.kind.as_str()) != (API_VERSION, KIND) {
        return Err(invalid("file", &format!("it must be {API_VERSION}, kind {KIND}")));
    }
    if file.resources.is_empty() {
        return Err(invalid("resources", &"at least one is required"));
    }
    let mut plugins = HashSet::new();
    let mut all = Vec::new();
    for (n, entry) in file.resources.into_iter().enumerate() {
        let resources = resources(&format!("resources[{n}].resources"), &entry.resources)?;
        let place = format!("resources[{n}].providers");
        if entry.providers.is_empty() {
            return Err(invalid(&place, &"at least one is required"));
        }
        let mut providers = Vec::new();
        for (n, provider) in entry.providers.into_iter().enumerate() {
            let place = format!("{place}[{n}]");
            let provider = provider.checked(&place)?;
            if let Provider::Kms(plugin) = &provider
                && !plugins.insert(plugin.name.clone())
            {
                return Err(invalid(&place, &format!("duplicate KMS provider name {}", plugin.name)));
            }
            providers.push(provider);
        }
        all.push((resources, providers));
    }
    Ok(all)
}

/// A resource, or with `*` all resources of a group or of all groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupResource {
    pub group: String,
    pub resource: String,
}

impl GroupResource {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
    fn parse(text: &str) -> GroupResource {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        GroupResource { group: group.to_owned(), resource: resource.to_owned() }
    }

    /// Whether everything that `other` selects is selected by this.
    pub fn covers(&self, other: &GroupResource) -> bool {
        (self.group == "*" || self.group == other.group) && (self.resource == "*" || self.resource == other.resource)
    }
}

fn resources(place: &str, names: &[String]) -> Result<Vec<GroupResource>> {
    if names.is_empty() {
        return Err(invalid(place, &"at least one is required"));
    }
    let mut all: Vec<GroupResource> = Vec::new();
    for name in names {
        let parsed = GroupResource::parse(name);
        let bad = |why: &str| Err(invalid(place, &format!("{name:?}: {why}")));
        if name == "*" {
            return bad("use '*.' for all resources of the core group or '*.*' for all resources");
        }
        if parsed.resource.is_empty() || (parsed.group == "*" && parsed.resource != "*") {
            return bad("the same resource of all groups cannot be encrypted");
        }
        if name.contains(char::is_uppercase) {
            return bad("a resource name has no capital letters");
        }
        if parsed.group == "events.k8s.io" {
            return bad("events are stored in the core group; use 'events'");
        }
        if all.iter().any(|other| other.covers(&parsed) || parsed.covers(other)) {
            return bad("it overlaps with another one of the list");
        }
        all.push(parsed);
    }
    Ok(all)
}

impl ProviderConfiguration {
    fn checked(self, place: &str) -> Result<Provider> {
        let mut all = Vec::new();
        for (name, keys, sizes, provider) in [
            ("aesgcm", self.aesgcm, &[16, 24, 32][..], Provider::AesGcm as fn(Vec<NamedKey>) -> Provider),
            ("aescbc", self.aescbc, &[16, 24, 32][..], Provider::AesCbc),
            ("secretbox", self.secretbox, &[32][..], Provider::Secretbox),
        ] {
            if let Some(keys) = keys {
                all.push(provider(keys.checked(&format!("{place}.{name}.keys"), sizes)?));
            }
        }
        if let Some(kms) = self.kms {
            all.push(Provider::Kms(kms.checked(&format!("{place}.kms"))?));
        }
        if self.identity.is_some() {
            all.push(Provider::Identity);
        }
        match (all.pop(), all.is_empty()) {
            (Some(provider), true) => Ok(provider),
            _ => Err(invalid(place, &"exactly one of aesgcm, aescbc, secretbox, identity and kms must be set")),
        }
    }
}

impl Keys {
    fn checked(self, place: &str, sizes: &[usize]) -> Result<Vec<NamedKey>> {
        if self.keys.is_empty() {
            return Err(invalid(place, &"at least one is required"));
        }
        let checked = |key: Key| {
            if key.name.is_empty() {
                return Err(invalid(place, &"a key needs a name"));
            }
            // The text of an error might hold a part of the secret.
            let secret = BASE64_STANDARD
                .decode(&key.secret)
                .map_err(|_| invalid(place, &format!("the secret of {} must be base64", key.name)))?;
            if !sizes.contains(&secret.len()) {
                let why =
                    format!("the secret of {} has {} bytes, and must have one of {sizes:?}", key.name, secret.len());
                return Err(invalid(place, &why));
            }
            Ok(NamedKey { name: key.name, secret })
        };
        self.keys.into_iter().map(checked).collect()
    }
}

impl KmsConfiguration {
    fn checked(self, place: &str) -> Result<KmsPlugin> {
        let bad = |why: &str| Err(invalid(place, &why));
        if self.api_version != "v2" {
            return bad(
                "only apiVersion v2 is supported; v1 (which is also the default) is deprecated and off upstream",
            );
        }
        if self.name.is_empty() || self.name.contains(':') {
            return bad("the name must be there and must not contain ':'");
        }
        if self.cache_size.is_some() {
            return bad("cachesize is not supported in v2");
        }
        let Some(socket) = self.endpoint.strip_prefix("unix://").filter(|path| !path.is_empty()) else {
            return bad("the endpoint must be unix://PATH");
        };
        let timeout = match &self.timeout {
            None => KMS_TIMEOUT,
            Some(text) => match duration(text).filter(|timeout| !timeout.is_zero()) {
                Some(timeout) => timeout,
                None => return bad("timeout should be a positive duration, as 3s"),
            },
        };
        Ok(KmsPlugin { name: self.name, socket: socket.into(), timeout })
    }
}

/// A duration as Go writes it: `3s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_and_rest = &rest[digits..];
        let unit = unit_and_rest.find(|c: char| c.is_ascii_digit()).unwrap_or(unit_and_rest.len());
        let part = match &unit_and_rest[..unit] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = &unit_and_rest[unit..];
    }
    Some(total)
}

fn invalid(place: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Misconfigured { message: format!("encryption configuration: {place}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(resources: &str, providers: &str) -> String {
        format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nresources:\n- resources: {resources}\n  providers: {providers}\n"
        )
    }

    #[test]
    fn a_file_says_who_writes_and_who_reads() {
        let yaml = with(
            "[secrets, deployments.apps, '*.batch']",
            "[{aescbc: {keys: [{name: k2, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}, {identity: {}}, \
             {kms: {apiVersion: v2, name: plugin, endpoint: 'unix:///run/kms.sock', timeout: 1m500ms}}]",
        );
        let parsed = parse(&yaml).unwrap();
        let names: Vec<_> = parsed[0].0.iter().map(|r| (r.resource.as_str(), r.group.as_str())).collect();
        assert_eq!(names, [("secrets", ""), ("deployments", "apps"), ("*", "batch")]);
        let key = NamedKey { name: "k2".into(), secret: b"0123456789abcdef".to_vec() };
        let timeout = Duration::from_millis(60_500);
        let plugin = KmsPlugin { name: "plugin".into(), socket: "/run/kms.sock".into(), timeout };
        assert_eq!(parsed[0].1, [Provider::AesCbc(vec![key]), Provider::Identity, Provider::Kms(plugin)]);
        assert!(!format!("{parsed:?}").contains("48, 49"), "secrets are not printed");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let identity = "[{identity: {}}]";
        let kms = |fields: &str| format!("[{{kms: {{name: a, {fields}}}}}]");
        for (what, yaml) in [
            ("not YAML", "{".to_owned()),
            ("another kind", with("[secrets]", identity).replace(KIND, "Pod")),
            ("another version", with("[secrets]", identity).replace("/v1", "/v9")),
            ("an unknown field", with("[secrets]", "[{identity: {}, aesxyz: {}}]")),
            ("no resources", with("[]", identity)),
            ("no providers", with("[secrets]", "[]")),
            ("an empty provider", with("[secrets]", "[{}]")),
            (
                "two providers in one",
                with("[secrets]", "[{identity: {}, aescbc: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}]"),
            ),
            ("no keys", with("[secrets]", "[{aesgcm: {keys: []}}]")),
            (
                "a key without a name",
                with("[secrets]", "[{aesgcm: {keys: [{name: '', secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}]"),
            ),
            ("a short key", with("[secrets]", "[{aesgcm: {keys: [{name: a, secret: MDEy}]}}]")),
            ("a short key", with("[secrets]", "[{secretbox: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}]")),
            ("not base64", with("[secrets]", "[{aesgcm: {keys: [{name: a, secret: '%'}]}}]")),
            ("a star", with("['*']", identity)),
            ("a resource of all groups", with("['secrets.*']", identity)),
            ("capital letters", with("[Secrets]", identity)),
            ("events of the wrong group", with("['events.events.k8s.io']", identity)),
            ("an overlap", with("[secrets, '*.']", identity)),
            ("twice", with("[secrets, secrets]", identity)),
            ("KMS v1", with("[secrets]", &kms("endpoint: 'unix:///a'"))),
            ("KMS over TCP", with("[secrets]", &kms("apiVersion: v2, endpoint: 'tcp://a'"))),
            ("KMS with a cache", with("[secrets]", &kms("apiVersion: v2, endpoint: 'unix:///a', cachesize: 5"))),
            ("KMS without time", with("[secrets]", &kms("apiVersion: v2, endpoint: 'unix:///a', timeout: 0s"))),
        ] {
            assert!(matches!(parse(&yaml), Err(Error::Misconfigured { .. })), "{what}");
        }
    }
}
