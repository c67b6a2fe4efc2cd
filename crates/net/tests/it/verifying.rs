//! Who may come, and what is known of them.

use std::time::Duration;

use net::{
    PeerCertificate,
    https::HttpsClient,
    server::ServeOptions,
    tls::{Trust, UnverifiedCertificate, VerifiedBy},
};

use crate::{
    pki::{Authority, identity},
    setup::{Server, client, get, handler, options, serve, start, text},
};

/// Answers with what the request's extensions say of the peer.
fn who() -> net::server::Handler {
    handler(|request| async move {
        let certificate = request.extensions().get::<PeerCertificate>();
        let bundles = request.extensions().get::<VerifiedBy>();
        assert!(request.extensions().get::<std::net::SocketAddr>().is_some());
        text(match (certificate, bundles) {
            (Some(certificate), Some(VerifiedBy(bundles))) => format!("{certificate} {bundles:?}"),
            _ if request.extensions().get::<UnverifiedCertificate>().is_some() => "a stranger".to_owned(),
            _ => "anonymous".to_owned(),
        })
    })
}

#[tokio::test]
async fn a_verified_certificate_names_the_peer_on_every_request() {
    let authority = Authority::new("cluster");
    let server = start(&authority, who()).await;
    let admin = identity(authority.client("admin", &["system:masters", "ops"]));
    let admin = client(server.address, &authority, Some(admin));
    for _ in 0..2 {
        assert_eq!(get(&admin, "/").await.unwrap().1, "CN=admin,O=system:masters,ops [0]");
    }
    let anonymous = client(server.address, &authority, None);
    assert_eq!(get(&anonymous, "/").await.unwrap().1, "anonymous");
}

#[tokio::test]
async fn the_bundle_that_verified_a_certificate_is_known() {
    let (clients, proxies) = (Authority::new("clients"), Authority::new("front-proxy"));
    let bundles = vec![clients.bundle(), proxies.bundle()];
    let server = serve(identity(clients.server()), bundles, who(), ServeOptions::default()).await;
    let user = client(server.address, &clients, Some(identity(clients.client("user", &[]))));
    let proxy = client(server.address, &clients, Some(identity(proxies.client("aggregator", &[]))));
    assert_eq!(get(&user, "/").await.unwrap().1, "CN=user,O= [0]");
    assert_eq!(get(&proxy, "/").await.unwrap().1, "CN=aggregator,O= [1]");
}

#[tokio::test]
async fn certificates_of_others_and_expired_ones_count_for_nobody() {
    let (authority, foreign) = (Authority::new("cluster"), Authority::new("cluster"));
    let server = start(&authority, who()).await;
    let good = identity(authority.client("user", &[]));
    assert!(get(&client(server.address, &authority, Some(good)), "/").await.is_ok());
    for (case, bad) in [("foreign", foreign.client("user", &[])), ("expired", authority.expired("user"))] {
        let answer = get(&client(server.address, &authority, Some(identity(bad))), "/").await;
        assert_eq!(answer.unwrap().1, "a stranger", "{case}");
    }
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let authority = Authority::new("cluster");
    let server = start(&authority, who()).await;
    let user =
        client(server.address, &authority, Some(identity(authority.short_lived("user", Duration::from_secs(3)))));
    assert_eq!(get(&user, "/").await.unwrap().1, "CN=user,O= [0]");
    tokio::time::sleep(Duration::from_millis(4100)).await;
    assert_eq!(get(&user, "/").await.unwrap().1, "a stranger");
}

#[tokio::test]
async fn a_server_must_be_the_one_that_is_trusted() {
    let (authority, foreign) = (Authority::new("cluster"), Authority::new("elsewhere"));
    let Server { address, .. } = &start(&authority, who()).await;
    let error = get(&client(*address, &foreign, None), "/").await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("{address}: cannot connect")), "{error}");

    let mut named = options(*address, &authority, None);
    named.tls.server_name = Some("localhost".into());
    assert!(get(&HttpsClient::new(named.clone()).unwrap(), "/").await.is_ok());
    named.tls.server_name = Some("kubernetes".into());
    assert!(get(&HttpsClient::new(named.clone()).unwrap(), "/").await.is_err());
    named.tls.trust = Trust::AnyCertificate;
    assert!(get(&HttpsClient::new(named).unwrap(), "/").await.is_ok());
}
