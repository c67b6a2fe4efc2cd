//! A node's first credential: with a bootstrap kubeconfig a client certificate is asked for, and the kubeconfig that uses it
//! is written (upstream `pkg/kubelet/certificate/bootstrap/bootstrap.go`).

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{Client, Clock, Kubeconfig, kubeconfig};
use jiff::Timestamp;
use net::tls::Pem;
use rcgen::KeyPair;

use super::{
    CertificateError, Facts, Purpose, Template, failed, request,
    store::{self, CertificateStore},
};

/// Upstream's: someone may have to approve it by hand.
pub const WAIT_LIMIT: Duration = Duration::from_secs(3600);

/// Where the first certificate goes, and whose it is.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub node_name: String,
    /// `--cert-dir`.
    pub cert_dir: PathBuf,
    /// Written once the certificate is there.
    pub kubeconfig: PathBuf,
    /// How long the approval may take.
    pub limit: Duration,
}

/// Whether a kubeconfig is there whose client certificate has not expired (`isClientConfigStillValid`). One that cannot be
/// used counts as none and is logged; one that cannot be read is an error, for its place is then taken.
pub fn is_still_valid(path: &Path, now: Timestamp) -> Result<bool, CertificateError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", path)(error)),
        Ok(_) => {}
    }
    let file = path.display();
    let facts = kubeconfig::load(path).and_then(|config| Ok(config.https_options()?)).map(|options| {
        let certificate = options.tls.identity.map(|identity| identity.certificate);
        let text = match certificate {
            Some(Pem::File(path)) => std::fs::read(path).ok(),
            Some(Pem::Inline(text)) => Some(text.to_vec()),
            None => None,
        };
        text.and_then(|text| Facts::parse(&text))
    });
    Ok(match facts {
        Ok(Some(facts)) if now <= facts.not_after => true,
        Ok(Some(facts)) => {
            tracing::warn!(%file, until = %facts.not_after, "the client certificate of this kubeconfig has expired");
            false
        }
        Ok(None) => {
            tracing::warn!(%file, "this kubeconfig has no client certificate that can be read");
            false
        }
        Err(error) => {
            tracing::warn!(%file, %error, "cannot use this kubeconfig");
            false
        }
    })
}

impl Bootstrap {
    /// Nothing to do where `kubeconfig` is still valid. Else `client`, which has the bootstrap credential, asks, and `config`
    /// says which server the new kubeconfig leads to. Before the request is accepted nothing is written; a request that
    /// waits is taken up by the next run.
    pub async fn run(&self, client: &Client, config: &Kubeconfig, clock: &dyn Clock) -> Result<(), CertificateError> {
        if is_still_valid(&self.kubeconfig, clock.now())? {
            return Ok(());
        }
        let store = CertificateStore::new(&self.cert_dir, Purpose::Client);
        let template = Template::client(&self.node_name);
        let key = match store.any_key()? {
            Some(key) => key,
            None => KeyPair::generate()?,
        };
        let name = request::digested_name(&template, &key);
        let submitted = request::submit(client, &template, &key, Some(name)).await?;
        store.keep_pending(&key)?;
        tracing::info!(name = submitted.name, "asked for a client certificate");
        let issued = match request::wait(client, &submitted, self.limit).await {
            Ok(issued) => issued,
            Err(error @ CertificateError::NotApproved { .. }) => return Err(error),
            Err(error) => {
                store.drop_pending()?;
                return Err(error);
            }
        };
        let facts = store.update(&issued, &key, clock.now());
        store.drop_pending()?;
        let facts = facts?;
        store::replace(&self.kubeconfig, kubeconfig_text(config, &store.current_path())?.as_bytes())?;
        tracing::info!(until = %facts.not_after, "has its first client certificate");
        Ok(())
    }
}

/// The kubeconfig of the bootstrap's server, with certificate and key in the file `pem` (`writeKubeconfigFromBootstrapping`).
pub fn kubeconfig_text(config: &Kubeconfig, pem: &Path) -> Result<String, CertificateError> {
    let cluster = config.cluster()?;
    // Strings of JSON are strings of YAML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let mut text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default-cluster\n  cluster:\n    server: {}\n",
        quoted(&cluster.server)
    );
    match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) if !data.is_empty() => {
            text.push_str(&format!("    certificate-authority-data: {}\n", quoted(data)));
        }
        (_, Some(file)) => {
            text.push_str(&format!("    certificate-authority: {}\n", path(&config.directory.join(file))));
        }
        _ => {}
    }
    if let Some(name) = &cluster.tls_server_name {
        text.push_str(&format!("    tls-server-name: {}\n", quoted(name)));
    }
    let pem = path(pem);
    text.push_str(&format!(
        "users:\n- name: default-auth\n  user:\n    client-certificate: {pem}\n    client-key: {pem}\ncontexts:\n\
         - name: default-context\n  context:\n    cluster: default-cluster\n    user: default-auth\n    \
         namespace: default\ncurrent-context: default-context\n"
    ));
    Ok(text)
}
