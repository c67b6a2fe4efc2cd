//! `argosy store member`: who belongs to etcd, for masters that join and go on machines of their own.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::pki::Pki;
use store::etcd::{Member, Members, may_remove};

use super::super::DataFlags;
use crate::{components::storage::EtcdFlags, display, joining::master::NOT_TAKEN};

/// How long a new member may take to catch up with the leader.
const PROMOTE_LIMIT: Duration = Duration::from_secs(120);

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show the members, and whether they answer
    List(EtcdAccess),
    /// Add a member without a vote; it is to be started next, with --initial-cluster-state=existing
    Add(AddFlags),
    /// Give a member its vote once it has caught up
    Promote(NameFlags),
    /// Take a member out, where the others can do without it
    Remove(NameFlags),
}

/// Which etcd, as whom.
#[derive(Args, Clone, Debug)]
pub struct EtcdAccess {
    // Of it are the certificates, where --etcd-cafile names none.
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
}

#[derive(Args, Clone, Debug)]
pub struct AddFlags {
    /// Where the other members will reach it: https://ADDRESS:2380
    peer_url: String,
    #[command(flatten)]
    access: EtcdAccess,
}

#[derive(Args, Clone, Debug)]
pub struct NameFlags {
    /// Its name, its id, or where the others reach it: https://ADDRESS:2380
    member: String,
    #[command(flatten)]
    access: EtcdAccess,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(access) => list(&access.connect().await?).await,
        Command::Add(flags) => add(&flags.access.connect().await?, &flags.peer_url).await,
        Command::Promote(flags) => promote(&flags.access.connect().await?, &flags.member).await,
        Command::Remove(flags) => remove(&flags.access.connect().await?, &flags.member).await,
    }
}

impl EtcdAccess {
    async fn connect(self) -> anyhow::Result<Members> {
        let pki = Pki::new(self.data.layout()?.pki_dir());
        self.etcd.members(&pki).await
    }
}

async fn list(members: &Members) -> anyhow::Result<()> {
    let mut rows =
        vec![["ID", "NAME", "STATE", "PEERS REACH IT AT", "CLIENTS REACH IT AT"].map(str::to_owned).to_vec()];
    for (member, answers) in members.with_health().await? {
        let state = match (member.is_started(), member.is_learner, answers) {
            (false, ..) => "never started",
            (_, true, _) => "learner",
            (_, _, true) => "answers",
            (_, _, false) => "does not answer",
        };
        let name = if member.is_started() { member.name } else { "-".to_owned() };
        let urls = |urls: Vec<String>| if urls.is_empty() { "-".to_owned() } else { urls.join(",") };
        let (peers, clients) = (urls(member.peer_urls), urls(member.client_urls));
        rows.push(vec![format!("{:x}", member.id), name, state.to_owned(), peers, clients]);
    }
    print!("{}", display::table(&rows));
    Ok(())
}

async fn add(members: &Members, peer_url: &str) -> anyhow::Result<()> {
    if !peer_url.starts_with("https://") && !peer_url.starts_with("http://") {
        bail!("{peer_url} is no URL: expected https://ADDRESS:2380");
    }
    if let Some(member) = members.at(peer_url).await?.filter(Member::is_started) {
        bail!("{} is a member already, at {peer_url}", member.name);
    }
    let added = members.add_learner(peer_url).await;
    let added = added.context(NOT_TAKEN)?;
    println!("member {:x} is added: start it, then `argosy store member promote {peer_url}`", added.id);
    Ok(())
}

async fn promote(members: &Members, wanted: &str) -> anyhow::Result<()> {
    let member = find(members.list().await?, wanted)?;
    match tokio::time::timeout(PROMOTE_LIMIT, members.promote_when_caught_up(member.id)).await {
        Ok(done) => done?,
        Err(_) => bail!(
            "{wanted} has not caught up with the others after {} s: see whether its etcd runs (journalctl --unit etcd)",
            PROMOTE_LIMIT.as_secs()
        ),
    }
    println!("member {:x} has a vote", member.id);
    Ok(())
}

async fn remove(members: &Members, wanted: &str) -> anyhow::Result<()> {
    let known = members.with_health().await?;
    let member = find(known.iter().map(|(member, _)| member.clone()).collect(), wanted)?;
    may_remove(&known, member.id)?;
    members.remove(member.id).await?;
    println!("member {:x} is removed", member.id);
    Ok(())
}

/// By name, id or peer URL.
fn find(members: Vec<Member>, wanted: &str) -> anyhow::Result<Member> {
    let is = |member: &Member| member.name == wanted || format!("{:x}", member.id) == wanted || member.is_at(wanted);
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let found = members.into_iter().find(is);
    found.with_context(|| format!("etcd has no member {wanted}; it has {}", names.join(", ")))
}
