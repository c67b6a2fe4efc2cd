//! The suite every engine must pass, on one member and on three.

use std::sync::Arc;

use store::suite;

use super::cluster::{Cluster, EtcdEngine};

store::conformance_tests!(EtcdEngine::single);

/// One after the other, each under a prefix of its own: to start a cluster takes longer than most checks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_pass_the_suite() {
    let cluster = Arc::new(Cluster::three());
    let engine = |name: &str| EtcdEngine::on(Arc::clone(&cluster), &format!("/{name}"));
    suite::revision_order(&engine("revision-order")).await;
    suite::compare_and_swap(&engine("compare-and-swap")).await;
    suite::create_races(&engine("create-races")).await;
    suite::concurrent_increments(&engine("concurrent-increments")).await;
    suite::value_sizes(&engine("value-sizes")).await;
    suite::prefix_edges(&engine("prefix-edges")).await;
    suite::at_a_revision(&engine("at-a-revision")).await;
    suite::pages_stay_on_their_revision(&engine("pages")).await;
    suite::watch_under_writes(&engine("watch-under-writes")).await;
    suite::watch_from_any_revision(&engine("watch-from-any-revision")).await;
    suite::progress(&engine("progress")).await;
    suite::expiry(&engine("expiry")).await;
    suite::reopening(&engine("reopening")).await;
    suite::compaction(&engine("compaction")).await;
}
