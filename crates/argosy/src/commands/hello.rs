//! `argosy hello`: a web server to try a cluster with, and the client that asks it.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use net::server::{Handler, ServeOptions, serve_plain};
use tokio::net::TcpStream;

use crate::{listeners, signals};

/// For one answer, name lookup included.
const GET_LIMIT: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Port to answer on
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Ask this URL (http) instead, and print the answer
    #[arg(long, value_name = "URL")]
    get: Option<Uri>,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.get {
        Some(url) => {
            let answer = tokio::time::timeout(GET_LIMIT, get(&url)).await;
            print!("{}", answer.with_context(|| format!("{url} did not answer within {} s", GET_LIMIT.as_secs()))??);
            Ok(())
        }
        None => serve(flags.port).await,
    }
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let cancel = signals::stop_token()?;
    let listener = listeners::bind("hello", Ipv4Addr::UNSPECIFIED.into(), port)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    println!("answering on port {port}");
    let handler: Handler = Arc::new(move |request| {
        let text = format!("Hello from {host}: {} {}\n", request.method(), request.uri().path());
        std::future::ready(Response::new(net::full(text))).boxed()
    });
    let options = ServeOptions { drain: Duration::from_secs(2), ..ServeOptions::default() };
    serve_plain(listener, handler, options, cancel).await;
    Ok(())
}

async fn get(url: &Uri) -> anyhow::Result<String> {
    if url.scheme_str() != Some("http") {
        bail!("{url} is no http:// URL");
    }
    let host = url.host().with_context(|| format!("{url} names no host"))?;
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await;
    let stream = stream.with_context(|| format!("connecting to {host}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(http::header::HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    Ok(text)
}
