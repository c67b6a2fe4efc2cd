//! How a master gets the cluster's authorities (`cmd/kubeadm/app/phases/copycerts`): they are uploaded as a Secret, each
//! encrypted with AES-256-GCM under a key that only whoever invites and whoever joins have.
//!
//! Other than kubeadm's `kubeadm-certs`, each token has a Secret of its own, which no other token can read and which is
//! deleted with it.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::Rng;
use serde_json::{Value, json};

use super::{TOKENS_NAMESPACE, objects::Placed, token::secret_name};
use crate::{
    files::{self, FileError},
    pki::{Authority, Pki},
    topology::Topology,
};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const RBAC: &str = "rbac.authorization.k8s.io";

/// Entries beside the files of the authorities.
const TOPOLOGY: &str = "topology.json";
const ENCRYPTION: &str = "encryption-provider-config.yaml";

#[derive(Debug, thiserror::Error)]
pub enum MastersError {
    #[error(
        "a certificate key is 64 hexadecimal digits, as `argosy token create --role master --print-join-command` prints it"
    )]
    KeyForm,
    #[error(
        "{} is missing: invite masters from where the cluster's authorities are, the folder that `argosy deploy` has made \
         (--data-dir names it)", path.display()
    )]
    NoAuthority { path: PathBuf },
    #[error(
        "--certificate-key does not open what the cluster holds for this token: take the key that was printed with the token, \
         or make a new invitation with `argosy token create --role master --print-join-command`"
    )]
    WrongKey,
    #[error("the invitation lacks {0}: make a new one with `argosy token create --role master --print-join-command`")]
    Incomplete(String),
    #[error("the random numbers of this machine fail")]
    Random,
    #[error(transparent)]
    File(#[from] FileError),
}

/// What the authorities are encrypted with.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateKey([u8; KEY_BYTES]);

/// Never reaches a log.
impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateKey(…)")
    }
}

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CertificateKey {
    type Err = MastersError;

    fn from_str(text: &str) -> Result<CertificateKey, MastersError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(MastersError::KeyForm);
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| MastersError::KeyForm)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MastersError::KeyForm)?;
        }
        Ok(CertificateKey(key))
    }
}

impl CertificateKey {
    /// `random` must be fit for secrets.
    pub fn generate(random: &mut impl Rng) -> CertificateKey {
        CertificateKey(random.random())
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, MastersError> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_| MastersError::Random)
    }

    /// Nonce, ciphertext, tag, as kubeadm's; bound to the entry's name.
    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, MastersError> {
        let mut sealed = plain.to_vec();
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed);
        let nonce = nonce.map_err(|_| MastersError::Random)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, MastersError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(MastersError::WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MastersError::WrongKey)?;
        let mut plain = sealed.to_vec();
        let opened = self.cipher()?.open_in_place(nonce, Aad::from(name.as_bytes()), &mut plain);
        let length = opened.map_err(|_| MastersError::WrongKey)?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// What a master must know and cannot ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inheritance {
    pub topology: Topology,
    /// The EncryptionConfiguration of the API servers, where they encrypt at rest.
    pub encryption: Option<Vec<u8>>,
    /// The authorities' files by their names below the folder of certificates.
    files: BTreeMap<String, Vec<u8>>,
}

/// The files that make a master one of the cluster's: every authority with its key, and the service accounts' key.
fn authority_files() -> Vec<String> {
    let authorities = Authority::ALL.iter().flat_map(|a| [format!("{}.crt", a.name()), format!("{}.key", a.name())]);
    authorities.chain(["sa.key".to_owned(), "sa.pub".to_owned()]).collect()
}

/// kubeadm's names: `etcd-ca.crt` is `etcd/ca.crt`.
fn entry(file: &str) -> String {
    file.replace('/', "-")
}

