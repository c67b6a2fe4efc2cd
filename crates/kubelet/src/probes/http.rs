//! One HTTP request of a probe or hook: HTTP or HTTPS without verification, redirects on the same host, a short body.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use client::kinds::core::v1::HTTPGetAction;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Upstream's `maxRespBodyLength`: what an answer may have to say in an event.
const MAX_BODY_BYTES: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// What came of a request; the text is for events.
pub type Outcome = Result<String, String>;

/// `host` and `port` are already resolved.
pub async fn get(action: &HTTPGetAction, host: &str, port: u16, agent: &str, timeout: Duration) -> Outcome {
    let secure = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    match tokio::time::timeout(timeout, follow(action, host, port, secure, path, agent)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let scheme = if secure { "https" } else { "http" };
            Err(format!(
                "Get \"{scheme}://{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                authority(host, port)
            ))
        }
    }
}

pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn follow(action: &HTTPGetAction, host: &str, port: u16, secure: bool, mut path: String, agent: &str) -> Outcome {
    for _ in 0..MAX_REDIRECTS {
        let request = request(action, host, port, &path, agent)?;
        let (status, location, body) = send(request, host, port, secure).await.map_err(|error| {
            let scheme = if secure { "https" } else { "http" };
            format!("Get \"{scheme}://{}{path}\": {error}", authority(host, port))
        })?;
        match status {
            300..=399 => match location.and_then(|location| same_host(&location, host)) {
                Some(next) => path = next,
                // Elsewhere is not followed and counts as alive, as upstream's warning does.
                None => return Ok(body),
            },
            200..=299 => return Ok(body),
            _ => return Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Err("stopped after 10 redirects".to_owned())
}

fn same_host(location: &str, host: &str) -> Option<String> {
    let uri: Uri = location.parse().ok()?;
    let here = uri.host().is_none_or(|other| other.trim_matches(['[', ']']) == host);
    here.then(|| uri.path_and_query().map_or("/".to_owned(), ToString::to_string))
}

fn request(
    action: &HTTPGetAction,
    host: &str,
    port: u16,
    path: &str,
    agent: &str,
) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(path).body(Empty::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(header.value.as_str()).map_err(|error| error.to_string())?;
        // An empty value takes a default header away.
        headers.append(name, value);
    }
    let mut default = |name: HeaderName, value: &str| -> Result<(), String> {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        Ok(())
    };
    default(header::USER_AGENT, agent)?;
    default(header::ACCEPT, "*/*")?;
    default(header::CONNECTION, "close")?;
    default(header::HOST, &authority(host, port))?;
    Ok(request)
}

type Answer = (u16, Option<String>, String);
type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn send(request: Request<Empty<Bytes>>, host: &str, port: u16, secure: bool) -> Result<Answer, BoxError> {
    let stream = TcpStream::connect((host, port)).await?;
    if !secure {
        return exchange(request, stream).await;
    }
    let name = ServerName::try_from(host.to_owned())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(no_verification()?));
    exchange(request, connector.connect(name, stream).await?).await
}

async fn exchange<S>(request: Request<Empty<Bytes>>, stream: S) -> Result<Answer, BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Longer bodies are cut, not refused: the status has already decided.
    let body = match Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    connection.abort();
    Ok((status, location, body))
}

fn no_verification() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Probes ask whether something answers, not who: upstream skips verification too.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
