//! Plain HTTP for probes and scrapers: `/health`, `/ready` and `/metrics`, each on a port of its own, as CoreDNS has them.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Response, StatusCode};
use net::{
    Body,
    server::{Handler, ServeOptions, serve_plain},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Counters, by answer's code: 0 to 15.
#[derive(Default)]
pub(crate) struct Metrics {
    responses: [AtomicU64; 16],
    forwarded: AtomicU64,
}

impl Metrics {
    pub fn count(&self, code: u8) {
        if let Some(counter) = self.responses.get(usize::from(code)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub fn count_forwarded(&self) {
        self.forwarded.fetch_add(1, Relaxed);
    }

    pub fn text(&self) -> String {
        let mut text = String::from("# TYPE coredns_dns_responses_total counter\n");
        for (code, counter) in self.responses.iter().enumerate() {
            let (code, count) = (hickory_proto::op::ResponseCode::from_low(code as u8), counter.load(Relaxed));
            if count > 0 {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "coredns_dns_responses_total{{rcode=\"{code:?}\"}} {count}");
            }
        }
        let forwarded = self.forwarded.load(Relaxed);
        let _ =
            writeln!(text, "# TYPE coredns_forward_requests_total counter\ncoredns_forward_requests_total {forwarded}");
        text
    }
}

/// Answers `path` with what `answer` says, and everything else with 404.
pub(crate) async fn serve(
    listener: TcpListener,
    path: &'static str,
    answer: impl Fn() -> (StatusCode, String) + Send + Sync + 'static,
    cancel: CancellationToken,
) {
    let answer = Arc::new(answer);
    let handler: Handler = Arc::new(move |request| {
        let answer = answer.clone();
        Box::pin(async move {
            let found = request.uri().path() == path;
            let (code, body) = if found { answer() } else { (StatusCode::NOT_FOUND, String::new()) };
            let mut response: Response<Body> = Response::new(net::full(body));
            *response.status_mut() = code;
            response
        })
    });
    let options = ServeOptions {
        max_connections: 128,
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        ..ServeOptions::default()
    };
    serve_plain(listener, handler, options, cancel).await;
}
