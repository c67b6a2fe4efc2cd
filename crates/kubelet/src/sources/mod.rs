//! Where pods come from beside the API: manifests in a directory (upstream `pkg/kubelet/config/file.go`).

use std::{collections::BTreeMap, io, path::Path};

use client::{
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    kinds::core::v1::{Node, Pod, Toleration},
};
use sha2::{Digest, Sha256};

pub const SOURCE: &str = "kubernetes.io/config.source";
pub const HASH: &str = "kubernetes.io/config.hash";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Upstream's fileCheckFrequency is 20 s; reading a handful of files is cheap enough to do it more often.
pub const CHECK_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ManifestError {
    pub file: String,
    pub message: String,
}

/// The pods of all manifests, and what is wrong with the others. Hidden files are skipped.
pub fn read(dir: &Path, node: &str) -> io::Result<(Vec<Pod>, Vec<ManifestError>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    let (mut pods, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !file.path().is_file() {
            continue;
        }
        match std::fs::read_to_string(file.path())
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&text, node))
        {
            Ok(pod) => pods.push(pod),
            Err(message) => errors.push(ManifestError { file: name, message }),
        }
    }
    Ok((pods, errors))
}

/// A manifest (YAML or JSON) as a static pod of this node, with the defaults that a kubelet relies on.
pub fn parse(text: &str, node: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or("metadata.name is missing")?;
    let spec = pod.spec.as_mut().ok_or("spec is missing")?;
    if spec.containers.is_empty() {
        return Err("spec.containers is empty".to_owned());
    }
    spec.node_name = Some(node.to_owned());
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    spec.tolerations.get_or_insert_default().push(everything);
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    // A static pod cannot refer to API objects: no token is mounted.
    spec.enable_service_links.get_or_insert(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let image = container.image.as_deref().unwrap_or_default();
        let newest = crate::images::reference::with_default_tag(image).is_some_and(|image| image.ends_with(":latest"));
        let policy = if newest { "Always" } else { "IfNotPresent" };
        container.image_pull_policy.get_or_insert_with(|| policy.into());
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
    }
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".into());
    let hash = digest(node, text);
    meta.uid = Some(hash.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH.into(), hash);
    annotations.insert(SOURCE.into(), "file".into());
    Ok(pod)
}

/// A UID that changes with the manifest: a changed static pod is a new pod.
fn digest(node: &str, text: &str) -> String {
    let mut sha = Sha256::new();
    sha.update(node.as_bytes());
    sha.update([0]);
    sha.update(text.as_bytes());
    sha.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a static pod looks like to the API.
pub fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    let hash = meta.uid.take().unwrap_or_default();
    meta.annotations.get_or_insert_with(BTreeMap::new).insert(MIRROR.into(), hash);
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    mirror
}

/// Whether `mirror` shows this static pod and not an earlier version of it.
pub fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    let hash = mirror.metadata.annotations.as_ref().and_then(|all| all.get(MIRROR));
    hash.is_some() && hash == pod.metadata.uid.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: a, image: x}]\n";
        let pod = parse(text, "n1").expect("a pod");
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        assert_eq!(container.image_pull_policy.as_deref(), Some("Always"));
        let other = parse(&text.replace("image: x", "image: other"), "n1").expect("a pod");
        assert_ne!(pod.metadata.uid, other.metadata.uid);
        let mirror = mirror(&pod, &Node::default());
        assert!(is_mirror_of(&mirror, &pod) && !is_mirror_of(&mirror, &other));
        assert!(parse("metadata: {name: x}", "n1").is_err());
    }
}
