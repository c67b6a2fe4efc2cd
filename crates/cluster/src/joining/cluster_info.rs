//! The ConfigMap `cluster-info` in kube-public: a kubeconfig without user that says where the cluster is and which
//! authority it has (`cmd/kubeadm/app/phases/bootstraptoken/clusterinfo`, `cmd/kubeadm/app/discovery/token`).

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    CLUSTER_INFO, PUBLIC_NAMESPACE,
    pin::{CaPin, pins},
    signature,
    token::BootstrapToken,
};

const KUBECONFIG: &str = "kubeconfig";

/// Why what a server says of itself is not believed, or says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DistrustError {
    #[error(
        "the ConfigMap cluster-info holds no kubeconfig with a server and its authority; make it anew: delete it, and run `argosy token create` on the control plane"
    )]
    Content,
    #[error(
        "the cluster's authority is not the one that was asked for: --ca-cert-hash is {wanted}, and the server has {found}. \
         Either the hash is of another cluster, or somebody answers in the server's place"
    )]
    Authority { wanted: String, found: String },
    #[error(
        "cluster-info is not signed with this token: the part of --token behind the dot is wrong, or somebody answers in the server's place. \
         `argosy token list` on the control plane shows the tokens"
    )]
    Signature,
    #[error(
        "cluster-info bears no signature of the token {id}, and without --ca-cert-hash nothing else tells who answers: \
         the token is wrong or has expired. `argosy token create --print-join-command` on the control plane makes a new one"
    )]
    Unsigned { id: String },
}

/// What cluster-info says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The kubeconfig's text, as it is signed.
    pub kubeconfig: String,
    /// Such as `https://192.0.2.1:6443`.
    pub server: String,
    pub ca_pem: Vec<u8>,
    /// All data of the ConfigMap.
    data: BTreeMap<String, String>,
}

/// The kubeconfig as kubeadm writes it.
pub fn kubeconfig(server: &str, ca_pem: &[u8]) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {server}\n  name: \"\"\n\
         contexts: null\ncurrent-context: \"\"\nkind: Config\nusers: null\n",
        BASE64_STANDARD.encode(ca_pem)
    )
}

/// The ConfigMap as it is created; signatures are added by the cluster.
pub fn config_map(server: &str, ca_pem: &[u8]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CLUSTER_INFO, "namespace": PUBLIC_NAMESPACE},
        "data": {KUBECONFIG: kubeconfig(server, ca_pem)},
    })
}

impl ClusterInfo {
    /// `parse` reads the kubeconfig's YAML as a tree.
    pub fn read(
        data: BTreeMap<String, String>,
        parse: impl FnOnce(&str) -> Option<Value>,
    ) -> Result<ClusterInfo, DistrustError> {
        let kubeconfig = data.get(KUBECONFIG).cloned().ok_or(DistrustError::Content)?;
        let tree = parse(&kubeconfig).ok_or(DistrustError::Content)?;
        let cluster = &tree["clusters"][0]["cluster"];
        let text = |name: &str| cluster[name].as_str().filter(|text| !text.is_empty()).ok_or(DistrustError::Content);
        let ca_pem = BASE64_STANDARD.decode(text("certificate-authority-data")?).map_err(|_| DistrustError::Content)?;
        let server = text("server")?.to_owned();
        Ok(ClusterInfo { kubeconfig, server, ca_pem, data })
    }

    /// Whether to believe it: an authority with one of these hashes, and the token's signature where there is one; without
    /// hashes there must be one.
    pub fn check(&self, wanted: &[CaPin], token: &BootstrapToken) -> Result<(), DistrustError> {
        let found = pins(&self.ca_pem);
        let list = |pins: &[CaPin]| pins.iter().map(CaPin::to_string).collect::<Vec<_>>().join(", ");
        if found.is_empty() {
            return Err(DistrustError::Content);
        }
        // Every one, or who answers could add an authority of his own to the cluster's.
        if !wanted.is_empty() && !found.iter().all(|pin| wanted.contains(pin)) {
            return Err(DistrustError::Authority { wanted: list(wanted), found: list(&found) });
        }
        match self.data.get(&signature::key_of(token)) {
            Some(signature) if signature::verify(signature, &self.kubeconfig, token) => Ok(()),
            Some(_) => Err(DistrustError::Signature),
            None if wanted.is_empty() => Err(DistrustError::Unsigned { id: token.id().to_owned() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::default();
        params.self_signed(&key).expect("a certificate").pem().into_bytes()
    }

    fn info(ca: &[u8], signer: Option<&BootstrapToken>) -> ClusterInfo {
        let text = kubeconfig("https://192.0.2.1:6443", ca);
        let mut data = BTreeMap::from([("kubeconfig".to_owned(), text.clone())]);
        // The id under which a token's signature lies is all that an impostor knows of it.
        data.extend(signer.map(|token| ("jws-kubeconfig-abcdef".to_owned(), signature::sign(&text, token))));
        let tree = json!({"clusters": [{"cluster": {
            "server": "https://192.0.2.1:6443", "certificate-authority-data": BASE64_STANDARD.encode(ca),
        }}]});
        ClusterInfo::read(data, |_| Some(tree)).expect("readable")
    }

    #[test]
    fn hash_and_signature_decide_on_trust() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().expect("a token");
        let wrong: BootstrapToken = "abcdef.0123456789abcdee".parse().expect("a token");
        let (ca, other) = (authority(), authority());
        let (own, foreign) = (pins(&ca), pins(&other));
        let both = [ca.clone(), other.clone()].concat();
        assert_ne!(own, foreign);
        let distrust = |info: &ClusterInfo, pins: &[CaPin]| info.check(pins, &token).err();
        assert_eq!(distrust(&info(&ca, Some(&token)), &own), None);
        assert_eq!(distrust(&info(&ca, None), &own), None);
        assert_eq!(distrust(&info(&ca, Some(&token)), &[]), None);
        assert!(matches!(distrust(&info(&ca, Some(&token)), &foreign), Some(DistrustError::Authority { .. })));
        assert!(matches!(distrust(&info(&both, None), &own), Some(DistrustError::Authority { .. })));
        assert_eq!(distrust(&info(&ca, Some(&wrong)), &own), Some(DistrustError::Signature));
        assert_eq!(distrust(&info(&ca, None), &[]), Some(DistrustError::Unsigned { id: "abcdef".into() }));
        assert_eq!(distrust(&info(b"no certificate", None), &own), Some(DistrustError::Content));
    }

    #[test]
    fn what_holds_no_server_is_no_cluster_info() {
        let data = |text: &str| BTreeMap::from([("kubeconfig".to_owned(), text.to_owned())]);
        assert_eq!(ClusterInfo::read(BTreeMap::new(), |_| None), Err(DistrustError::Content));
        assert_eq!(ClusterInfo::read(data("x"), |_| None), Err(DistrustError::Content));
        assert_eq!(ClusterInfo::read(data("{}"), |_| Some(json!({"clusters": []}))), Err(DistrustError::Content));
    }
}
