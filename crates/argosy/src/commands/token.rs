//! `argosy token`: bootstrap tokens, with which other machines join (kubeadm's `token`).

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use clap::{Args, Subcommand};
use client::{
    Client, Clock, Kind, Kubeconfig, ListParams, SystemClock,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    k8s_openapi::ByteString,
    kinds::core::v1::{ConfigMap, Secret},
    kubeconfig,
};
use cluster::{
    joining::{
        CLUSTER_INFO, PUBLIC_NAMESPACE, TOKENS_NAMESPACE,
        cluster_info::{self, ClusterInfo},
        masters::{self, CertificateKey, Inheritance},
        objects::{self, Placed},
        pin::pins,
        token::{BootstrapToken, COLUMNS, SECRET_TYPE, TokenRecord, id_of, secret_name},
    },
    layout::Settings,
    machine,
    pki::Pki,
    topology::{Topology, TopologyError},
};
use http::Method;

use super::{DataFlags, nodes::Role};
use crate::{clients, display, flags::GoDuration, joining::kept::Kept};

/// As kubeadm's tokens.
const WORKER_TTL: Duration = Duration::from_secs(24 * 3600);
/// As long as kubeadm's uploaded certificates.
const MASTER_TTL_MAX: Duration = Duration::from_secs(2 * 3600);

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Make a token, and whatever the cluster lacks for machines to join with it
    Create(CreateFlags),
    /// Show the tokens
    List(ClusterFlags),
    /// Delete tokens
    Delete(DeleteFlags),
}

/// Which cluster, as an administrator.
#[derive(Args, Clone, Debug)]
pub struct ClusterFlags {
    #[command(flatten)]
    data: DataFlags,
    /// The cluster's administrator [default: admin.kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct CreateFlags {
    /// The token, where it is not to be a random one: abcdef.0123456789abcdef
    token: Option<BootstrapToken>,
    /// What machines become that join with it. A master gets the cluster's authorities, which are uploaded encrypted
    #[arg(long, value_enum, default_value_t = Role::Worker)]
    role: Role,
    /// How long it is good for; 0 for ever [default: 24h, or 2h for a master, which is the most for one]
    #[arg(long)]
    ttl: Option<GoDuration>,
    /// The EncryptionConfiguration of the API servers, where they have one: a further master needs it
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// Print the command that joins a machine, and not the token alone
    #[arg(long)]
    print_join_command: bool,
    /// Where machines reach the API server [default: what cluster-info says, else this machine's address]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Args, Clone, Debug)]
pub struct DeleteFlags {
    /// Tokens, or their ids
    #[arg(required = true)]
    tokens: Vec<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(flags) => create(flags).await,
        Command::List(flags) => list(&flags).await,
        Command::Delete(flags) => delete(&flags).await,
    }
}

impl ClusterFlags {
    fn connect(&self) -> anyhow::Result<(Kubeconfig, Client)> {
        let path = match &self.kubeconfig {
            Some(path) => path.clone(),
            None => self.data.layout()?.kubeconfig("admin"),
        };
        let context = || format!("{}: --kubeconfig names the cluster's administrator", path.display());
        let config = kubeconfig::load(&path).with_context(context)?;
        let client = Client::from_kubeconfig(&config, &clients::user_agent("argosy")).with_context(context)?;
        Ok((config, client))
    }

    /// The administrator's server, where other machines can reach it: his own leads over loopback on the machine itself.
    fn server(&self, config: &Kubeconfig) -> anyhow::Result<String> {
        let options = config.https_options()?;
        let is_loopback = options.host == "localhost"
            || options.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if !is_loopback {
            return Ok(config.cluster()?.server.clone());
        }
        let address = match Settings::load(&self.data.layout()?)? {
            Some(settings) => settings.node_ip,
            None => machine::node_ip()?,
        };
        Ok(format!("https://{}", std::net::SocketAddr::new(address, options.port)))
    }
}