impl Inheritance {
    /// Of the folder where the cluster's authorities are.
    pub fn collect(pki: &Pki, topology: &Topology, encryption: Option<Vec<u8>>) -> Result<Inheritance, MastersError> {
        let mut found = BTreeMap::new();
        for file in authority_files() {
            let path = pki.dir().join(&file);
            let bytes = files::read_optional(&path)?.ok_or(MastersError::NoAuthority { path })?;
            found.insert(file, bytes);
        }
        Ok(Inheritance { topology: topology.clone(), encryption, files: found })
    }

    /// The data of the Secret.
    pub fn seal(&self, key: &CertificateKey) -> Result<BTreeMap<String, Vec<u8>>, MastersError> {
        let topology = serde_json::to_vec(&self.topology).unwrap_or_default();
        let mut plain: BTreeMap<String, &[u8]> = BTreeMap::from([(TOPOLOGY.to_owned(), topology.as_slice())]);
        plain.extend(self.encryption.iter().map(|text| (ENCRYPTION.to_owned(), text.as_slice())));
        plain.extend(self.files.iter().map(|(file, bytes)| (entry(file), bytes.as_slice())));
        plain.into_iter().map(|(name, bytes)| Ok((name.clone(), key.seal(&name, bytes)?))).collect()
    }

    pub fn open(data: &BTreeMap<String, Vec<u8>>, key: &CertificateKey) -> Result<Inheritance, MastersError> {
        let get = |name: &str| data.get(name).map(|sealed| key.open(name, sealed)).transpose();
        let need = |name: &str| get(name)?.ok_or_else(|| MastersError::Incomplete(name.to_owned()));
        let topology = serde_json::from_slice(&need(TOPOLOGY)?);
        let topology = topology.map_err(|_| MastersError::Incomplete(TOPOLOGY.to_owned()))?;
        let files = authority_files().into_iter().map(|file| Ok((file.clone(), need(&entry(&file))?)));
        let files = files.collect::<Result<_, MastersError>>()?;
        Ok(Inheritance { topology, encryption: get(ENCRYPTION)?, files })
    }

    /// Puts the authorities into a folder of certificates.
    pub fn install(&self, pki: &Pki) -> Result<(), MastersError> {
        for dir in [pki.dir(), &pki.dir().join("etcd")] {
            files::make_private_dir(dir)?;
        }
        for (file, bytes) in &self.files {
            let mode = if file.ends_with(".key") { 0o600 } else { 0o644 };
            files::write_if_changed(&pki.dir().join(file), bytes, mode)?;
        }
        Ok(())
    }
}

/// The name of the Secret that a token for masters can read, and of the Role that lets it.
pub fn inheritance_name(token_id: &str) -> String {
    format!("master-certs-{token_id}")
}

/// The group that nobody but the holder of this token is in.
pub fn group(token_id: &str) -> String {
    format!("system:bootstrappers:argosy:master:{token_id}")
}

