//! One file per command.

pub mod agent;
pub mod bench;
pub mod certs;
pub mod deploy;
pub mod dns;
pub mod down;
pub mod hello;
pub mod host;
pub mod image;
pub mod network;
pub mod nodes;
pub mod server;
pub mod status;
pub mod store;
pub mod token;
pub mod topology;
pub mod up;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use cluster::layout::{DEFAULT_DATA_DIR, Layout};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Command},
    components::{KUBERNETES_VERSION, apiserver, controller_manager, kubelet, proxy, scheduler},
    logging::{self, LogFlags},
    signals,
};

/// Where the cluster is.
#[derive(Args, Clone, Debug)]
pub struct DataFlags {
    /// Folder that holds everything of the cluster
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

impl DataFlags {
    pub fn layout(&self) -> anyhow::Result<Layout> {
        let path = std::path::absolute(&self.data_dir);
        Ok(Layout::new(path.with_context(|| format!("--data-dir {}", self.data_dir.display()))?))
    }
}

pub async fn run(cli: Cli) -> anyhow::Result<()> {
    net::tls::install_provider();
    match cli.command {
        Command::Up(flags) => up::run(flags).await,
        Command::Down(flags) => down::run(flags).await,
        Command::Status(flags) => status::run(flags).await,
        Command::Server(flags) => server::run(flags).await,
        Command::Background(flags) => server::run_in_background(flags).await,
        Command::Agent(flags) => component(&flags.log.clone(), |cancel| agent::run(*flags, cancel)).await,
        Command::Token(command) => token::run(command).await,
        Command::Certs(command) => certs::run(command),
        Command::Bench(command) => bench::run(command).await,
        Command::Store(command) => store::run(command).await,
        Command::Deploy(flags) => deploy::run(&flags),
        Command::Node(command) => nodes::run(command).await,
        Command::Host(command) => host::run(command).await,
        Command::Network(flags) => component(&flags.log.clone(), |cancel| network::run(flags, cancel)).await,
        Command::Image(command) => image::run(command).await,
        Command::Dns(flags) => component(&flags.log.clone(), |cancel| dns::run(flags, cancel)).await,
        Command::Hello(flags) => hello::run(flags).await,
        Command::Version => {
            println!("argosy v{} (Kubernetes {KUBERNETES_VERSION})", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Apiserver(flags) => component(&flags.log.clone(), |cancel| apiserver::run(*flags, cancel)).await,
        Command::ControllerManager(flags) => {
            component(&flags.log.clone(), |cancel| controller_manager::run(*flags, cancel)).await
        }
        Command::Scheduler(flags) => component(&flags.log.clone(), |cancel| scheduler::run(*flags, cancel)).await,
        Command::Kubelet(flags) => component(&flags.log.clone(), |cancel| kubelet::run(*flags, cancel)).await,
        Command::Proxy(flags) => component(&flags.log.clone(), |cancel| proxy::run(*flags, cancel)).await,
    }
}

/// Runs something that goes on until a signal ends it, and logs.
async fn component<Fut: Future<Output = anyhow::Result<()>>>(
    log: &LogFlags,
    run: impl FnOnce(CancellationToken) -> Fut,
) -> anyhow::Result<()> {
    logging::start(log);
    run(signals::stop_token()?).await
}
