//! What an idle connection costs a server in heap, by an allocator that counts per thread: thousands of kubelets keep
//! connections open.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
    sync::mpsc,
    time::Duration,
};

use net::{https::HttpsClient, server::ServeOptions};
use tokio::io::AsyncWriteExt;

use crate::{
    pki::Authority,
    setup::{client, get, handler, read_head, start_with, text},
};

struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has nothing left to count with.
    let _ = IN_USE.try_with(|in_use| in_use.set(in_use.get() + bytes));
}

// SAFETY: every call is the system allocator's, with its arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: isize = 200;
/// Of these, 16 KiB are hyper's two buffers, of which a small request touches half.
const IDLE_HTTP1_MAX: isize = 28 << 10;
const IDLE_HTTP2_MAX: isize = 48 << 10;

/// A server on a thread of its own, which says how much it has in use whenever it is asked.
fn server_thread(authority: &'static Authority) -> (SocketAddr, mpsc::Sender<()>, mpsc::Receiver<isize>) {
    let (ask, asked) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let (started, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = start_with(authority, handler(|_| async { text("ok") }), ServeOptions::default()).await;
            started.send(server.address).unwrap();
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                match asked.try_recv() {
                    Ok(()) => answer.send(IN_USE.get()).unwrap(),
                    Err(mpsc::TryRecvError::Empty) => {}
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        });
    });
    (address.recv().unwrap(), ask, answered)
}

/// Heap of the server per connection that `open` makes and that stays open with what `open` gives.
async fn each<C, Fut>(open: impl Fn(HttpsClient) -> Fut) -> isize
where
    Fut: Future<Output = C>,
{
    let authority: &'static Authority = Box::leak(Box::new(Authority::new("cluster")));
    let (address, ask, answered) = server_thread(authority);
    let in_use = || {
        ask.send(()).unwrap();
        answered.recv().unwrap()
    };
    let mut connections = Vec::new();
    let mut before = 0;
    // The first few pay for what all share.
    for n in 0..10 + CONNECTIONS {
        if n == 10 {
            before = in_use();
        }
        let client = client(address, authority, None);
        connections.push((open(client.clone()).await, client));
    }
    let each = (in_use() - before) / CONNECTIONS;
    println!("{each} bytes per connection");
    each
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let http1 = each(|client| async move {
        let mut stream = client.dial().await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
        stream
    });
    let http2 = each(|client| async move { get(&client, "/").await.unwrap() });
    let (http1, http2) = (http1.await, http2.await);
    assert!(http1.min(http2) > 1000, "nothing was measured");
    assert!(http1 < IDLE_HTTP1_MAX, "{http1} bytes per idle HTTP/1.1 connection");
    assert!(http2 < IDLE_HTTP2_MAX, "{http2} bytes per idle HTTP/2 connection");
}
