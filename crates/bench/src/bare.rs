//! The limits of the machine: a TLS server that does nothing but give an answer it was given and show it to those who watch,
//! and a log that does nothing but sync what is written to it.

use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    net::Ipv4Addr,
    ops::Range,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{
    Kubeconfig,
    kubeconfig::{Cluster, Context, NamedCluster, NamedContext},
};
use futures_util::stream;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use memchr::memmem::Finder;
use net::{
    server::{Handler, ServeOptions, serve_tls},
    tls::{Identity, Pem, ServerTls, server_config},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::broadcast::{self, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Answer,
    error::{Error, Result},
    fanout::{MARKER, place},
    load::{Meter, Outcome},
    tally::Tally,
};

/// Events that a watch may be behind.
const BEHIND: usize = 1 << 12;

/// What the bare server is told on standard input: this as a line of JSON, then the answer's body.
#[derive(Debug, Serialize, Deserialize)]
struct Script {
    certificate: String,
    key: String,
    status: u16,
    bytes: usize,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Bare(format!("{what}: {error}"))
}

/// Serves the one answer that `input` holds, on a port that `listening` is told, until `input` ends: then whoever started
/// it is gone.
pub async fn serve(input: impl AsyncRead + Unpin, listening: impl FnOnce(u16)) -> Result<()> {
    let mut input = BufReader::new(input);
    let mut line = String::new();
    input.read_line(&mut line).await.map_err(failed("its script"))?;
    let script: Script = serde_json::from_str(&line).map_err(|error| Error::Bare(error.to_string()))?;
    let mut body = vec![0; script.bytes];
    input.read_exact(&mut body).await.map_err(failed("its answer"))?;
    let status = StatusCode::from_u16(script.status).map_err(|error| Error::Bare(error.to_string()))?;
    let identity = Identity { certificate: Pem::inline(script.certificate), key: Pem::inline(script.key) };
    let tls = server_config(ServerTls { identity, client_cas: Vec::new() })?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed("a port"))?;
    let port = listener.local_addr().map_err(failed("a port"))?.port();
    listening(port);
    let cancel = CancellationToken::new();
    let options = ServeOptions { drain: Duration::ZERO, ..ServeOptions::default() };
    let serving = serve_tls(listener, tls, handler(status, body.into()), options, cancel.clone());
    let ended = async {
        // Nothing more is sent: only the end comes.
        let _ = input.read(&mut [0]).await;
        cancel.cancel();
    };
    tokio::join!(serving, ended);
    Ok(())
}

/// Reads requests to their end, as a server has to.
fn handler(status: StatusCode, body: Bytes) -> Handler {
    let events = Arc::new(Events::of(&body));
    Arc::new(move |request| {
        let (body, events) = (body.clone(), events.clone());
        Box::pin(async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                return response(StatusCode::OK, events.watch());
            }
            // A request that breaks off needs no answer.
            if let Ok(sent) = request.into_body().collect().await {
                events.write(&sent.to_bytes());
            }
            response(status, net::full(body))
        })
    })
}

fn response(status: StatusCode, body: net::Body) -> Response<net::Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Shows every write to every watch: the one answer as an event, with the number of that write in it.
struct Events {
    event: Vec<u8>,
    /// Where in it the number goes; none in an answer that is no object.
    shown: Option<Range<usize>>,
    marker: Finder<'static>,
    told: broadcast::Sender<Bytes>,
    /// What a watch begins with, for it may have been asked for before that was written.
    newest: Mutex<Option<Bytes>>,
}