/// The Secret, and the right of one token to read it. All of it is deleted with the token's own Secret, whose `uid` is
/// given, by the garbage collector.
pub fn objects(token_id: &str, uid: &str, sealed: &BTreeMap<String, Vec<u8>>) -> Vec<Placed> {
    let (name, namespace) = (inheritance_name(token_id), TOKENS_NAMESPACE);
    let owner = json!({"apiVersion": "v1", "kind": "Secret", "name": secret_name(token_id), "uid": uid});
    let metadata = json!({"name": name, "namespace": namespace, "ownerReferences": [owner]});
    let rbac = |kind: &str, collection: &str, rest: Value| {
        let mut object = json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata.clone()});
        rest.as_object().into_iter().flatten().for_each(|(key, value)| object[key] = value.clone());
        Placed { collection: format!("/apis/{RBAC}/v1/namespaces/{namespace}/{collection}"), object }
    };
    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]});
    let data: BTreeMap<&String, String> =
        sealed.iter().map(|(key, value)| (key, BASE64_STANDARD.encode(value))).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data});
    vec![
        Placed { collection: format!("/api/v1/namespaces/{namespace}/secrets"), object: secret },
        rbac("Role", "roles", json!({"rules": [rule]})),
        rbac(
            "RoleBinding",
            "rolebindings",
            json!({
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
                "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group(token_id)}],
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{layout::Cidr, topology::Shape};

    fn key(byte: u8) -> CertificateKey {
        CertificateKey([byte; KEY_BYTES])
    }

    #[test]
    fn keys_have_a_form() {
        let text = key(0xab).to_string();
        assert_eq!(text.parse::<CertificateKey>().ok(), Some(key(0xab)));
        assert_eq!(format!("{:?}", key(0xab)), "CertificateKey(…)");
        for bad in ["", "ab", &text[1..], &format!("{text}0"), &text.replace('a', "x"), &text.replace("ab", "é")] {
            assert!(matches!(bad.parse::<CertificateKey>(), Err(MastersError::KeyForm)), "{bad}");
        }
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_under_its_name_only() {
        let sealed = key(1).seal("ca.key", b"secret").expect("sealed");
        assert_ne!(sealed, key(1).seal("ca.key", b"secret").expect("sealed"), "the nonce is fresh");
        assert_eq!(key(1).open("ca.key", &sealed).expect("opened"), b"secret");
        let changed: Vec<u8> = sealed.iter().map(|byte| byte ^ 1).collect();
        for (key, name, sealed) in [
            (key(2), "ca.key", sealed.as_slice()),
            (key(1), "sa.key", &sealed),
            (key(1), "ca.key", &changed),
            (key(1), "ca.key", &sealed[..20]),
            (key(1), "ca.key", b""),
        ] {
            assert!(matches!(key.open(name, sealed), Err(MastersError::WrongKey)), "{name}");
        }
    }

    #[test]
    fn authorities_come_out_as_they_went_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (Pki::new(folder.path().join("from")), Pki::new(folder.path().join("to")));
        let topology = Topology::new(Shape::Ha, None, Cidr::v4([10, 89, 7, 0], 24)).expect("a topology");
        let lacking = Inheritance::collect(&from, &topology, None);
        assert!(matches!(lacking, Err(MastersError::NoAuthority { path }) if path.ends_with("ca.crt")));
        let identity = topology.identity(topology.host("master-1").expect("a host")).expect("an identity");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        from.ensure(&identity, now).expect("certificates");
        let inheritance = Inheritance::collect(&from, &topology, Some(b"kind: x".to_vec())).expect("collected");
        let mut sealed = inheritance.seal(&key(3)).expect("sealed");
        assert_eq!(Inheritance::open(&sealed, &key(3)).expect("opened"), inheritance);
        assert!(matches!(Inheritance::open(&sealed, &key(4)), Err(MastersError::WrongKey)));
        inheritance.install(&to).expect("installed");
        let same = |name: &str| std::fs::read(from.key(name)).ok() == std::fs::read(to.key(name)).ok();
        assert!(["ca", "etcd/ca", "front-proxy-ca", "sa"].into_iter().all(same));
        // It then issues its own certificates and no new authority.
        let issued = to.ensure(&identity, now).expect("certificates");
        assert!(issued.iter().all(|(name, _)| !["ca", "etcd/ca", "front-proxy-ca", "sa"].contains(&name.as_str())));
        sealed.remove("sa.key");
        assert!(matches!(Inheritance::open(&sealed, &key(3)), Err(MastersError::Incomplete(name)) if name == "sa.key"));
    }

    #[test]
    fn one_token_reads_one_secret_and_takes_it_along() {
        let all = objects("abcdef", "u-1", &BTreeMap::from([("ca.key".to_owned(), vec![1, 2, 3])]));
        let [secret, role, binding] = &all[..] else { panic!("{all:?}") };
        assert_eq!(secret.object["data"]["ca.key"], "AQID");
        assert_eq!(role.object["rules"][0]["resourceNames"], json!(["master-certs-abcdef"]));
        assert_eq!(role.object["rules"][0]["verbs"], json!(["get"]));
        assert_eq!(binding.object["subjects"][0]["name"], "system:bootstrappers:argosy:master:abcdef");
        for Placed { object, collection } in &all {
            assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "bootstrap-token-abcdef");
            assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u-1");
            assert!(collection.contains("/namespaces/kube-system/"), "{collection}");
        }
    }
}
