//! What lies in a folder of certificates and how long it is good for; and a new certificate in the place of one that ends
//! (kubeadm's `certs check-expiration` and `certs renew`).

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::{pem::parse_x509_pem, prelude::X509Certificate};

use super::{Authority, Pki, PkiError, RENEW_BEFORE_DAYS, inspect, issue};
use crate::files::{self, FileError, fail};

/// What is to be done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Good,
    /// Ends within 30 days.
    Expiring,
    Expired,
    /// Begins later than now: the clock is wrong, or was.
    NotYetValid,
    /// The file holds no certificate.
    Unreadable,
}

/// One certificate of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The file below the folder, without `.crt`: `apiserver`, `etcd/server`.
    pub name: String,
    /// The common name of who signed it.
    pub issuer: String,
    pub is_authority: bool,
    pub not_after: Option<SystemTime>,
    pub state: State,
}

impl State {
    pub fn is_good(self) -> bool {
        self == State::Good
    }
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// At `now`; the end is still good.
pub fn state(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> State {
    if not_after < now {
        State::Expired
    } else if now < not_before {
        State::NotYetValid
    } else if not_after <= now + Duration::from_secs(RENEW_BEFORE_DAYS * 24 * 3600) {
        State::Expiring
    } else {
        State::Good
    }
}

fn survey(name: String, text: &[u8], now: SystemTime) -> Survey {
    let read = |certificate: &X509Certificate<'_>| {
        let validity = certificate.validity();
        let (begin, end) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        let issuer = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
        (issuer.unwrap_or_default().to_owned(), certificate.is_ca(), end, state(begin, end, now))
    };
    let block = parse_x509_pem(text).ok().map(|(_, block)| block);
    match block.as_ref().and_then(|block| block.parse_x509().ok()).map(|certificate| read(&certificate)) {
        Some((issuer, is_authority, end, state)) => Survey { name, issuer, is_authority, not_after: Some(end), state },
        None => Survey { name, issuer: String::new(), is_authority: false, not_after: None, state: State::Unreadable },
    }
}

/// Why a certificate is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error("there is no certificate {name}; there are {known}")]
    Unknown { name: String, known: String },
    #[error(
        "{name} is an authority: it is renewed with its own key by the next start of its cluster when it ends within 30 days"
    )]
    Authority { name: String },
    #[error("{name} was signed by an authority whose key is not in this folder: renew it where that key is")]
    Foreign { name: String },
    #[error("{name} holds no certificate that can be read: remove it, and the next start makes it anew")]
    Unreadable { name: String },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Pki {
    /// Every certificate below the folder, by name.
    pub fn survey(&self, now: SystemTime) -> Result<Vec<Survey>, FileError> {
        let mut found = BTreeMap::new();
        list(self.dir(), "", &mut found)?;
        Ok(found.into_iter().map(|(name, text)| survey(name, &text, now)).collect())
    }

    /// Issues `name` anew, with a new key, for what the certificate that is there says. Kubeconfigs in `folder` that hold
    /// the old one get the new one. The key is written first: a crash in between leaves a pair that does not fit, which the
    /// next start of the cluster replaces.
    pub fn renew(&self, name: &str, folder: &Path, now: SystemTime) -> Result<(), RenewError> {
        let known = self.survey(now)?;
        let Some(survey) = known.iter().find(|survey| survey.name == name) else {
            let known: Vec<_> = known.into_iter().filter(|survey| !survey.is_authority).map(|s| s.name).collect();
            return Err(RenewError::Unknown { name: name.to_owned(), known: known.join(", ") });
        };
        let name = survey.name.clone();
        if survey.is_authority {
            return Err(RenewError::Authority { name });
        }
        let old = (files::read_optional(&self.cert(&name))?, files::read_optional(&self.key(&name))?);
        let facts = old.0.as_deref().and_then(inspect::facts);
        let facts = facts.ok_or_else(|| RenewError::Unreadable { name: name.clone() })?;
        let mut signer = None;
        for authority in Authority::ALL {
            let has_signed = |a: &issue::LoadedAuthority| a.facts.subject_key_id == facts.authority_key_id;
            signer = signer.or(issue::load_authority(self, authority)?.filter(has_signed));
        }
        let signer = signer.ok_or_else(|| RenewError::Foreign { name: name.clone() })?;
        issue::reissue(self, &name, &facts, &signer, now)?;
        let new = (files::read_optional(&self.cert(&name))?, files::read_optional(&self.key(&name))?);
        if let ((Some(old_cert), Some(old_key)), (Some(cert), Some(key))) = (old, new) {
            replace_in_kubeconfigs(folder, &[(old_cert, cert), (old_key, key)])?;
        }
        Ok(())
    }
}

fn list(dir: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<(), FileError> {
    for entry in std::fs::read_dir(dir).map_err(fail("read the folder", dir))? {
        let path = entry.map_err(fail("read the folder", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            list(&path, &format!("{prefix}{name}/"), found)?;
        } else if let Some(name) = name.strip_suffix(".crt") {
            found.insert(format!("{prefix}{name}"), std::fs::read(&path).map_err(fail("read", &path))?);
        }
    }
    Ok(())
}

/// They hold certificates and keys themselves, in base64.
fn replace_in_kubeconfigs(folder: &Path, replaced: &[(Vec<u8>, Vec<u8>)]) -> Result<(), FileError> {
    for entry in std::fs::read_dir(folder).map_err(fail("read the folder", folder))? {
        let path = entry.map_err(fail("read the folder", folder))?.path();
        if path.extension().is_none_or(|extension| extension != "kubeconfig") {
            continue;
        }
        let old = std::fs::read_to_string(&path).map_err(fail("read", &path))?;
        let new =
            replaced.iter().fold(old, |text, (old, new)| text.replace(&STANDARD.encode(old), &STANDARD.encode(new)));
        files::write_if_changed(&path, new.as_bytes(), 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_until_thirty_days_before_its_end() {
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600);
        let cases = [
            (99, State::NotYetValid),
            (100, State::Good),
            (169, State::Good),
            (170, State::Expiring),
            (200, State::Expiring),
            (201, State::Expired),
        ];
        for (now, expected) in cases {
            assert_eq!(state(day(100), day(200), day(now)), expected, "day {now}");
        }
    }
}
