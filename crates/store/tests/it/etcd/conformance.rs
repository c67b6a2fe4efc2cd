//! The suite every engine must pass, on one member and on three.

use std::{cell::Cell, sync::Arc};

use proptest::{prelude::*, test_runner::TestRunner};
use store::{
    Store,
    suite::{self, Operation, run_model},
};

use super::cluster::{Cluster, EtcdEngine};
use crate::{conformance::operation, support::runtime};

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

/// On one member, one run after the other. Times to live are left out: etcd has no clock that a test can set.
#[test]
fn random_runs_match_the_model() {
    let runtime = runtime();
    let cluster = runtime.block_on(async { Arc::new(Cluster::single()) });
    let store = runtime.block_on(cluster.connect());
    let timeless = operation().prop_map(|operation| match operation {
        Operation::Create { key, size, .. } => Operation::Create { key, size, ttl: None },
        Operation::Update { key, size, stale, .. } => Operation::Update { key, size, ttl: None, stale },
        Operation::Advance { seconds } => Operation::Get { key: seconds },
        other => other,
    });
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    let number = Cell::new(0);
    let run = TestRunner::new(config).run(&prop::collection::vec(timeless, 1..60), |operations| {
        number.set(number.get() + 1);
        let engine = EtcdEngine::on(Arc::clone(&cluster), &format!("/run-{}", number.get()));
        runtime.block_on(async {
            // The model knows nothing of what was before it.
            store.compact(store.revision().await.unwrap()).await.unwrap();
            run_model(&engine, &operations).await;
        });
        Ok(())
    });
    run.unwrap();
}
