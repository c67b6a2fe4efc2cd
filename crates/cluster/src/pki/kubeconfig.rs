//! Kubeconfigs that hold their certificates themselves, so that one file is all a client needs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Pki, PkiError};
use crate::files::{self, fail};
use crate::layout::Layout;

/// Kubeconfig files of the first start: the file's name, the user's name, and the certificate that proves it.
const USERS: [(&str, &str, &str); 5] = [
    ("admin", "kubernetes-admin", "admin"),
    ("controller-manager", "system:kube-controller-manager", "controller-manager"),
    ("scheduler", "system:kube-scheduler", "scheduler"),
    ("kube-proxy", "system:kube-proxy", "kube-proxy"),
    ("kubelet", "system:node", "kubelet-client"),
];

/// The API server that a kubeconfig leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigTarget {
    /// The cluster's name in the file, such as `argosy`.
    pub cluster: String,
    /// Such as `https://127.0.0.1:6443`.
    pub server: String,
}

/// A kubeconfig as text, its certificates and key embedded.
pub fn kubeconfig(target: &KubeconfigTarget, user: &str, ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> String {
    let KubeconfigTarget { cluster, server } = target;
    let (ca, cert, key) = (STANDARD.encode(ca_pem), STANDARD.encode(cert_pem), STANDARD.encode(key_pem));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {cert}\n    \
         client-key-data: {key}\ncontexts:\n- name: {user}@{cluster}\n  context:\n    cluster: {cluster}\n    \
         user: {user}\ncurrent-context: {user}@{cluster}\npreferences: {{}}\n"
    )
}

/// Writes the kubeconfigs of all users whose certificates the machine holds below the data folder, mode 0600, those that
/// differ. The components of a control plane go to the API server beside them, `own`, where there are several.
pub fn write_kubeconfigs(
    layout: &Layout,
    pki: &Pki,
    target: &KubeconfigTarget,
    own: Option<&KubeconfigTarget>,
) -> Result<(), PkiError> {
    let read = |path: std::path::PathBuf| std::fs::read(&path).map_err(fail("read", &path));
    let ca = read(pki.cert("ca"))?;
    for (file, user, certificate) in USERS {
        let Some(cert) = files::read_optional(&pki.cert(certificate))? else { continue };
        let of_control_plane = ["controller-manager", "scheduler"].contains(&file);
        let target = own.filter(|_| of_control_plane).unwrap_or(target);
        let text = kubeconfig(target, user, &ca, &cert, &read(pki.key(certificate))?);
        files::write_if_changed(&layout.kubeconfig(file), text.as_bytes(), 0o600)?;
    }
    Ok(())
}
