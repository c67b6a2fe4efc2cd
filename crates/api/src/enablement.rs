//! Which of the built-in APIs are served: `--runtime-config` (apiserver `pkg/server/resourceconfig/helpers.go` and
//! `pkg/server/options/api_enablement.go`). By default those of the form `v1` are, betas and alphas are not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{go, resource::ResourceTable};

/// A set of versions, and whether a version is in it.
type Named = (&'static str, fn(&str) -> bool);

/// Sets of versions that have names, in the order in which they are applied.
const SETS: [Named; 4] = [
    ("api/all", |_| true),
    ("api/ga", is_stable),
    ("api/beta", |version| stage(version) == Some("beta")),
    ("api/alpha", |version| stage(version) == Some("alpha")),
];

/// What an administrator has turned on and off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeConfig {
    /// In the order of [`SETS`]; the last one that a version is in counts.
    sets: Vec<(usize, bool)>,
    /// By group and version; counts for more than sets.
    versions: BTreeMap<(String, String), bool>,
    /// By group, version and plural; counts for most.
    resources: BTreeMap<(String, String, String), bool>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RuntimeConfigError {
    #[error("invalid runtime-config with only api/all=false")]
    NothingLeft,
    #[error("runtime-config invalid key {0}")]
    Key(String),
    #[error("unknown api groups {0}")]
    Groups(String),
    #[error("group version {0} that has not been registered")]
    Version(String),
    #[error("invalid value {key}={value}")]
    SetValue { key: String, value: String },
    #[error("invalid value of {key}: {value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    Value { key: String, value: String },
    #[error(
        "invalid key {key}: group/version/resource and resource is always lowercase plural, not {:?}",
        key.rsplit('/').next().unwrap_or_default()
    )]
    Case { key: String },
}

impl RuntimeConfig {
    /// Reads the flag's `KEY=true|false` pairs, of which the last one of a key counts; `KEY` alone is true. Keys are those
    /// of sets, `GROUP/VERSION` or `GROUP/VERSION/RESOURCE`.
    pub fn parse<S: AsRef<str>>(pairs: &[S]) -> Result<RuntimeConfig, RuntimeConfigError> {
        let pairs: BTreeMap<&str, &str> = pairs
            .iter()
            .flat_map(|pair| pair.as_ref().split(','))
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        if pairs.len() == 1 && pairs.get("api/all") == Some(&"false") {
            return Err(RuntimeConfigError::NothingLeft);
        }
        let mut config = RuntimeConfig::default();
        for (at, (key, _)) in SETS.iter().enumerate() {
            match pairs.get(key).copied() {
                None => {}
                Some("true") => config.sets.push((at, true)),
                Some("false") => config.sets.push((at, false)),
                Some(value) => {
                    return Err(RuntimeConfigError::SetValue { key: (*key).into(), value: value.into() });
                }
            }
        }
        config.read_versions(pairs.into_iter().filter(|(key, _)| SETS.iter().all(|(set, _)| set != key)))?;
        Ok(config)
    }

    fn read_versions<'p>(&mut self, pairs: impl Iterator<Item = (&'p str, &'p str)>) -> Result<(), RuntimeConfigError> {
        let table = ResourceTable::builtin();
        let mut unknown = BTreeSet::new();
        for (key, value) in pairs {
            let (group, version, resource) = match key.split('/').collect::<Vec<_>>()[..] {
                [group, version] => (group, version, None),
                [group, version, resource] => (group, version, Some(resource)),
                _ => return Err(RuntimeConfigError::Key(key.into())),
            };
            if table.group(group).is_none() {
                unknown.insert(format!("{group}/{version}"));
                continue;
            }
            if table.version(group, version).is_none() {
                return Err(RuntimeConfigError::Version(format!("{group}/{version}")));
            }
            let enabled = nothing_or_bool(value)
                .ok_or_else(|| RuntimeConfigError::Value { key: key.into(), value: value.into() })?;
            match resource {
                None => self.versions.insert((group.into(), version.into()), enabled),
                Some(resource) if resource != resource.to_lowercase() => {
                    return Err(RuntimeConfigError::Case { key: key.into() });
                }
                Some(resource) => self.resources.insert((group.into(), version.into(), resource.into()), enabled),
            };
        }
        if unknown.is_empty() {
            return Ok(());
        }
        Err(RuntimeConfigError::Groups(unknown.into_iter().collect::<Vec<_>>().join(",")))
    }

    /// Whether a resource of the built-in table is served.
    pub fn enables(&self, group: &str, version: &str, plural: &str) -> bool {
        let of_resource = self.resources.iter().find(|((g, v, r), _)| g == group && v == version && r == plural);
        let of_version = self.versions.iter().find(|((g, v), _)| g == group && v == version);
        let of_set = self.sets.iter().rev().find(|(at, _)| SETS[*at].1(version));
        let said = of_resource.map(|(_, enabled)| *enabled);
        let said = said.or(of_version.map(|(_, enabled)| *enabled)).or(of_set.map(|(_, enabled)| *enabled));
        said.unwrap_or_else(|| is_stable(version))
    }
}

