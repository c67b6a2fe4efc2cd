//! Credentials of a registry from image pull secrets (upstream `pkg/credentialprovider`).

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use client::kinds::core::v1::Secret;
use k8s_cri::v1::AuthConfig;
use serde::Deserialize;

use super::reference::is_registry;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// The secret's credentials that fit `image`, the most specific registry first.
pub fn for_image(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let data = secret.data.as_ref();
    let value = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let entries: BTreeMap<String, Entry> = if let Some(json) = value(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(json).map(|config| config.auths).unwrap_or_default()
    } else if let Some(json) = value(".dockercfg") {
        serde_json::from_slice(json).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let repository = full_name(image);
    let mut fitting: Vec<_> = entries.into_iter().filter(|(registry, _)| fits(registry, &repository)).collect();
    fitting.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    fitting.into_iter().map(|(registry, entry)| config(registry, entry)).collect()
}

fn config(server_address: String, entry: Entry) -> AuthConfig {
    let mut auth = AuthConfig {
        username: entry.username,
        password: entry.password,
        server_address,
        identity_token: entry.identitytoken,
        registry_token: entry.registrytoken,
        ..AuthConfig::default()
    };
    if auth.username.is_empty()
        && let Some(pair) = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        && let Some((user, password)) = pair.split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    auth
}

/// `REGISTRY/PATH` without tag and digest; Docker's short names written out.
fn full_name(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    match name.split_once('/') {
        Some((first, _)) if is_registry(first) => name.to_owned(),
        Some(_) => format!("index.docker.io/{name}"),
        None => format!("index.docker.io/library/{name}"),
    }
}

/// `registry` is `[scheme://]HOST[:PORT][/PATH]`; HOST's labels may hold `*`.
fn fits(registry: &str, repository: &str) -> bool {
    let bare = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let (image_host, image_path) = repository.split_once('/').unwrap_or((repository, ""));
    let docker = |host: &str| if host == "docker.io" { "index.docker.io".to_owned() } else { host.to_owned() };
    let (host, image_host) = (docker(host), docker(image_host));
    let labels: Vec<&str> = host.split('.').collect();
    let image_labels: Vec<&str> = image_host.split('.').collect();
    labels.len() == image_labels.len()
        && labels.iter().zip(image_labels).all(|(pattern, label)| glob(pattern, label))
        && image_path.starts_with(path)
}

/// `*` for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| glob(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_fit_by_host_port_and_path() {
        for (registry, image, wanted) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "library/busybox", true),
            ("registry.example.com", "registry.example.com/a/b:1", true),
            ("registry.example.com:5000", "registry.example.com/a/b:1", false),
            ("*.example.com", "registry.example.com/a", true),
            ("*.example.com", "a.registry.example.com/a", false),
            ("registry.example.com/team", "registry.example.com/team/a", true),
            ("registry.example.com/team", "registry.example.com/other/a", false),
        ] {
            assert_eq!(fits(registry, &full_name(image)), wanted, "{registry} {image}");
        }
    }
}