impl Events {
    fn of(answer: &[u8]) -> Events {
        let event = [br#"{"type":"MODIFIED","object":"#, answer.trim_ascii_end(), b"}\n"].concat();
        let marker = Finder::new(MARKER);
        let shown = place(&marker, &event);
        Events { event, shown, marker, told: broadcast::Sender::new(BEHIND), newest: Mutex::default() }
    }

    fn write(&self, sent: &[u8]) {
        if let (Some(written), Some(shown)) = (place(&self.marker, sent), self.shown.clone()) {
            let mut event = self.event.clone();
            event[shown].copy_from_slice(&sent[written]);
            let mut newest = self.newest.lock();
            // Fails where nobody watches.
            let _ = self.told.send(newest.insert(event.into()).clone());
        }
    }

    /// Ends where it is too far behind.
    fn watch(&self) -> net::Body {
        let newest = self.newest.lock();
        let state = (newest.clone(), self.told.subscribe());
        let frames = stream::unfold(state, |(first, mut told)| async {
            let event = match first {
                Some(first) => Ok(first),
                None => told.recv().await,
            };
            match event {
                Ok(event) => Some((Ok(Frame::data(event)), (None, told))),
                Err(RecvError::Closed | RecvError::Lagged(_)) => None,
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// The bare server as a process of its own; it ends with this.
pub struct BareServer {
    pub kubeconfig: Kubeconfig,
    pub pid: u32,
    _process: Child,
}

impl BareServer {
    /// `command` is a program and arguments that call [`serve`].
    pub async fn start(command: &[OsString], (status, body): &(u16, Vec<u8>)) -> Result<BareServer> {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]);
        let made = made.map_err(|error| Error::Bare(error.to_string()))?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let script = Script { certificate: certificate.clone(), key, status: *status, bytes: body.len() };
        let script = serde_json::to_string(&script).map_err(|error| Error::Bare(error.to_string()))?;
        let (program, arguments) = command.split_first().ok_or_else(|| Error::Bare("no command for it".into()))?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("its process"))?;
        if let Some(input) = &mut process.stdin {
            input.write_all(format!("{script}\n").as_bytes()).await.map_err(failed("its script"))?;
            input.write_all(body).await.map_err(failed("its answer"))?;
            input.flush().await.map_err(failed("its answer"))?;
        }
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line).await.map_err(failed("its port"))?;
        }
        let port = line.trim().parse().map_err(|_| Error::Bare(format!("it said {line:?} instead of a port")))?;
        Ok(BareServer {
            kubeconfig: kubeconfig(port, certificate),
            pid: process.id().unwrap_or_default(),
            _process: process,
        })
    }
}

/// How to reach a bare server.
fn kubeconfig(port: u16, certificate: String) -> Kubeconfig {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let name = "bare".to_owned();
    let cluster = Cluster {
        server: format!("https://{}:{port}", Ipv4Addr::LOCALHOST),
        certificate_authority_data: Some(BASE64_STANDARD.encode(certificate)),
        ..Cluster::default()
    };
    let context = Context { cluster: name.clone(), ..Context::default() };
    Kubeconfig {
        clusters: vec![NamedCluster { name: name.clone(), cluster }],
        contexts: vec![NamedContext { name: name.clone(), context }],
        current_context: name,
        ..Kubeconfig::default()
    }
}

/// Appends records to a file in `folder` for a time, and counts those that a sync has made durable. So many writers wait
/// for one sync at a time: with several, one sync is for all of them, which is the best that a group commit can do.
pub fn log(folder: &Path, record_bytes: usize, writers: usize, time: Duration) -> Result<Outcome> {
    let name = folder.join(format!(".argosy-bench-log-{}", std::process::id()));
    let failed = || Error::io(name.display().to_string());
    let mut file = File::create(&name).map_err(failed())?;
    // Gone from the folder at once, and from the disk with this process.
    std::fs::remove_file(&name).map_err(failed())?;
    let records = vec![b'x'; record_bytes * writers];
    let (mut tally, before, start) = (Tally::default(), Meter::read(&[]), Instant::now());
    while start.elapsed() < time {
        let begin = Instant::now();
        file.write_all(&records).map_err(failed())?;
        file.sync_data().map_err(failed())?;
        let end = Instant::now();
        for _ in 0..writers {
            tally.add(begin, end, &Ok(Answer { status: 200, bytes: record_bytes as u64 }));
        }
    }
    Ok(Outcome::new(tally, start.elapsed(), before, Meter::read(&[])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_counts_each_writer_of_a_sync() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = log(folder.path(), 1024, 1, Duration::from_millis(50)).expect("written").tally;
        let many = log(folder.path(), 1024, 16, Duration::from_millis(50)).expect("written").tally;
        assert!(!one.latencies.is_empty() && many.latencies.len().is_multiple_of(16));
        assert_eq!(many.bytes, many.latencies.len() * 1024);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left");
        assert!(log(Path::new("/nowhere"), 1, 1, Duration::ZERO).is_err());
    }
}
