//! Members that are added and taken out.

use std::time::Duration;

use store::{
    Error,
    etcd::{Member, Members, may_remove},
};

use super::cluster::Cluster;

/// All members once so many of them answer: on a busy machine one may take longer than it is given.
async fn with_answering(members: &Members, wanted: usize) -> Vec<(Member, bool)> {
    let found = async {
        loop {
            let known = members.with_health().await.unwrap();
            if known.iter().filter(|(_, answers)| *answers).count() == wanted {
                return known;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("members answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_added_once_and_taken_out_again() {
    let cluster = Cluster::three();
    let members = Members::connect(cluster.options()).await.unwrap();
    let known = with_answering(&members, 3).await;
    assert_eq!(known.len(), 3);
    assert!(known.iter().all(|(member, _)| member.is_started() && !member.is_learner));

    let url = "http://127.0.0.1:1";
    let added = members.add_learner(url).await.unwrap();
    assert!(added.is_learner && !added.is_started() && added.is_at(url));
    assert_eq!(members.add_learner(url).await.unwrap().id, added.id, "an attempt whose answer was lost");
    // etcd brings one learner up to date at a time.
    let second = members.add_learner("http://127.0.0.1:2").await;
    assert!(matches!(second, Err(Error::Misconfigured { .. })), "{second:?}");
    assert!(!members.promote(added.id).await.unwrap(), "it was never started");
    members.remove(added.id).await.unwrap();
    members.remove(added.id).await.unwrap();
    assert_eq!(members.list().await.unwrap().len(), 3);

    cluster.kill(2);
    let known = with_answering(&members, 2).await;
    let dead: Vec<u64> = known.iter().filter(|(_, answers)| !answers).map(|(member, _)| member.id).collect();
    assert_eq!(dead.len(), 1);
    assert!(may_remove(&known, dead[0]).is_ok());
    assert!(known.iter().filter(|(_, answers)| *answers).all(|(member, _)| may_remove(&known, member.id).is_err()));
    members.remove(dead[0]).await.unwrap();
    assert_eq!(members.list().await.unwrap().len(), 2);
    members.close().await;
}