async fn create(flags: CreateFlags) -> anyhow::Result<()> {
    let is_for_master = flags.role == Role::Master;
    let ttl = ttl(&flags)?;
    let inheritance = if is_for_master { Some(inheritance(&flags)?) } else { None };
    let (config, client) = flags.cluster.connect()?;
    let info = ensure_joining(&flags, &config, &client).await?;
    let token = flags.token.unwrap_or_else(|| BootstrapToken::generate(&mut rand::rng()));
    let record = TokenRecord::new(token, &flags.description, ttl, SystemClock.now());
    let record = if is_for_master { record.for_master() } else { record };
    let data = record.data().into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect();
    let secret = Secret {
        metadata: ObjectMeta { name: Some(secret_name(record.token.id())), ..ObjectMeta::default() },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let created = match client.namespaced::<Secret>(TOKENS_NAMESPACE).create(&secret).await {
        Err(error) if error.is_already_exists() => {
            bail!("a token {} is there already: delete it, or choose another", record.token.id())
        }
        created => created.context("creating the token's Secret")?,
    };
    let key = match inheritance {
        Some(inheritance) => Some(upload(&client, &created, record.token.id(), &inheritance).await?),
        None => None,
    };
    let hashes: String = pins(&info.ca_pem).iter().map(|pin| format!(" --ca-cert-hash {pin}")).collect();
    match key {
        Some(key) if flags.print_join_command => {
            println!("argosy server --join {} --token {}{hashes} --certificate-key {key}", info.server, record.token);
        }
        Some(key) => println!("{} --certificate-key {key}", record.token),
        None if flags.print_join_command => {
            println!("argosy agent --server {} --token {}{hashes}", info.server, record.token);
        }
        None => println!("{}", record.token),
    }
    Ok(())
}

fn ttl(flags: &CreateFlags) -> anyhow::Result<Duration> {
    match (flags.role, &flags.ttl) {
        (Role::Worker, ttl) => Ok(ttl.as_ref().map_or(WORKER_TTL, |ttl| ttl.0)),
        (Role::Master, None) => Ok(MASTER_TTL_MAX),
        (Role::Master, Some(ttl)) if ttl.0.is_zero() || ttl.0 > MASTER_TTL_MAX => {
            bail!("a token for a master lasts two hours at most: with it goes what was uploaded of the authorities")
        }
        (Role::Master, Some(ttl)) => Ok(ttl.0),
    }
}

/// What a further master has to be given, from where the cluster's authorities are.
fn inheritance(flags: &CreateFlags) -> anyhow::Result<Inheritance> {
    let layout = flags.cluster.data.layout()?;
    let kept = Kept::load(&layout)?.map(|kept| kept.topology);
    let Some(topology) = Topology::load(&layout)?.or(kept) else {
        if Settings::load(&layout)?.is_some_and(|_| layout.store_dir().exists()) {
            bail!(
                "the cluster in {} keeps its data in the embedded store, which one API server has for itself: several masters \
                 need etcd. Stop it, make a layout of the kind ha (`argosy deploy`), copy the data to its etcd with \
                 `argosy store copy to-etcd --etcd-servers ...`, and start its API servers",
                layout.root().display()
            );
        }
        bail!(
            "{} holds no layout: --data-dir names the folder that `argosy deploy --out` or `argosy up --topology` has made, \
             where the cluster's authorities are",
            layout.root().display()
        );
    };
    if !topology.shape.has_several_masters() {
        return Err(TopologyError::OneMaster(topology.shape).into());
    }
    let encryption = match &flags.encryption_provider_config {
        Some(path) => Some(std::fs::read(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    Ok(Inheritance::collect(&Pki::new(layout.pki_dir()), &topology, encryption)?)
}

/// Puts the authorities into the cluster, for the holder of the token and of the key that this returns.
async fn upload(
    client: &Client,
    token: &Secret,
    id: &str,
    inheritance: &Inheritance,
) -> anyhow::Result<CertificateKey> {
    let key = CertificateKey::generate(&mut rand::rng());
    let uid = token.metadata.uid.as_deref().unwrap_or_default();
    for Placed { collection, object } in masters::objects(id, uid, &inheritance.seal(&key)?) {
        let body = Bytes::from(object.to_string());
        let created = client.raw(Method::POST, &collection, Some("application/json"), body).await;
        if let Err(error) = created {
            // What was created before it goes with the token.
            client.namespaced::<Secret>(TOKENS_NAMESPACE).delete(token.name(), &Default::default()).await?;
            return Err(error).with_context(|| format!("creating {} {}", object["kind"], object["metadata"]["name"]));
        }
    }
    Ok(key)
}

/// Creates what is missing of cluster-info and the rules of joining; gives cluster-info.
async fn ensure_joining(flags: &CreateFlags, config: &Kubeconfig, client: &Client) -> anyhow::Result<ClusterInfo> {
    for Placed { collection, object } in objects::rules() {
        let body = Bytes::from(object.to_string());
        match client.raw(Method::POST, &collection, Some("application/json"), body).await {
            Err(error) if !error.is_already_exists() => {
                return Err(error).with_context(|| format!("creating {}", object["metadata"]["name"]));
            }
            _ => {}
        }
    }
    let maps = client.namespaced::<ConfigMap>(PUBLIC_NAMESPACE);
    let found = match maps.find(CLUSTER_INFO).await.context("reading cluster-info")? {
        Some(found) => found,
        None => {
            let server = flags.server.clone().map_or_else(|| flags.cluster.server(config), Ok)?;
            let map = cluster_info::config_map(&server, &authority(config)?);
            let map: ConfigMap = serde_json::from_value(map)?;
            maps.create(&map).await.context("creating cluster-info")?
        }
    };
    let read = |map: &ConfigMap| {
        ClusterInfo::read(map.data.clone().unwrap_or_default(), |text| serde_saphyr::from_str(text).ok())
    };
    let info = read(&found)?;
    let Some(server) = flags.server.as_ref().filter(|server| **server != info.server) else { return Ok(info) };
    // Its signatures are of the old text, and are made anew by the cluster.
    let mut changed = found;
    let map: ConfigMap = serde_json::from_value(cluster_info::config_map(server, &info.ca_pem))?;
    changed.data = map.data;
    Ok(read(&maps.update(&changed).await.context("updating cluster-info")?)?)
}

/// The authority's certificate in the administrator's kubeconfig.
fn authority(config: &Kubeconfig) -> anyhow::Result<Vec<u8>> {
    let cluster = config.cluster()?;
    match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) if !data.is_empty() => Ok(BASE64_STANDARD.decode(data)?),
        (_, Some(file)) => {
            let path = config.directory.join(file);
            std::fs::read(&path).with_context(|| path.display().to_string())
        }
        _ => bail!("the kubeconfig has no certificate-authority, which joining machines have to know"),
    }
}

async fn list(flags: &ClusterFlags) -> anyhow::Result<()> {
    let (_, client) = flags.connect()?;
    let select = ListParams::fields(format!("type={SECRET_TYPE}"));
    let secrets = client.namespaced::<Secret>(TOKENS_NAMESPACE).list(&select).await.context("listing tokens")?;
    let now = SystemClock.now();
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    for secret in secrets.items {
        let name = secret.metadata.name.unwrap_or_default();
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        match TokenRecord::read(&name, &data) {
            Ok(record) => rows.push(record.row(now).to_vec()),
            Err(error) => eprintln!("{error}"),
        }
    }
    if rows.len() > 1 {
        print!("{}", display::table(&rows));
    }
    Ok(())
}

async fn delete(flags: &DeleteFlags) -> anyhow::Result<()> {
    let ids: Vec<String> = flags.tokens.iter().map(|token| id_of(token)).collect::<Result<_, _>>()?;
    let (_, client) = flags.cluster.connect()?;
    for id in ids {
        let deleted =
            client.namespaced::<Secret>(TOKENS_NAMESPACE).delete(&secret_name(&id), &Default::default()).await;
        deleted.with_context(|| format!("deleting the token {id}"))?;
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}
