//! `argosy dns`: cluster DNS, as it runs in its pods.

use anyhow::bail;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::logging::LogFlags;

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub log: LogFlags,
}

pub async fn run(_flags: Flags, _cancel: CancellationToken) -> anyhow::Result<()> {
    bail!("cluster DNS is not part of this version")
}
