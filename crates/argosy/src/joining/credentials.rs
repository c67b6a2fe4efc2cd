//! The kubelet's certificate: what an earlier start has kept, or what the cluster gives for the token.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD};
use client::{
    Client, Clock, Kubeconfig,
    kinds::core::v1::Node,
    kubeconfig::{self as files_of, Cluster, User},
};
use cluster::{
    files,
    joining::pin::{CaPin, pins},
    layout::Layout,
    pki::Pki,
};
use kubelet::certificate::{
    CertificateError, Purpose,
    bootstrap::{Bootstrap, WAIT_LIMIT, is_still_valid, kubeconfig_text},
    store::CertificateStore,
};

use super::{Invitation, discovery::discover, error::JoinError, kubeconfig};
use crate::{clients, node::is_ready};

/// Where the kubelet keeps the certificates that it asks for.
pub fn cert_dir(layout: &Layout) -> PathBuf {
    layout.kubelet_dir().join("pki")
}

/// Refuses a data folder that a cluster of its own lives in.
pub fn check_folder(layout: &Layout) -> Result<(), JoinError> {
    match layout.settings_file().exists() {
        true => Err(JoinError::OwnCluster { path: layout.root().to_owned() }),
        false => Ok(()),
    }
}

/// The cluster to bootstrap with; `None` where an earlier start's certificate still serves. Writes nothing.
pub async fn prepare(
    layout: &Layout,
    invitation: Option<&Invitation>,
    node_name: &str,
    clock: &dyn Clock,
) -> Result<Option<Kubeconfig>, JoinError> {
    let kept = layout.kubeconfig("kubelet");
    let is_kept = is_still_valid(&kept, clock.now())?;
    let Some(invitation) = invitation else {
        return if is_kept { Ok(None) } else { Err(JoinError::NoCredentials { path: layout.root().to_owned() }) };
    };
    if is_kept {
        check_same(&load(layout)?, invitation)?;
        return Ok(None);
    }
    let cluster = discover(invitation, clock).await?;
    let user = User { token: Some(invitation.token.to_string()), ..User::default() };
    let config = kubeconfig(cluster, user);
    check_name(&config, invitation, node_name).await?;
    Ok(Some(config))
}

/// Gets the certificate with what [`prepare`] has found, and puts in place what the node's components read.
pub async fn keep(
    layout: &Layout,
    bootstrap: Option<&Kubeconfig>,
    invitation: Option<&Invitation>,
    node_name: &str,
    clock: &dyn Clock,
) -> Result<(), JoinError> {
    if let Some(config) = bootstrap {
        let task = Bootstrap {
            node_name: node_name.to_owned(),
            cert_dir: cert_dir(layout),
            kubeconfig: layout.kubeconfig("kubelet"),
            limit: WAIT_LIMIT,
        };
        let client = token_client(config)?;
        let asked = task.run(&client, config, clock).await;
        asked.map_err(|error| match (error, invitation) {
            (CertificateError::Request(error), Some(invitation)) => refused(error, invitation),
            (error, _) => error.into(),
        })?;
    }
    let mut config = load(layout)?;
    if let Some(invitation) =
        invitation.filter(|invitation| config.cluster().is_ok_and(|c| c.server != invitation.server))
    {
        // The same cluster, at another address now.
        config.clusters.iter_mut().for_each(|named| named.cluster.server.clone_from(&invitation.server));
        let pem = CertificateStore::new(cert_dir(layout), Purpose::Client).current_path();
        files::write_atomic(&layout.kubeconfig("kubelet"), kubeconfig_text(&config, &pem)?.as_bytes(), 0o600)?;
    }
    let pki = Pki::new(layout.pki_dir());
    files::make_private_dir(pki.dir())?;
    files::write_if_changed(&pki.cert("ca"), &authority(config.cluster()?), 0o644)?;
    Ok(())
}

fn load(layout: &Layout) -> Result<Kubeconfig, JoinError> {
    let path = layout.kubeconfig("kubelet");
    files_of::load(&path).map_err(|cause| JoinError::Request { server: path.display().to_string(), cause })
}

fn authority(cluster: &Cluster) -> Vec<u8> {
    let data = cluster.certificate_authority_data.as_deref().unwrap_or_default();
    BASE64_STANDARD.decode(data).unwrap_or_default()
}

/// Whether what is kept is of the cluster that the machine is to join.
fn check_same(kept: &Kubeconfig, invitation: &Invitation) -> Result<(), JoinError> {
    check_authority(&authority(kept.cluster()?), invitation)
}

/// Whether an authority is the one of the invitation.
pub(super) fn check_authority(ca_pem: &[u8], invitation: &Invitation) -> Result<(), JoinError> {
    let found = pins(ca_pem);
    match invitation.pins.is_empty() || found.iter().all(|pin| invitation.pins.contains(pin)) {
        true => Ok(()),
        false => {
            let found = found.iter().map(CaPin::to_string).collect::<Vec<_>>().join(", ");
            Err(JoinError::OtherCluster { found })
        }
    }
}

pub(super) fn token_client(config: &Kubeconfig) -> Result<Client, JoinError> {
    let server = config.cluster()?.server.clone();
    Client::from_kubeconfig(config, &clients::user_agent("argosy"))
        .map_err(|cause| JoinError::Request { server, cause })
}

/// Whether the token is good, and nobody has the node's name (kubeadm's `join`: a Ready node of that name).
async fn check_name(config: &Kubeconfig, invitation: &Invitation, name: &str) -> Result<(), JoinError> {
    match token_client(config)?.all::<Node>().find(name).await {
        Ok(Some(node)) if is_ready(&node) => Err(JoinError::NodeTaken { name: name.to_owned() }),
        Ok(_) => Ok(()),
        // Whoever set the cluster up may not have let tokens see nodes.
        Err(error) if error.reason() == Some(api::status::Reason::Forbidden) => {
            tracing::warn!(name, %error, "cannot see whether the node's name is taken");
            Ok(())
        }
        Err(error) => Err(refused(error, invitation)),
    }
}

pub(super) fn refused(error: client::Error, invitation: &Invitation) -> JoinError {
    let id = invitation.token.id().to_owned();
    match error.reason() {
        Some(api::status::Reason::Unauthorized) => JoinError::Token { id },
        Some(api::status::Reason::Forbidden) => JoinError::NotAllowed { id, status: error.to_string() },
        _ => JoinError::Request { server: invitation.server.clone(), cause: error },
    }
}
