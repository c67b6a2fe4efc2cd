//! A namespace's policy: the levels and versions in its labels (upstream `pod-security-admission/api/helpers.go`).

use std::fmt;

use api::status::FieldError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        Some(match text {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// The release whose checks apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// `v1.N`.
    Minor(u32),
    Latest,
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let is_plain = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        if is_plain { minor.parse().ok().map(Version::Minor) } else { None }
    }
}

/// A level as a version defines it; prints as `baseline:v1.30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.as_str()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// What is refused, what is written to the audit log, and what is warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// From a namespace's labels; without any, everything is allowed. A label that cannot be read counts as the strictest
    /// for what is refused and as none for the rest, and is among the errors.
    pub(super) fn of<'l>(label: impl Fn(&str) -> Option<&'l str>) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut mode = |name: &str, fallback: Level| {
            let mut found = LevelVersion { level: Level::Privileged, version: Version::Latest };
            let key = format!("pod-security.kubernetes.io/{name}");
            let field = |key: &str| format!("metadata.labels[{key}]");
            let level = label(&key);
            if let Some(text) = level {
                found.level = Level::parse(text).unwrap_or_else(|| {
                    errors.push(FieldError::invalid(
                        field(&key),
                        text,
                        "must be one of privileged, baseline, restricted",
                    ));
                    fallback
                });
            }
            let key = format!("{key}-version");
            let version = label(&key);
            if let Some(text) = version {
                found.version = Version::parse(text).unwrap_or_else(|| {
                    errors.push(FieldError::invalid(field(&key), text, "must be \"latest\" or \"v1.x\""));
                    Version::Latest
                });
            }
            let is_readable = level.is_some_and(|text| Level::parse(text).is_some());
            (found, level.is_some(), is_readable, version.is_some())
        };
        let (enforce, _, enforces, _) = mode("enforce", Level::Restricted);
        let (audit, ..) = mode("audit", Level::Privileged);
        let (mut warn, warns, _, has_version) = mode("warn", Level::Privileged);
        // What is refused in pods is warned of where they are only described.
        if !warns && enforces && enforce.level > warn.level {
            warn.level = enforce.level;
            if !has_version {
                warn.version = enforce.version;
            }
        }
        (Policy { enforce, audit, warn }, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_make_a_policy() {
        type Labels = &'static [(&'static str, &'static str)];
        let cases: [(Labels, &str, &str); 7] = [
            (&[], "privileged:latest", "privileged:latest"),
            (&[("enforce", "baseline")], "baseline:latest", "baseline:latest"),
            (&[("enforce", "restricted"), ("enforce-version", "v1.20")], "restricted:v1.20", "restricted:v1.20"),
            (&[("enforce", "restricted"), ("warn", "baseline")], "restricted:latest", "baseline:latest"),
            (&[("warn", "baseline"), ("warn-version", "v1.8")], "privileged:latest", "baseline:v1.8"),
            (&[("enforce", "nonsense")], "restricted:latest", "privileged:latest"),
            (&[("enforce", "baseline"), ("enforce-version", "v1.08")], "baseline:latest", "baseline:latest"),
        ];
        for (labels, enforce, warn) in cases {
            let (policy, errors) = Policy::of(|key| {
                let name = key.strip_prefix("pod-security.kubernetes.io/")?;
                labels.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
            });
            assert_eq!(
                (policy.enforce.to_string().as_str(), policy.warn.to_string().as_str()),
                (enforce, warn),
                "{labels:?}"
            );
            let is_bad = labels.iter().any(|(_, value)| ["nonsense", "v1.08"].contains(value));
            assert_eq!(!errors.is_empty(), is_bad, "{labels:?}");
        }
    }
}
