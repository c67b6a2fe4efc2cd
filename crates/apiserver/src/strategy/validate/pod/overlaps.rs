//! Paths in a volume that are in each other's way (`pkg/api/pod/warnings.go`, warningsForOverlappingVirtualPaths).

use super::warnings::{ENOUGH, NEIGHBOURS_MAX};
use crate::strategy::validate::at::At;

/// A path without slashes at its end, and what puts something there; empty where that goes without saying.
#[derive(Clone, PartialEq)]
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
    }

    fn collides(&self, other: &Placed) -> bool {
        let within = |path: &str, outer: &str| {
            path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty()
            && !other.path.is_empty()
            && (within(&self.path, &other.path) || within(&other.path, &self.path))
    }
}

fn placed(at: &At, source: &str) -> Placed {
    Placed { path: at.text().trim_end_matches('/').to_owned(), source: source.to_owned() }
}

fn items(list: &At, source: &str) -> Vec<Placed> {
    list.items().map(|item| placed(&item.get("path"), source)).collect()
}

/// Adds paths to those that were there before, each with a word about those that it collides with.
fn add(known: &mut Vec<Placed>, paths: Vec<Placed>, volume: &str, kind: &str, out: &mut Vec<String>) {
    for path in paths {
        if out.len() > ENOUGH {
            return;
        }
        for other in known.iter().filter(|other| path.collides(other)) {
            let (path, other) = (path.shown(), other.shown());
            out.push(format!("volume {volume:?} ({kind}): overlapping paths: {path} with {other}"));
        }
        if known.len() < NEIGHBOURS_MAX {
            known.push(path);
        }
    }
}

pub(super) fn warn(volumes: &At, out: &mut Vec<String>) {
    for volume in volumes.items() {
        let name = volume.get("name").text();
        for (member, naming, kind) in [("configMap", "name", "ConfigMap"), ("secret", "secretName", "Secret")] {
            let source = volume.get(member);
            let kind = format!("{kind} {:?}", source.get(naming).text());
            add(&mut Vec::new(), items(&source.get("items"), ""), name, &kind, out);
        }
        let fields = volume.get("downwardAPI");
        add(&mut Vec::new(), items(&fields.get("items"), ""), name, "DownwardAPI", out);
        let projected = volume.get("projected");
        let mut paths = Vec::new();
        for source in projected.get("sources").items() {
            if source.is_empty() {
                out.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            add(&mut paths, projection(&source), name, "Projected", out);
        }
    }
}

fn projection(source: &At) -> Vec<Placed> {
    for (member, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let own = source.get(member);
        if own.get("items").is_set() {
            return items(&own.get("items"), &format!("{kind} {:?}", own.get("name").text()));
        }
    }
    let (fields, token) = (source.get("downwardAPI"), source.get("serviceAccountToken"));
    let (bundle, certificate) = (source.get("clusterTrustBundle"), source.get("podCertificate"));
    if fields.get("items").is_set() {
        return items(&fields.get("items"), "DownwardAPI");
    }
    if token.is_set() {
        return vec![placed(&token.get("path"), "ServiceAccountToken")];
    }
    if bundle.is_set() {
        let (name, signer) = (bundle.get("name"), bundle.get("signerName"));
        let name = if name.is_set() { name.text() } else { signer.text() };
        return vec![placed(&bundle.get("path"), &format!("ClusterTrustBundle {name:?}"))];
    }
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .map(|(member, kind)| (certificate.get(member), kind))
    .filter(|(path, _)| !path.is_empty())
    .map(|(path, kind)| placed(&path, kind))
    .collect()
}
