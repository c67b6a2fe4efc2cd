//! Who belongs to an etcd cluster: etcd's Cluster API, for masters that join and go.
//!
//! A member joins as a learner, which has no vote: a cluster loses nothing by one that never starts. It is promoted once it
//! has caught up with the leader.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::{
    EtcdOptions,
    client::{Client, Denial},
    proto,
};
use crate::{Error, Result};

const LIST: &str = "/etcdserverpb.Cluster/MemberList";
const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";

/// etcd changes its members only when they have been connected to each other for five seconds (`HealthInterval`).
const SETTLE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at whether a learner has caught up.
const CATCHING_UP: Duration = Duration::from_millis(200);
/// For one member to say whether it can answer.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// One member, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    /// Empty where the member was added and has never been started.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Empty where `name` is.
    pub client_urls: Vec<String>,
    /// Follows, and has no vote.
    pub is_learner: bool,
}

impl Member {
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    pub fn is_at(&self, peer_url: &str) -> bool {
        self.peer_urls.iter().any(|url| url == peer_url)
    }
}

impl From<proto::Member> for Member {
    fn from(member: proto::Member) -> Member {
        let proto::Member { id, name, peer_urls, client_urls, is_learner } = member;
        Member { id, name, peer_urls, client_urls, is_learner }
    }
}

/// Why a member must stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalRefused {
    #[error("{name} is etcd's only member: the data would go with it")]
    Last { name: String },
    #[error(
        "without {name} etcd would have {left} members, of which {answer} answer and {needed} are needed: \
         bring the others back first"
    )]
    NoMajority { name: String, left: usize, answer: usize, needed: usize },
    #[error("etcd has no member {0:x}")]
    Unknown(u64),
}

/// Whether the others can do without a member; `members` with whether each of them answers.
pub fn may_remove(members: &[(Member, bool)], id: u64) -> Result<(), RemovalRefused> {
    let (going, _) = members.iter().find(|(member, _)| member.id == id).ok_or(RemovalRefused::Unknown(id))?;
    if going.is_learner {
        return Ok(());
    }
    let rest: Vec<bool> =
        members.iter().filter(|(m, _)| m.id != id && !m.is_learner).map(|(_, answers)| *answers).collect();
    let (name, left) = (going.name.clone(), rest.len());
    let (answer, needed) = (rest.iter().filter(|answers| **answers).count(), left / 2 + 1);
    match left {
        0 => Err(RemovalRefused::Last { name }),
        _ if answer < needed => Err(RemovalRefused::NoMajority { name, left, answer, needed }),
        _ => Ok(()),
    }
}

/// The members of a cluster, as an administrator.
pub struct Members {
    client: Client,
}

impl Members {
    /// Reads through a quorum.
    ///
    /// # Errors
    /// As [`super::Etcd::connect`].
    pub async fn connect(options: EtcdOptions) -> Result<Members> {
        let client = Client::new(options)?;
        client.revision().await?;
        Ok(Members { client })
    }

    pub async fn list(&self) -> Result<Vec<Member>> {
        let limit = self.client.options.timeouts.read;
        let asked = self.client.read(LIST, proto::MemberListRequest { linearizable: true }, limit).await;
        let answer: proto::MembersResponse = asked?;
        Ok(answer.members.into_iter().map(Member::from).collect())
    }

    /// The member that its peers reach at `peer_url`.
    pub async fn at(&self, peer_url: &str) -> Result<Option<Member>> {
        Ok(self.list().await?.into_iter().find(|member| member.is_at(peer_url)))
    }

    /// Every member with whether it answers and knows a quorum.
    pub async fn with_health(&self) -> Result<Vec<(Member, bool)>> {
        let asked = self.list().await?.into_iter().map(|member| async move {
            let answers = self.answers(&member).await;
            (member, answers)
        });
        Ok(futures_util::future::join_all(asked).await)
    }

    async fn answers(&self, member: &Member) -> bool {
        let mut options = EtcdOptions { endpoints: member.client_urls.clone(), ..self.client.options.clone() };
        options.timeouts.patience = Duration::ZERO;
        let Ok(client) = Client::new(options) else { return false };
        matches!(tokio::time::timeout(HEALTH_LIMIT, client.revision()).await, Ok(Ok(_)))
    }

