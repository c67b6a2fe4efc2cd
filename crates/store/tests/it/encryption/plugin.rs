//! A KMS v2 plugin on a unix socket whose key tests change, and that tests stop.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;

/// StatusResponse.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

/// EncryptResponse.
#[derive(Clone, PartialEq, Message)]
struct Encrypted {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

/// DecryptRequest.
#[derive(Clone, PartialEq, Message)]
struct Decrypt {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

/// The first field of EncryptRequest and of DecryptResponse.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(bytes = "vec", tag = "1")]
    text: Vec<u8>,
}

pub struct Plugin {
    directory: TempDir,
    inner: Arc<Inner>,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct Inner {
    key_id: Mutex<String>,
    decrypted: AtomicUsize,
    stopped: tokio::sync::watch::Sender<bool>,
}

impl Plugin {
    pub fn start() -> Plugin {
        let inner = Inner {
            key_id: Mutex::new("1".to_owned()),
            decrypted: AtomicUsize::new(0),
            stopped: tokio::sync::watch::channel(false).0,
        };
        let plugin =
            Plugin { directory: tempfile::tempdir().unwrap(), inner: Arc::new(inner), serving: Mutex::new(None) };
        plugin.resume();
        plugin
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("kms.sock")
    }

    pub fn change_key(&self, id: &str) {
        id.clone_into(&mut self.inner.key_id.lock());
    }

    /// How often it was asked to decrypt.
    pub fn decrypted(&self) -> usize {
        self.inner.decrypted.load(Ordering::SeqCst)
    }

    /// Ends all connections and takes no more.
    pub async fn stop(&self) {
        self.inner.stopped.send_replace(true);
        let serving = self.serving.lock().take();
        serving.unwrap().await.unwrap();
        std::fs::remove_file(self.socket()).unwrap();
    }

    pub fn resume(&self) {
        self.inner.stopped.send_replace(false);
        let listener = UnixListener::bind(self.socket()).unwrap();
        let inner = Arc::clone(&self.inner);
        *self.serving.lock() = Some(tokio::spawn(async move {
            let mut stopped = inner.stopped.subscribe();
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let stream = tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                let inner = Arc::clone(&inner);
                let service = service_fn(move |request| answer(Arc::clone(&inner), request));
                connections
                    .spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
            }
        }));
    }
}

type Body =
    http_body_util::combinators::WithTrailers<Full<Bytes>, std::future::Ready<Option<Result<HeaderMap, Infallible>>>>;

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let message = request.into_body().collect().await.unwrap().to_bytes().split_off(5);
    let key_id = inner.key_id.lock().clone();
    let (message, status) = match call.as_str() {
        "Status" => (Status { version: "v2".into(), healthz: "ok".into(), key_id }.encode_to_vec(), "0"),
        "Encrypt" => {
            let ciphertext = masked(&key_id, &Text::decode(message).unwrap().text);
            let annotations = BTreeMap::from([("local.example.com".to_owned(), key_id.clone().into_bytes())]);
            (Encrypted { ciphertext, key_id, annotations }.encode_to_vec(), "0")
        }
        "Decrypt" => {
            inner.decrypted.fetch_add(1, Ordering::SeqCst);
            let request = Decrypt::decode(message).unwrap();
            let known = request.annotations.get("local.example.com") == Some(&request.key_id.clone().into_bytes());
            let text = masked(&request.key_id, &request.ciphertext);
            // 5 is "not found".
            (Text { text }.encode_to_vec(), if known { "0" } else { "5" })
        }
        other => panic!("{other}"),
    };
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status.parse().unwrap())]);
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

/// A cipher good enough to be undone only with the key it was done with.
fn masked(key_id: &str, text: &[u8]) -> Vec<u8> {
    text.iter().zip(key_id.bytes().cycle()).map(|(byte, key)| byte ^ key).collect()
}
