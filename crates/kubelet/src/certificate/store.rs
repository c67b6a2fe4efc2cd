//! Certificate and key in one file, and a link to the newest such file (client-go `util/certificate/certificate_store.go`):
//! `kubelet-client-2026-01-31-12-00-00.pem` and `kubelet-client-current.pem`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

use super::{CertificateError, Facts, Purpose, failed};

/// The files of one purpose in `--cert-dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStore {
    dir: PathBuf,
    purpose: Purpose,
}

impl CertificateStore {
    /// `dir` is made with the first certificate. The links lead to absolute paths where it is absolute.
    pub fn new(dir: impl Into<PathBuf>, purpose: Purpose) -> CertificateStore {
        CertificateStore { dir: dir.into(), purpose }
    }

    fn file(&self, qualifier: &str) -> PathBuf {
        self.dir.join(format!("{}-{qualifier}.pem", self.purpose.file_prefix()))
    }

    /// The link to the file in use, which holds the certificate and its key.
    pub fn current_path(&self) -> PathBuf {
        self.file("current")
    }

    /// Where the key of a request waits for the answer, so that a kubelet that is started again asks for the same.
    pub fn pending_key_path(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.purpose.file_prefix()))
    }

    /// What is known of the current certificate; `None` where there is none, or none with its key: then another is needed.
    pub fn current(&self) -> Result<Option<Facts>, CertificateError> {
        let path = self.current_path();
        let Some(text) = read(&path)? else { return Ok(None) };
        let facts = Facts::parse(&text).filter(|facts| public_key(&text).as_ref() == Some(&facts.public_key));
        if facts.is_none() {
            tracing::warn!(path = %path.display(), "holds no certificate with its key");
        }
        Ok(facts)
    }

    /// The key of the current certificate, or of a request that waits; `None` where there is neither.
    pub fn any_key(&self) -> Result<Option<KeyPair>, CertificateError> {
        for path in [self.current_path(), self.pending_key_path()] {
            if let Some(key) = read(&path)?.and_then(|text| key(&text)) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Keeps the key of a request that waits.
    pub fn keep_pending(&self, key: &KeyPair) -> Result<(), CertificateError> {
        self.write(&self.pending_key_path(), key.serialize_pem().as_bytes())
    }

    pub fn drop_pending(&self) -> Result<(), CertificateError> {
        let path = self.pending_key_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes a certificate (PEM, its chain behind it) and its key the current ones. Readers see the old file or the new one.
    pub fn update(&self, certificate: &str, key: &KeyPair, now: Timestamp) -> Result<Facts, CertificateError> {
        let facts = Facts::parse(certificate.as_bytes()).filter(|facts| facts.public_key == key.der_bytes());
        let facts = facts.ok_or(CertificateError::Unusable)?;
        if now < facts.not_before {
            return Err(CertificateError::NotYetValid { not_before: facts.not_before, now });
        }
        let file = self.file(&now.strftime("%Y-%m-%d-%H-%M-%S").to_string());
        let text = format!("{}\n{}", certificate.trim_end(), key.serialize_pem());
        self.write(&file, text.as_bytes())?;
        self.link(&file)?;
        Ok(facts)
    }

    fn link(&self, file: &Path) -> Result<(), CertificateError> {
        let (current, updated) = (self.current_path(), self.file("updated"));
        match fs::symlink_metadata(&current) {
            Ok(found) if !found.is_symlink() => return Err(CertificateError::NoLink { path: current }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("read", &current)(error)),
            _ => {}
        }
        // A crash may have left one.
        let _ = fs::remove_file(&updated);
        symlink(file, &updated).map_err(failed("link", &updated))?;
        fs::rename(&updated, &current).map_err(failed("replace", &current))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.dir).map_err(failed("create", &self.dir))?;
        replace(path, bytes)
    }
}

/// Replaces a file (mode 0600) so that a reader sees the old one or the new one whole.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The write's error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed("write", path))
}

/// The file's bytes; `None` where it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn key(text: &[u8]) -> Option<KeyPair> {
    KeyPair::try_from(&PrivateKeyDer::from_pem_slice(text).ok()?).ok()
}

fn public_key(text: &[u8]) -> Option<Vec<u8>> {
    Some(key(text)?.der_bytes().to_vec())
}
