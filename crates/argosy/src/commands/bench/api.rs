//! `argosy bench api`: requests per second, latencies and cost of API servers, several in turns.

use std::{ffi::OsString, os::fd::AsFd, path::PathBuf};

use anyhow::{Context, bail};
use bench::{Options, Output, Plan, Target};
use clap::Args;
use client::kubeconfig;
use cluster::{layout::Layout, supervise};

use super::kubeconfig_path;
use crate::signals;

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the API server is and who asks [default: $KUBECONFIG, else that of `argosy up`]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Processes of the server, if they are on this machine: their processor time and memory are shown. Argosy's is found
    /// by its kubeconfig
    #[arg(long, value_name = "PID,...")]
    pid: Option<Pids>,
    /// What the report calls the server [default: the cluster's name in its kubeconfig]
    #[arg(long)]
    name: Option<String>,
    /// A server to compare with, measured in turns with the first; may be given several times
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Processes of each --against, such as kube-apiserver and etcd
    #[arg(long, value_name = "PID,...")]
    against_pid: Vec<Pids>,
    /// Name of each --against
    #[arg(long, value_name = "NAME")]
    against_name: Vec<String>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pids(Vec<u32>);

impl std::str::FromStr for Pids {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Pids, Self::Err> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Pids)
    }
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let cancel = signals::stop_token()?;
    let output = flags.options.output;
    let program = std::env::current_exe().context("finding this program")?;
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let plan = Plan {
        targets: flags.targets()?,
        options: flags.options,
        bare_server: vec![OsString::from(program), "bench".into(), "answer".into()],
        namespace: format!("argosy-bench-{seconds:x}-{}", std::process::id()),
    };
    let report = bench::run(plan, &cancel).await?;
    match output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{}", report.json()),
    }
    Ok(())
}

/// The bare server that `--limits` measures; runs until the process that started it ends.
pub async fn answer() -> anyhow::Result<()> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let input = tokio::net::unix::pipe::Receiver::from_owned_fd(input).context("standard input is no pipe")?;
    Ok(bench::bare::serve(input, |port| println!("{port}")).await?)
}

impl Flags {
    fn targets(&self) -> anyhow::Result<Vec<Target>> {
        if self.against_pid.len() > self.against.len() || self.against_name.len() > self.against.len() {
            bail!("there are more --against-pid or --against-name than --against");
        }
        let mut targets = vec![target(kubeconfig_path(self.kubeconfig.clone()), &self.pid, &self.name)?];
        for (place, path) in self.against.iter().enumerate() {
            let (pids, name) = (self.against_pid.get(place).cloned(), self.against_name.get(place).cloned());
            let mut next = target(path.clone(), &pids, &name)?;
            while targets.iter().any(|target| target.name == next.name) {
                next.name.push('\'');
            }
            targets.push(next);
        }
        Ok(targets)
    }
}

fn target(path: PathBuf, pids: &Option<Pids>, name: &Option<String>) -> anyhow::Result<Target> {
    let kubeconfig = kubeconfig::load(&path)?;
    let cluster = kubeconfig.context()?.cluster.clone();
    let pids = match pids {
        Some(pids) => pids.0.clone(),
        None => own_process(&path).into_iter().collect(),
    };
    if let Some(pid) = pids.iter().find(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
        bail!("there is no process {pid}");
    }
    Ok(Target { name: name.clone().unwrap_or(cluster), kubeconfig, pids })
}

/// The process of a cluster of Argosy's, in whose data folder the kubeconfig lies.
fn own_process(kubeconfig: &std::path::Path) -> Option<u32> {
    let layout = Layout::new(std::path::absolute(kubeconfig).ok()?.parent()?);
    let process = supervise::read_pid_file(&layout.pid_file(supervise::SUPERVISOR)).ok()??;
    process.is_alive().then_some(process.pid)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn kubeconfig(folder: &std::path::Path, cluster: &str) -> String {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: {cluster}}}}}]\n\
             clusters: [{{name: {cluster}, cluster: {{server: 'https://h:1'}}}}]\n"
        );
        let file = folder.join(format!("{cluster}.kubeconfig"));
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    }

    #[test]
    fn each_server_has_its_processes_and_a_name_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (kubeconfig(folder.path(), "a"), kubeconfig(folder.path(), "b"));
        let own = std::process::id();
        let two = format!("{own},1");
        let parse =
            |arguments: &[&str]| Cli::try_parse_from(["x"].iter().chain(arguments)).expect("flags").flags.targets();
        let targets = parse(&[
            "--kubeconfig",
            &a,
            "--against",
            &b,
            "--against-pid",
            &two,
            "--against",
            &a,
            "--pid",
            &own.to_string(),
        ]);
        let found: Vec<_> = targets.expect("targets").into_iter().map(|target| (target.name, target.pids)).collect();
        assert_eq!(found, [("a".into(), vec![own]), ("b".into(), vec![own, 1]), ("a'".into(), vec![])]);
        let named = parse(&["--kubeconfig", &a, "--name", "mine", "--against", &b, "--against-name", "theirs"]);
        let names: Vec<_> = named.expect("targets").into_iter().map(|target| target.name).collect();
        assert_eq!(names, ["mine", "theirs"]);
        assert!(parse(&["--kubeconfig", &a, "--against-name", "b"]).is_err());
        assert!(parse(&["--kubeconfig", &a, "--pid", "4294967295"]).is_err());
    }

    #[test]
    fn a_cluster_in_the_kubeconfigs_folder_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = kubeconfig(folder.path(), "admin");
        assert_eq!(own_process(file.as_ref()), None);
        let layout = Layout::new(folder.path());
        std::fs::create_dir_all(layout.pid_file(supervise::SUPERVISOR).parent().expect("a folder")).expect("made");
        let own = supervise::Process::current().expect("this process");
        supervise::write_pid_file(&layout.pid_file(supervise::SUPERVISOR), &own).expect("written");
        assert_eq!(own_process(file.as_ref()), Some(std::process::id()));
    }
}