/// Nothing is true.
fn nothing_or_bool(value: &str) -> Option<bool> {
    if value.is_empty() { Some(true) } else { go::parse_bool(value) }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_stable(version: &str) -> bool {
    version.strip_prefix('v').is_some_and(is_number)
}

/// `beta` of `v1beta2`.
fn stage(version: &str) -> Option<&'static str> {
    let rest = version.strip_prefix('v')?;
    ["alpha", "beta"]
        .into_iter()
        .find(|stage| rest.split_once(stage).is_some_and(|(major, minor)| is_number(major) && is_number(minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_exact_word_counts() {
        for (flag, resource, expected) in [
            ("", ("apps", "v1", "deployments"), true),
            ("", ("resource.k8s.io", "v1beta1", "resourceclaims"), false),
            ("", ("resource.k8s.io", "v1alpha3", "devicetaintrules"), false),
            ("api/all=true", ("resource.k8s.io", "v1alpha3", "devicetaintrules"), true),
            ("api/beta=true", ("resource.k8s.io", "v1beta1", "resourceclaims"), true),
            ("api/beta=true", ("resource.k8s.io", "v1alpha3", "devicetaintrules"), false),
            ("api/alpha=true,api/all=false", ("resource.k8s.io", "v1alpha3", "devicetaintrules"), true),
            ("api/alpha=true,api/all=false", ("apps", "v1", "deployments"), false),
            ("api/ga=false", ("apps", "v1", "deployments"), false),
            ("api/all=false,apps/v1", ("apps", "v1", "deployments"), true),
            ("api/beta=true,resource.k8s.io/v1beta1=false", ("resource.k8s.io", "v1beta1", "resourceclaims"), false),
            ("batch/v1/cronjobs=0", ("batch", "v1", "cronjobs"), false),
            ("batch/v1/cronjobs=0", ("batch", "v1", "jobs"), true),
            ("batch/v1=false,batch/v1/jobs=true", ("batch", "v1", "jobs"), true),
            ("resource.k8s.io/v1beta1/resourceclaims=true", ("resource.k8s.io", "v1beta1", "resourceslices"), false),
        ] {
            let config = RuntimeConfig::parse(&[flag]).unwrap();
            let (group, version, plural) = resource;
            assert_eq!(config.enables(group, version, plural), expected, "{flag} {plural}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (flag, expected) in [
            ("api/all=false", "invalid runtime-config with only api/all=false"),
            ("v1=true", "runtime-config invalid key v1"),
            ("api/beta=yes", "invalid value api/beta=yes"),
            ("nonsense/v1=true,more/v2", "unknown api groups more/v2,nonsense/v1"),
            ("apps/v7=true", "group version apps/v7 that has not been registered"),
            ("apps/v1=yes", "invalid value of apps/v1: yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax"),
            (
                "apps/v1/Deployment=true",
                "invalid key apps/v1/Deployment: group/version/resource and resource is always lowercase plural, not \"Deployment\"",
            ),
        ] {
            assert_eq!(RuntimeConfig::parse(&[flag]).unwrap_err().to_string(), expected);
        }
    }
}
