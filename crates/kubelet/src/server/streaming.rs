//! exec, attach and port forwards: the runtime says where it serves the stream, the bytes pass through as they are, be they
//! SPDY or WebSocket (upstream `server.go: getExec, getAttach, getPortForward`).

use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use net::Body;
use tokio::net::TcpStream;

use super::{respond::text, uri::Query};
use crate::access::Streams;

/// Upstream's names: what the API server sends to kubelets differs from what clients send to it.
pub fn streams(query: &Query) -> Result<Streams, &'static str> {
    let tty = query.flag("tty");
    // A terminal has one output.
    let stderr = query.flag("error") && !tty;
    let streams = Streams { stdin: query.flag("input"), stdout: query.flag("output"), stderr, tty };
    match streams.stdin || streams.stdout || streams.stderr {
        true => Ok(streams),
        false => Err("you must specify at least 1 of stdin, stdout, stderr"),
    }
}

/// The ports of a port forward over WebSocket; over SPDY (and SPDY tunnelled in a WebSocket) each stream names its own.
pub fn ports(query: &Query, headers: &HeaderMap) -> Result<Vec<i32>, String> {
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let tunnel = has(header::SEC_WEBSOCKET_PROTOCOL, "SPDY/3.1+portforward.k8s.io");
    if !has(header::UPGRADE, "websocket") || tunnel {
        return Ok(Vec::new());
    }
    let given: Vec<&str> = query.all("port").flat_map(|ports| ports.split(',')).collect();
    if given.is_empty() {
        return Err("query parameter \"port\" is required".into());
    }
    let parse = |port: &str| match port.parse::<u16>() {
        Ok(0) => Err("port \"0\" must be > 0".to_owned()),
        Ok(port) => Ok(i32::from(port)),
        Err(_) => Err(format!("unable to parse \"{port}\" as a port")),
    };
    given.into_iter().map(parse).collect()
}

/// Hands the request on to the runtime's streaming server at `url` and, once it switches protocols, its bytes both ways.
/// The caller's credentials stay here: they are not the runtime's business.
pub async fn proxy(request: Request<Incoming>, url: &str) -> Response<Body> {
    let Some((uri, host, port)) = target(url) else {
        tracing::error!(url, "container runtime gave no usable streaming URL");
        return text(StatusCode::INTERNAL_SERVER_ERROR, "container runtime gave no usable streaming URL");
    };
    let dial = async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    net::upgrade::proxy(request, dial, uri, HeaderMap::new()).await
}

/// A streaming URL with the host and port to dial. Runtimes serve streams without TLS, on the loopback interface.
pub(super) fn target(url: &str) -> Option<(Uri, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(80);
    Some((uri, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streaming_urls() {
        for (url, want) in [
            ("http://127.0.0.1:41337/exec/abc", Some(("127.0.0.1", 41337))),
            ("http://[::1]:80/attach/abc", Some(("::1", 80))),
            ("https://127.0.0.1:1/exec/abc", None),
            ("/exec/abc", None),
        ] {
            let got = target(url).map(|(_, host, port)| (host, port));
            assert_eq!(got, want.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn stream_flags() {
        let expect = |stdin, stdout, stderr, tty| Ok(Streams { stdin, stdout, stderr, tty });
        for (query, want) in [
            ("input=1&output=1&error=1", expect(true, true, true, false)),
            ("output=1&error=1&tty=1", expect(false, true, false, true)),
            ("command=ls&output=1", expect(false, true, false, false)),
            ("error=1&tty=1", Err("you must specify at least 1 of stdin, stdout, stderr")),
            ("stdin=1", Err("you must specify at least 1 of stdin, stdout, stderr")),
        ] {
            assert_eq!(streams(&Query::parse(query)), want, "{query}");
        }
    }

    #[test]
    fn forwarded_ports() {
        for (upgrade, protocol, query, want) in [
            ("SPDY/3.1", "", "", Ok(vec![])),
            ("websocket", "SPDY/3.1+portforward.k8s.io", "", Ok(vec![])),
            ("websocket", "v4.channel.k8s.io", "port=80&port=81,82", Ok(vec![80, 81, 82])),
            ("websocket", "v4.channel.k8s.io", "", Err("query parameter \"port\" is required")),
            ("websocket", "v4.channel.k8s.io", "port=0", Err("port \"0\" must be > 0")),
            ("websocket", "v4.channel.k8s.io", "port=70000", Err("unable to parse \"70000\" as a port")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::UPGRADE, upgrade.parse().expect("header"));
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().expect("header"));
            assert_eq!(ports(&Query::parse(query), &headers), want.map_err(String::from), "{upgrade} {query}");
        }
    }
}
