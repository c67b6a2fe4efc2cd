//! The allocator, which keeps the process quick and small: jemalloc, told to give freed memory back to the machine.

use std::{
    ffi::{CStr, c_char},
    ptr,
    time::Duration,
};

use tikv_jemalloc_sys::mallctl;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// An arena for each core, shared by the threads that run there; caches of threads that hold a request's buffers too; what
/// was freed goes back after a second. `_RJEM_MALLOC_CONF` in the environment says otherwise.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static CONF: Option<&'static c_char> = {
    const TEXT: &[u8] = b"percpu_arena:percpu,tcache_max:65536,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
    // SAFETY: jemalloc reads the text from its first byte to the zero that ends it.
    Some(unsafe { &*TEXT.as_ptr().cast::<c_char>() })
};

/// Between two looks at what was freed: jemalloc itself looks when memory is asked for, which an idle process does not do.
const EVERY: Duration = Duration::from_secs(2);

/// Gives back what has been free for long enough, for ever.
pub async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        // Takes milliseconds where there is much, which no worker thread should lose.
        let _ = tokio::task::spawn_blocking(decay_all).await;
    }
}

fn decay_all() {
    /// 4096 is `MALLCTL_ARENAS_ALL` of `jemalloc.h`.
    const NAME: &CStr = c"arena.4096.decay";
    // SAFETY: the name ends with a zero, and this operation neither takes nor returns a value.
    unsafe {
        mallctl(NAME.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
    }
}
