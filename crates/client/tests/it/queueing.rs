//! Work queues, in a time of their own.

use std::time::Duration;

use client::WorkQueue;
use tokio::time::{Instant, timeout};

const NEVER: Duration = Duration::from_secs(100_000);

async fn is_quiet(queue: &WorkQueue<&'static str>) -> bool {
    timeout(Duration::from_millis(1), queue.get()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_key_is_queued_once_and_in_order() {
    let queue = WorkQueue::new("test");
    for key in ["a", "b", "a", "c", "b"] {
        queue.add(key);
    }
    assert_eq!(queue.len(), 3);
    for key in ["a", "b", "c"] {
        assert_eq!(queue.get().await, Some(key));
    }
    assert!(is_quiet(&queue).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_under_work_waits_for_its_end() {
    let queue = WorkQueue::new("test");
    queue.add("a");
    assert_eq!(queue.get().await, Some("a"));
    queue.add("a");
    queue.add("a");
    assert!(is_quiet(&queue).await && queue.is_empty());
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("a"));
    queue.done(&"a");
    assert!(is_quiet(&queue).await);
}

#[tokio::test(start_paused = true)]
async fn delays_are_kept_and_the_shorter_one_counts() {
    let queue = WorkQueue::new("test");
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(50));
    queue.add_after("soon", Duration::from_secs(90));
    queue.add_after("soon", Duration::from_secs(10));
    queue.add_after("soon", Duration::from_secs(70));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { (queue.get().await, start.elapsed().as_secs()) }
    });
    tokio::task::yield_now().await;
    queue.add_after("first", Duration::from_secs(2));
    assert_eq!(waiting.await.unwrap(), (Some("first"), 2));
    assert_eq!((queue.get().await, start.elapsed().as_secs()), (Some("soon"), 10));
    assert_eq!((queue.get().await, start.elapsed().as_secs()), (Some("late"), 50));
    assert!(timeout(NEVER, queue.get()).await.is_err(), "a key came twice");
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_key_double_its_delay_until_it_is_forgotten() {
    let queue = WorkQueue::new("test");
    let mut delays = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        queue.add_rate_limited("a");
        queue.get().await;
        queue.done(&"a");
        delays.push(start.elapsed().as_millis());
    }
    assert_eq!(delays[..6], [5, 10, 20, 40, 80, 160]);
    assert_eq!(delays[17..], [655_360, 1_000_000, 1_000_000]);
    assert_eq!(queue.failures(&"a"), 20);
    queue.forget(&"a");
    let start = Instant::now();
    queue.add_rate_limited("a");
    queue.get().await;
    assert_eq!(start.elapsed().as_millis(), 5);
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_keys_and_end_with_the_queue() {
    let queue = WorkQueue::new("test");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut keys = Vec::new();
                while let Some(key) = queue.get().await {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    queue.done(&key);
                    keys.push(key);
                }
                keys
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let start = Instant::now();
    for key in 0..40 {
        match key % 2 {
            0 => queue.add(key),
            _ => queue.add_after(key, Duration::from_millis(1)),
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    queue.add_after(99, Duration::from_secs(1));
    queue.shut_down();
    queue.add(100);
    let mut keys = Vec::new();
    for worker in workers {
        keys.extend(worker.await.unwrap());
    }
    keys.sort();
    assert_eq!(keys, (0..40).collect::<Vec<_>>());
    assert_eq!(start.elapsed().as_secs(), 10, "four workers at a second per key");
    assert_eq!(queue.get().await, None);
}
