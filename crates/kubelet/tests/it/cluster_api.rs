//! An API server with a cluster's certificates that listens on a port of its own, and who approves and signs requests.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use apiserver::{Config, Server, ServiceAccountKeys, SystemClock};
use client::{
    Client, Kind, ListParams,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    k8s_openapi::ByteString,
    kinds::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
        rbac::v1::{ClusterRoleBinding, RoleRef, Subject},
    },
    kubeconfig,
};
use cluster::{
    layout::Layout,
    pki::{self, CsrPolicy, Pki, Signer, Usage},
};
use http_body_util::BodyExt;
use kubelet::certificate::request::{Outcome, outcome};
use net::{
    server::{Handler, ServeOptions, serve_tls},
    tls::{Identity, Pem, ServerTls, server_config},
};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair};
use store::embedded::{Embedded, EmbeddedOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";

pub struct Api {
    pub admin: Client,
    pub folder: tempfile::TempDir,
    pub target: pki::KubeconfigTarget,
    pub pki: Pki,
    stop: CancellationToken,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How an approved certificate's life lies around now, in seconds.
#[derive(Clone, Copy)]
pub struct Life {
    pub before: u64,
    pub after: u64,
}

impl Api {
    pub async fn start() -> Api {
        net::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path().join("cluster"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let target = pki::KubeconfigTarget { cluster: "own".into(), server: format!("https://127.0.0.1:{port}") };
        let pki = certificates(&layout, &target);
        let stop = CancellationToken::new();
        let store = Arc::new(Embedded::open(EmbeddedOptions::new(folder.path().join("store"))).expect("a store"));
        let config = config(&pki, port);
        let server = Server::start(config, store, Arc::new(SystemClock), stop.clone()).await.expect("a server");
        let handler: Handler =
            Arc::new(move |request| server.handle(request.map(|body| body.map_err(Into::into).boxed_unsync())));
        let identity = Identity::files(pki.cert("apiserver"), pki.key("apiserver"));
        let tls = ServerTls { identity, client_cas: vec![Pem::File(pki.cert("ca"))] };
        let options = ServeOptions { drain: Duration::ZERO, ..ServeOptions::default() };
        tokio::spawn(serve_tls(listener, server_config(tls).expect("TLS"), handler, options, stop.clone()));
        let admin = client(&layout.kubeconfig("admin"));
        let api = Api { admin, folder, target, pki, stop };
        api.let_bootstrappers_ask().await;
        api
    }

    async fn let_bootstrappers_ask(&self) {
        let group = "rbac.authorization.k8s.io".to_owned();
        let binding = ClusterRoleBinding {
            metadata: ObjectMeta { name: Some("kubeadm:kubelet-bootstrap".into()), ..ObjectMeta::default() },
            role_ref: RoleRef {
                api_group: Some(group.clone()),
                kind: "ClusterRole".into(),
                name: "system:node-bootstrapper".into(),
            },
            subjects: Some(vec![Subject {
                api_group: Some(group),
                kind: "Group".into(),
                name: BOOTSTRAPPERS.into(),
                namespace: None,
            }]),
        };
        self.admin.all::<ClusterRoleBinding>().create(&binding).await.expect("bound");
    }

    /// A kubeconfig with a certificate of this user and group.
    pub fn kubeconfig(&self, user: &str, group: &str) -> PathBuf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, user);
        let request = params.serialize_request(&key).and_then(|request| request.pem()).expect("a request");
        let signer = Signer::load(&self.pki.cert("ca"), &self.pki.key("ca")).expect("a signer");
        let hour = Duration::from_secs(3600);
        let certificate = signer.sign(&request, CsrPolicy::Client, &[Usage::Client], hour, SystemTime::now());
        let certificate = certificate.expect("signed");
        let ca = signer.certificate_pem().as_bytes();
        let text = pki::kubeconfig(&self.target, user, ca, certificate.as_bytes(), key.serialize_pem().as_bytes());
        let path = self.folder.path().join("bootstrap.kubeconfig");
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("system:bootstrap:abcdef", BOOTSTRAPPERS)
    }

    pub async fn requests(&self) -> Vec<CertificateSigningRequest> {
        let requests = self.admin.all::<CertificateSigningRequest>();
        requests.list(&ListParams::default()).await.expect("a list").items
    }

    /// Gives one open request after the other this condition, and a certificate of the next of `lives` where it is
    /// `Approved`.
    pub async fn answer(&self, condition: &str, lives: &[Life]) {
        for life in lives {
            let request = loop {
                let open = self.requests().await.into_iter().find(|request| outcome(request) == Outcome::Pending);
                match open {
                    Some(request) => break request,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            self.answer_one(request, condition, *life).await;
        }
    }

    async fn answer_one(&self, mut request: CertificateSigningRequest, condition: &str, life: Life) {
        let requests = self.admin.all::<CertificateSigningRequest>();
        let name = request.name().to_owned();
        let approval = CertificateSigningRequestCondition {
            type_: condition.into(),
            status: "True".into(),
            reason: Some("Tested".into()),
            message: Some("by the test".into()),
            ..CertificateSigningRequestCondition::default()
        };
        request.status.get_or_insert_default().conditions = Some(vec![approval]);
        let path = format!("{}/{name}/approval", requests.path());
        let raw = |body: Vec<u8>, path: String| async move {
            self.admin.raw(http::Method::PUT, &path, Some("application/json"), body.into()).await.expect("written");
        };
        raw(request.encode(), path).await;
        if condition != "Approved" {
            return;
        }
        let mut approved = requests.get(&name).await.expect("approved");
        let signed = self.sign(&approved.spec.request.0, life);
        approved.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
        requests.update_status(&approved).await.expect("issued");
    }

    fn sign(&self, request: &[u8], life: Life) -> String {
        let text = |path: &Path| std::fs::read_to_string(path).expect("PEM");
        let key = KeyPair::from_pem(&text(&self.pki.key("ca"))).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&text(&self.pki.cert("ca")), key).expect("an authority");
        let request = std::str::from_utf8(request).expect("PEM");
        let mut request = CertificateSigningRequestParams::from_pem(request).expect("a request");
        request.params.not_before = (SystemTime::now() - Duration::from_secs(life.before)).into();
        request.params.not_after = (SystemTime::now() + Duration::from_secs(life.after)).into();
        request.params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        request.signed_by(&issuer).expect("signed").pem()
    }
}

pub fn client(kubeconfig: &Path) -> Client {
    let config = kubeconfig::load(kubeconfig).expect("a kubeconfig");
    Client::from_kubeconfig(&config, "test").expect("a client")
}

fn certificates(layout: &Layout, target: &pki::KubeconfigTarget) -> Pki {
    let pki = Pki::new(layout.pki_dir());
    let identity = pki::Identity {
        roles: pki::Roles::ALL_IN_ONE,
        node_name: "node".into(),
        node_ips: vec![Ipv4Addr::LOCALHOST.into()],
        kubernetes_service_ip: Ipv4Addr::new(10, 96, 0, 1).into(),
        cluster_domain: "cluster.local".into(),
        apiserver_sans: Vec::new(),
    };
    pki.ensure(&identity, SystemTime::now()).expect("certificates");
    pki::write_kubeconfigs(layout, &pki, target, None).expect("kubeconfigs");
    pki
}

fn config(pki: &Pki, port: u16) -> Config {
    let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
    let read = |path: PathBuf| Arc::from(std::fs::read(path).expect("a key"));
    let keys = ServiceAccountKeys {
        api_audiences: vec![issuer.clone()],
        issuer,
        signing_key: read(pki.service_account_key()),
        verification_keys: vec![read(pki.service_account_public())],
    };
    Config::new(Ipv4Addr::LOCALHOST.into(), port, keys)
}
