//! Kubeconfig files (client-go `tools/clientcmd`): which API server, whom to trust, and as whom.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use net::{
    https::{HttpsOptions, Token},
    tls::{ClientTls, Identity, Pem, Trust},
};
use serde::Deserialize;

/// Where a pod finds its service account (client-go `rest.InClusterConfig`).
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot read kubeconfig {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot parse kubeconfig {}", path.display())]
    Parse { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("kubeconfig has no {what} {name:?}")]
    Missing { what: &'static str, name: String },
    #[error("kubeconfig: {field} is not base64")]
    Base64 { field: &'static str, source: base64::DecodeError },
    #[error("kubeconfig: server {server:?} is not an https URL of a host without path")]
    Server { server: String },
    #[error(
        "kubeconfig: cluster {cluster:?} says insecure-skip-tls-verify, which is refused; give certificate-authority instead"
    )]
    Insecure { cluster: String },
    #[error("kubeconfig: cluster {cluster:?} has no certificate-authority; system roots are not used")]
    NoAuthority { cluster: String },
    #[error("kubeconfig: user {user:?} has a client certificate without key or a key without certificate")]
    HalfIdentity { user: String },
    #[error("kubeconfig: user {user:?} authenticates by {method}, which is not supported")]
    Method { user: String, method: &'static str },
    #[error("not in a cluster: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set or not usable")]
    NotInCluster,
    #[error(transparent)]
    Tls(#[from] net::tls::TlsError),
}

/// A kubeconfig as it is written. Unknown fields are ignored, as kubectl does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    pub clusters: Vec<NamedCluster>,
    pub users: Vec<NamedUser>,
    pub contexts: Vec<NamedContext>,
    pub current_context: String,
    /// What relative paths are relative to: the file's directory.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Set by code, never by a file: accept `insecure-skip-tls-verify`.
    #[serde(skip)]
    pub allow_insecure: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct NamedCluster {
    pub name: String,
    #[serde(default)]
    pub cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct NamedUser {
    pub name: String,
    #[serde(default)]
    pub user: User,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct NamedContext {
    pub name: String,
    #[serde(default)]
    pub context: Context,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    pub server: String,
    pub certificate_authority: Option<PathBuf>,
    pub certificate_authority_data: Option<String>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    pub client_certificate: Option<PathBuf>,
    pub client_certificate_data: Option<String>,
    pub client_key: Option<PathBuf>,
    pub client_key_data: Option<String>,
    pub token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub token_file: Option<PathBuf>,
    pub username: Option<String>,
    pub exec: Option<serde::de::IgnoredAny>,
    pub auth_provider: Option<serde::de::IgnoredAny>,
}

/// Keys and tokens never reach a log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("client_certificate", &self.client_certificate)
            .field("client_key", &self.client_key)
            .field("token_file", &self.token_file)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Context {
    pub cluster: String,
    pub user: String,
    pub namespace: String,
}

pub fn load(path: impl AsRef<Path>) -> crate::Result<Kubeconfig> {
    let path = path.as_ref();
    let text =
        std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
    let mut config: Kubeconfig = serde_saphyr::from_str(&text)
        .map_err(|source| KubeconfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    config.directory = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(config)
}

/// The kubeconfig that a pod's service account amounts to. `host` and `port` are what `KUBERNETES_SERVICE_HOST` and
/// `KUBERNETES_SERVICE_PORT` say.
pub fn in_cluster(host: &str, port: &str) -> Kubeconfig {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let directory = PathBuf::from(SERVICE_ACCOUNT);
    let name = "in-cluster".to_owned();
    let cluster = Cluster {
        server: format!("https://{host}:{port}"),
        certificate_authority: Some(directory.join("ca.crt")),
        ..Cluster::default()
    };
    let user = User { token_file: Some(directory.join("token")), ..User::default() };
    let context = Context { cluster: name.clone(), user: name.clone(), namespace: String::new() };
    Kubeconfig {
        clusters: vec![NamedCluster { name: name.clone(), cluster }],
        users: vec![NamedUser { name: name.clone(), user }],
        contexts: vec![NamedContext { name: name.clone(), context }],
        current_context: name,
        directory,
        allow_insecure: false,
    }
}

impl Kubeconfig {
    /// The context that `current-context` names.
    pub fn context(&self) -> Result<&Context, KubeconfigError> {
        self.contexts
            .iter()
            .find(|context| context.name == self.current_context)
            .map(|named| &named.context)
            .ok_or_else(|| KubeconfigError::Missing { what: "context", name: self.current_context.clone() })
    }

    /// The cluster of the current context.
    pub fn cluster(&self) -> Result<&Cluster, KubeconfigError> {
        let name = &self.context()?.cluster;
        let found = self.clusters.iter().find(|cluster| cluster.name == *name).map(|named| &named.cluster);
        found.ok_or_else(|| KubeconfigError::Missing { what: "cluster", name: name.clone() })
    }

    /// How to reach the server of the current context as its user.
    pub fn https_options(&self) -> Result<HttpsOptions, KubeconfigError> {
        let context = self.context()?;
        let missing = |what, name: &str| KubeconfigError::Missing { what, name: name.to_owned() };
        let cluster = self.cluster()?;
        let user = match self.users.iter().find(|user| user.name == context.user) {
            Some(user) => user.user.clone(),
            None if context.user.is_empty() => User::default(),
            None => return Err(missing("user", &context.user)),
        };
        let (host, port) = server(&cluster.server)?;
        let tls = ClientTls {
            trust: self.trust(&context.cluster, cluster)?,
            identity: self.identity(&context.user, &user)?,
            server_name: cluster.tls_server_name.clone(),
        };
        let mut options = HttpsOptions::new(host, port, tls);
        options.token = self.token(&context.user, &user)?;
        Ok(options)
    }

    fn trust(&self, name: &str, cluster: &Cluster) -> Result<Trust, KubeconfigError> {
        if cluster.insecure_skip_tls_verify {
            return match self.allow_insecure {
                true => Ok(Trust::AnyCertificate),
                false => Err(KubeconfigError::Insecure { cluster: name.to_owned() }),
            };
        }
        self.pem("certificate-authority-data", &cluster.certificate_authority_data, &cluster.certificate_authority)?
            .map(Trust::Bundle)
            .ok_or_else(|| KubeconfigError::NoAuthority { cluster: name.to_owned() })
    }

    fn identity(&self, name: &str, user: &User) -> Result<Option<Identity>, KubeconfigError> {
        let certificate =
            self.pem("client-certificate-data", &user.client_certificate_data, &user.client_certificate)?;
        let key = self.pem("client-key-data", &user.client_key_data, &user.client_key)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (None, None) => Ok(None),
            _ => Err(KubeconfigError::HalfIdentity { user: name.to_owned() }),
        }
    }

    fn token(&self, name: &str, user: &User) -> Result<Option<Token>, KubeconfigError> {
        let unsupported = |method| KubeconfigError::Method { user: name.to_owned(), method };
        if user.exec.is_some() {
            return Err(unsupported("exec"));
        }
        if user.auth_provider.is_some() {
            return Err(unsupported("auth-provider"));
        }
        if user.username.is_some() {
            return Err(unsupported("username and password"));
        }
        // The file wins, as it is the one that is kept fresh.
        let file = user.token_file.as_ref().map(|path| Token::File(self.directory.join(path)));
        Ok(file.or_else(|| user.token.clone().filter(|token| !token.is_empty()).map(Token::Value)))
    }

    /// Inline data wins over a file, as in clientcmd.
    fn pem(
        &self,
        field: &'static str,
        data: &Option<String>,
        file: &Option<PathBuf>,
    ) -> Result<Option<Pem>, KubeconfigError> {
        if let Some(data) = data.as_deref().filter(|data| !data.is_empty()) {
            let compact: String = data.split_ascii_whitespace().collect();
            let pem = BASE64_STANDARD.decode(compact).map_err(|source| KubeconfigError::Base64 { field, source })?;
            return Ok(Some(Pem::Inline(pem.into())));
        }
        let file = file.as_ref().filter(|path| !path.as_os_str().is_empty());
        Ok(file.map(|path| Pem::File(self.directory.join(path))))
    }
}

/// Host (without brackets) and port of `https://HOST[:PORT][/]`.
fn server(server: &str) -> Result<(String, u16), KubeconfigError> {
    let bad = || KubeconfigError::Server { server: server.to_owned() };
    let uri: http::Uri = server.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
        return Err(bad());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(':') && host.parse::<IpAddr>().is_err() {
        return Err(bad());
    }
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}
