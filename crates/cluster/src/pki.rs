//! The cluster's certificates and keys: made on the first start, renewed before they end, re-issued when names change.
//!
//! File names are kubeadm's (`ca.crt`, `apiserver.key`, `sa.pub`, …), so what knows a kubeadm cluster finds them. Keys are
//! ECDSA P-256; certificates of authorities last ten years, others one, as kubeadm's.

mod inspect;
mod issue;
mod kubeconfig;
mod signer;
mod spec;
mod survey;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use kubeconfig::{KubeconfigTarget, kubeconfig, write_kubeconfigs};
pub use signer::{CsrPolicy, SignError, Signer, sign_csr};
pub use spec::{Authority, CertSpec, Identity, Roles, San, Usage};
pub use survey::{RenewError, State, Survey};

use crate::files::{self, FileError, fail};

/// Renewal begins this long before the end.
pub const RENEW_BEFORE_DAYS: u64 = 30;

/// What failed about a certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} cannot be used; restore it from a backup, or remove it to have a new one made", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("{} does not hold a certificate; restore it from a backup, or remove it", path.display())]
    Certificate { path: PathBuf },
    #[error("the key {} is missing and its certificate is there; restore the key, or remove both for a new authority", path.display())]
    MissingAuthorityKey { path: PathBuf },
    #[error("{} and its key do not belong together; restore them from a backup", path.display())]
    AuthorityMismatch { path: PathBuf },
    #[error("cannot issue the certificate {name}")]
    Issue {
        name: String,
        #[source]
        source: rcgen::Error,
    },
}

/// A folder of certificates and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pki {
    dir: PathBuf,
}

/// Why a certificate was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Missing,
    /// What lies there is no certificate, or its key is not its own.
    Unusable,
    Expiring,
    /// Another authority signed it, or the authority has changed its key.
    Issuer,
    Subject,
    /// The names or addresses that a server answers under have changed.
    Names,
    Usages,
}

impl Pki {
    pub fn new(dir: impl Into<PathBuf>) -> Pki {
        Pki { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate `name`, such as `apiserver` or `ca`.
    pub fn cert(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// The public half of the key that signs service account tokens.
    pub fn service_account_public(&self) -> PathBuf {
        self.dir.join("sa.pub")
    }

    /// The key that signs service account tokens (ES256).
    pub fn service_account_key(&self) -> PathBuf {
        self.key("sa")
    }

    /// Makes what is missing, renews what ends within 30 days, re-issues what no longer fits `identity`; leaves the rest
    /// untouched. Returns what was issued and why; nothing on most starts.
    ///
    /// An authority whose certificate ends is renewed with the same key, so that what it signed stays valid.
    pub fn ensure(&self, identity: &Identity, now: SystemTime) -> Result<Vec<(String, Reason)>, PkiError> {
        self.ensure_signed_by(self, identity, now)
    }

    /// The same for a machine of a larger cluster, whose authorities lie in another folder: of them it gets the
    /// certificates, and the keys only where it signs by itself, which a control plane does.
    pub fn ensure_signed_by(
        &self,
        authorities: &Pki,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<Vec<(String, Reason)>, PkiError> {
        let roles = identity.roles;
        for dir in [authorities.dir(), self.dir()] {
            files::make_private_dir(dir)?;
            if roles.know(Authority::Etcd) {
                files::make_private_dir(&dir.join("etcd"))?;
            }
        }
        let mut issued = Vec::new();
        for authority in Authority::ALL.into_iter().filter(|authority| roles.know(*authority)) {
            let (issuer, reason) = issue::ensure_authority(authorities, authority, now)?;
            issued.extend(reason.map(|r| (authority.name().to_owned(), r)));
            let signs = authority == Authority::Cluster && roles.control_plane;
            self.take(authorities, &[Pki::cert], authority.name())?;
            self.take(authorities, if signs { &[Pki::key] } else { &[] }, authority.name())?;
            for spec in spec::certificates(identity).into_iter().filter(|s| s.issuer == authority) {
                let reason = inspect::reason_to_issue(self, &spec, &issuer.facts, now)?;
                if let Some(reason) = reason {
                    issue::issue(self, &spec, &issuer, now)?;
                    issued.push((spec.name.to_owned(), reason));
                }
            }
        }
        if roles.control_plane {
            issued.extend(issue::ensure_service_account_key(authorities)?.map(|r| ("sa".to_owned(), r)));
            self.take(authorities, &[Pki::key, |pki, _| pki.service_account_public()], "sa")?;
        }
        Ok(issued)
    }

    /// Copies files of another folder.
    fn take(&self, from: &Pki, files: &[fn(&Pki, &str) -> PathBuf], name: &str) -> Result<(), PkiError> {
        if self == from {
            return Ok(());
        }
        for file in files {
            let (source, target) = (file(from, name), file(self, name));
            let bytes = std::fs::read(&source).map_err(fail("read", &source))?;
            let mode = if target.extension().is_some_and(|extension| extension == "key") { 0o600 } else { 0o644 };
            files::write_if_changed(&target, &bytes, mode)?;
        }
        Ok(())
    }
}
