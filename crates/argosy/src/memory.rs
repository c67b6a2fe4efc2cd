//! Keeps the process small: few allocator arenas, and freed memory given back while there is nothing to do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Between two returns of free memory.
const TRIM_EVERY: Duration = Duration::from_secs(60);

#[cfg(target_env = "gnu")]
mod malloc {
    /// `M_ARENA_MAX` of `malloc.h`.
    pub const ARENA_MAX: i32 = -8;
    unsafe extern "C" {
        pub fn mallopt(parameter: i32, value: i32) -> i32;
        pub fn malloc_trim(pad: usize) -> i32;
    }
}

/// glibc gives every thread an arena of its own, up to eight per core, and what one has freed no other uses. Call before
/// the first thread starts.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes plain numbers; no other thread runs yet.
    unsafe {
        malloc::mallopt(malloc::ARENA_MAX, 2);
    }
}

/// Gives free memory back to the machine now.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim locks each arena for itself.
    unsafe {
        malloc::malloc_trim(0);
    }
}

/// Does so every minute: most of what a start needs is free soon after it.
pub async fn trim_regularly(cancel: CancellationToken) {
    while cancel.run_until_cancelled(tokio::time::sleep(TRIM_EVERY)).await.is_some() {
        // Takes a few milliseconds, which no worker thread should lose.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}
