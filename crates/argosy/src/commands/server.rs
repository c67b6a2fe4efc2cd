//! `argosy server`: the cluster in the foreground, for unit files; and the process that `argosy up` leaves behind.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::bail;
use clap::Args;
use cluster::{
    joining::{masters::CertificateKey, pin::CaPin, token::BootstrapToken},
    layout::Settings,
    progress::Silent,
    supervise::{Reporter, detach},
};

use super::{
    DataFlags,
    up::{SettingsFlags, check_machine},
};
use crate::{
    joining::{
        Invitation,
        kept::Kept,
        master::{self, JOIN_LIMIT, Wanted},
    },
    logging::{self, LogFlags},
    process::{self, Options},
    signals,
};

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    settings: SettingsFlags,
    /// Run the control plane alone: this machine is no node
    #[arg(long)]
    disable_agent: bool,
    #[command(flatten)]
    joining: JoiningFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// A further master of a cluster that there is.
#[derive(Args, Clone, Debug)]
struct JoiningFlags {
    /// Become a further master of the cluster at this URL, as `argosy token create --role master` prints it; later starts do
    /// without these flags
    #[arg(long, value_name = "URL", requires_all = ["token", "ca_cert_hash", "certificate_key"],
          conflicts_with_all = SettingsFlags::OF_CLUSTER, help_heading = "Joining")]
    join: Option<String>,
    /// The token that invites a master
    #[arg(long, requires = "join", help_heading = "Joining")]
    token: Option<BootstrapToken>,
    /// Hash of the cluster's authority: sha256:HEX
    #[arg(long, value_name = "HASH", value_delimiter = ',', requires = "join", help_heading = "Joining")]
    ca_cert_hash: Vec<CaPin>,
    /// What the cluster's authorities were encrypted with
    #[arg(long, value_name = "KEY", requires = "join", help_heading = "Joining")]
    certificate_key: Option<CertificateKey>,
    /// How long joining may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = JOIN_LIMIT.as_secs(), help_heading = "Joining")]
    join_timeout: u64,
}

impl Flags {
    fn wanted(&self) -> anyhow::Result<Option<Wanted>> {
        let flags = &self.joining;
        let (Some(server), Some(token), Some(key)) = (&flags.join, &flags.token, &flags.certificate_key) else {
            return Ok(None);
        };
        let (name, IpAddr::V4(address)) = self.settings.machine()? else {
            bail!("masters have IPv4 addresses: pass --node-ip");
        };
        let invitation = Invitation::new(server, token, &flags.ca_cert_hash);
        let limit = Duration::from_secs(flags.join_timeout);
        Ok(Some(Wanted { invitation, key: key.clone(), name, address, limit }))
    }
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    logging::start(&flags.log);
    let cancel = signals::stop_token()?;
    let layout = flags.data.layout()?;
    let wanted = flags.wanted()?;
    if wanted.is_some() || Kept::load(&layout)?.is_some() {
        return master::run(&layout, wanted, cancel).await;
    }
    let settings = flags.settings.resolve(&layout)?;
    if !flags.disable_agent {
        check_machine(&layout, &settings)?;
    }
    settings.save(&layout)?;
    let options = Options { layout, settings, node: !flags.disable_agent };
    process::run(options, Arc::new(Silent), || tracing::info!("ready"), cancel).await
}

#[derive(Args, Clone, Debug)]
pub struct BackgroundFlags {
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// Settings were kept and checks made by `up`, which listens at the other end of standard input.
pub async fn run_in_background(flags: BackgroundFlags) -> anyhow::Result<()> {
    /// What is still written when the starter goes away with its end of the socket.
    const LAST_WORDS: Duration = Duration::from_millis(10);
    detach()?;
    let reporter = Arc::new(Reporter::from_stdin());
    logging::start(&flags.log);
    let outcome = supervised(&flags, reporter.clone()).await;
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "ended");
        reporter.fatal(&format!("{error:#}"));
        tokio::time::sleep(LAST_WORDS).await;
    }
    outcome
}

async fn supervised(flags: &BackgroundFlags, reporter: Arc<Reporter>) -> anyhow::Result<()> {
    let cancel = signals::stop_token()?;
    let layout = flags.data.layout()?;
    let settings = Settings::load(&layout)?
        .ok_or_else(|| anyhow::anyhow!("{} is missing: start with `argosy up`", layout.settings_file().display()))?;
    let options = Options { layout, settings, node: true };
    let ready = reporter.clone();
    process::run(options, reporter, move || ready.ready(), cancel).await
}