    /// Adds a learner that its peers will reach at `peer_url`, unless there is a member there already. Tries again while
    /// etcd finds that its members have not been connected for long enough.
    pub async fn add_learner(&self, peer_url: &str) -> Result<Member> {
        let begin = Instant::now();
        let request = proto::MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
        loop {
            // One of an attempt whose answer was lost.
            if let Some(member) = self.at(peer_url).await? {
                return Ok(member);
            }
            let added: Result<proto::MemberAddResponse, Denial> = self.client.write(ADD, request.clone()).await;
            match added {
                Ok(proto::MemberAddResponse { member: Some(member) }) => return Ok(member.into()),
                Ok(_) => {}
                Err(denial) => again(denial, begin)?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Gives a learner its vote. Returns false while it has not caught up with the leader.
    pub async fn promote(&self, id: u64) -> Result<bool> {
        let done: Result<proto::MembersResponse, Denial> =
            self.client.write(PROMOTE, proto::MemberIdRequest { id }).await;
        match done {
            Ok(_) => Ok(true),
            // Not in sync yet, or promoted by an attempt whose answer was lost.
            Err(Denial::Refused(failure)) if failure.code == Code::FailedPrecondition => self.has_vote(id).await,
            Err(Denial::Error(Error::Unknown { .. } | Error::Unavailable { .. })) => self.has_vote(id).await,
            Err(denial) => Err(denial.into()),
        }
    }

    /// Gives a learner its vote as soon as it has caught up, which it may never do.
    pub async fn promote_when_caught_up(&self, id: u64) -> Result<()> {
        while !self.promote(id).await? {
            tokio::time::sleep(CATCHING_UP).await;
        }
        Ok(())
    }

    async fn has_vote(&self, id: u64) -> Result<bool> {
        Ok(self.list().await?.iter().any(|member| member.id == id && !member.is_learner))
    }

    /// Takes a member out; that it is not there is success. Whether the others can do without it is for [`may_remove`].
    pub async fn remove(&self, id: u64) -> Result<()> {
        let begin = Instant::now();
        loop {
            let removed: Result<proto::MembersResponse, Denial> =
                self.client.write(REMOVE, proto::MemberIdRequest { id }).await;
            match removed {
                Ok(_) => return Ok(()),
                Err(Denial::Refused(failure)) if failure.code == Code::NotFound => return Ok(()),
                Err(denial) => again(denial, begin)?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes out the member that its peers reach at `peer_url`, if there is one.
    pub async fn remove_at(&self, peer_url: &str) -> Result<()> {
        match self.at(peer_url).await? {
            Some(member) => self.remove(member.id).await,
            None => Ok(()),
        }
    }

    pub async fn close(self) {
        self.client.close().await;
    }
}

/// Whether trying again may help.
fn again(denial: Denial, begin: Instant) -> Result<()> {
    match denial {
        Denial::Error(Error::Unknown { .. } | Error::Unavailable { .. }) if begin.elapsed() < SETTLE => Ok(()),
        // What etcd answers then, and would be the outcome of a write.
        Denial::Error(Error::Unknown { message }) => Err(Error::Unavailable { message }),
        denial => Err(denial.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_goes_only_where_the_others_have_a_majority() {
        // `A` answers, `d` does not, `l` is a learner; the first one goes.
        for (cluster, allowed) in [
            ("AAA", true),
            ("dAA", true),
            ("AAd", false),
            ("AA", true),
            ("Ad", false),
            ("A", false),
            ("Al", false),
            ("lA", true),
            ("ld", true),
            ("AAAd", true),
            ("AAdd", false),
            ("AAAdd", false),
            ("dAAAd", true),
        ] {
            let members: Vec<(Member, bool)> = (cluster.chars().enumerate())
                .map(|(at, kind)| {
                    let id = at as u64 + 1;
                    let name = format!("m{id}");
                    let member = Member { id, name, peer_urls: vec![], client_urls: vec![], is_learner: kind == 'l' };
                    (member, kind == 'A')
                })
                .collect();
            assert_eq!(may_remove(&members, 1).is_ok(), allowed, "{cluster}");
        }
        assert_eq!(may_remove(&[], 7), Err(RemovalRefused::Unknown(7)));
    }
}
