//! The command line: commands, and the components by the names that upstream's binaries have.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{
    commands::{
        agent, bench, certs, deploy, dns, down, hello, host, image, network, nodes, server, status, store, token, up,
    },
    components::{apiserver, controller_manager, kubelet, proxy, scheduler},
    flags,
};

/// Components of Kubernetes that this binary answers to, also by the name it is called under.
pub const TOOLS: [&str; 5] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// Kubernetes in one binary
#[derive(Parser, Debug)]
#[command(name = "argosy", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a cluster on this machine, in the background
    Up(up::Flags),
    /// Stop the cluster; its data stays
    Down(down::Flags),
    /// Say what of the cluster runs
    Status(status::Flags),
    /// Run the cluster in the foreground
    Server(server::Flags),
    /// Run a node of another machine's cluster in the foreground
    Agent(Box<agent::Flags>),
    /// Tokens that other machines join with: create, list, delete
    #[command(subcommand)]
    Token(token::Command),
    /// The certificates of the data folder: check, renew
    #[command(subcommand)]
    Certs(certs::Command),
    /// Hosts of a cluster of several: stop, start, cut off, join
    #[command(subcommand)]
    Node(nodes::Command),
    /// Write certificates, configuration and unit files for machines of their own, one folder per machine
    Deploy(deploy::Flags),
    /// Run the pod network of a node whose components are processes of their own
    Network(network::Flags),
    /// Images in the node's containerd
    #[command(subcommand)]
    Image(image::Command),
    /// A cluster's data, embedded or in etcd: check, snapshot, restore, copy, defrag
    #[command(subcommand)]
    Store(store::Command),
    /// Measure a cluster
    #[command(subcommand)]
    Bench(bench::Command),
    /// Run cluster DNS
    Dns(dns::Flags),
    /// Answer HTTP requests with a greeting, or ask for one
    Hello(hello::Flags),
    /// Print the version
    Version,
    /// Run the cluster for `up`
    #[command(hide = true)]
    Background(server::BackgroundFlags),
    /// One host of a layout, for `up`
    #[command(hide = true, subcommand)]
    Host(host::Command),
    /// The API server alone, with upstream's flags
    #[command(name = "kube-apiserver")]
    Apiserver(Box<apiserver::Flags>),
    /// The controllers alone, with upstream's flags
    #[command(name = "kube-controller-manager")]
    ControllerManager(Box<controller_manager::Flags>),
    /// The scheduler alone, with upstream's flags
    #[command(name = "kube-scheduler")]
    Scheduler(Box<scheduler::Flags>),
    /// The kubelet alone, with upstream's flags
    #[command(name = "kubelet")]
    Kubelet(Box<kubelet::Flags>),
    /// The Services' proxy alone, with upstream's flags
    #[command(name = "kube-proxy")]
    Proxy(Box<proxy::Flags>),
}

/// The command that the arguments ask for; the first is the name that the binary was called under.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut arguments = by_called_name(arguments);
    let tool = arguments.get(1).and_then(|a| a.to_str()).and_then(|a| TOOLS.into_iter().find(|tool| *tool == a));
    if let Some(tool) = tool {
        let root = Cli::command();
        let flags = root.find_subcommand(tool).into_iter().flat_map(|command| command.get_arguments());
        let known: Vec<&str> = flags.filter_map(|flag| flag.get_long()).collect();
        let checked = flags::check(tool, &arguments[2..], &known);
        let checked = checked.map_err(|error| clap::Error::raw(ErrorKind::UnknownArgument, format!("{error}\n")))?;
        arguments.splice(2.., checked);
    }
    Cli::try_parse_from(arguments)
}

/// Called as `kubelet --flag`, the binary is `argosy kubelet --flag`.
fn by_called_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|first| Path::new(first).file_name()).and_then(|name| name.to_str());
    if let Some(tool) = name.and_then(|name| TOOLS.into_iter().find(|tool| *tool == name)) {
        arguments.splice(..1, ["argosy".into(), tool.into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        let cli = parse(arguments.iter().map(OsString::from).collect());
        cli.map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_name_it_is_called_under_chooses_the_component() {
        assert!(matches!(parsed(&["/usr/bin/kube-scheduler", "--kubeconfig=/k"]), Ok(Command::Scheduler(_))));
        assert!(matches!(parsed(&["argosy", "kube-scheduler", "--kubeconfig=/k", "--v=2"]), Ok(Command::Scheduler(_))));
        assert!(matches!(parsed(&["/usr/bin/argosy", "version"]), Ok(Command::Version)));
    }

    #[test]
    fn flags_that_only_upstream_has_are_refused_by_name() {
        let error = parsed(&["kubelet", "--topology-manager-policy=none"]).expect_err("not supported");
        assert!(
            error.contains("flag --topology-manager-policy of upstream's kubelet is not supported by Argosy"),
            "{error}"
        );
        assert!(parsed(&["kubelet", "--sail"]).expect_err("unknown").contains("kubelet has no flag --sail"));
    }

    #[test]
    fn every_supported_flag_is_one_of_upstreams() {
        // Our own: where the embedded store lies, and the log level, which upstream registers elsewhere.
        const OWN: [&str; 2] = ["data-dir", "v"];
        for tool in TOOLS {
            let root = Cli::command();
            let command = root.find_subcommand(tool).expect("a command for each component");
            for flag in command.get_arguments().filter_map(|flag| flag.get_long()) {
                let upstreams = flags::check(tool, &[format!("--{flag}").into()], &[]);
                let message = upstreams.expect_err("nothing is known here");
                assert!(OWN.contains(&flag) || message.contains("of upstream's"), "{tool} --{flag}");
            }
        }
    }
}
