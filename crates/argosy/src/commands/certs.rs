//! `argosy certs`: how long the certificates of the data folder are good for, and new ones in their place.

use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::{
    layout::Layout,
    pki::{Pki, State, Survey},
};
use jiff::Timestamp;

use super::DataFlags;
use crate::display;

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show every certificate and its end; fails when one has expired or does so within 30 days
    Check(CheckFlags),
    /// Issue certificates anew, for what the old ones say
    Renew(RenewFlags),
}

#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    #[command(flatten)]
    data: DataFlags,
}

#[derive(Args, Clone, Debug)]
pub struct RenewFlags {
    /// Names as `check` shows them [default: all that no authority is]
    names: Vec<String>,
    #[command(flatten)]
    data: DataFlags,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(flags) => check(&flags.data.layout()?),
        Command::Renew(flags) => renew(&flags.data.layout()?, &flags.names),
    }
}

fn survey(layout: &Layout, now: SystemTime) -> anyhow::Result<Vec<Survey>> {
    let dir = layout.pki_dir();
    if !dir.exists() {
        bail!("no certificates in {}: name the cluster's folder with --data-dir", dir.display());
    }
    Pki::new(dir).survey(now).context("reading the certificates")
}

fn check(layout: &Layout) -> anyhow::Result<()> {
    let found = survey(layout, SystemTime::now())?;
    let mut rows = vec![["CERTIFICATE", "ISSUER", "EXPIRES", "STATE"].map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(row));
    print!("{}", display::table(&rows));
    let bad = found.iter().filter(|certificate| !certificate.state.is_good()).count();
    if bad > 0 {
        bail!("{bad} of {} certificates need to be renewed: `argosy certs renew`", found.len());
    }
    Ok(())
}

fn row(certificate: &Survey) -> Vec<String> {
    let state = match certificate.state {
        State::Good => "good",
        State::Expiring => "expires within 30 days",
        State::Expired => "expired",
        State::NotYetValid => "not yet valid: is the clock right?",
        State::Unreadable => "holds no certificate",
    };
    let end = certificate.not_after.and_then(|end| Timestamp::try_from(end).ok());
    let end = end.map_or_else(|| "-".to_owned(), |end| end.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    vec![certificate.name.clone(), certificate.issuer.clone(), end, state.to_owned()]
}

fn renew(layout: &Layout, names: &[String]) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let found = survey(layout, now)?;
    let all = found.iter().filter(|c| !c.is_authority && c.state != State::Unreadable).map(|c| c.name.clone());
    let names: Vec<String> = if names.is_empty() { all.collect() } else { names.to_vec() };
    let pki = Pki::new(layout.pki_dir());
    for name in &names {
        pki.renew(name, layout.root(), now)?;
        println!("renewed {name}");
    }
    println!("a running cluster takes them within ten seconds; kubeconfigs in {} hold them", layout.root().display());
    Ok(())
}
