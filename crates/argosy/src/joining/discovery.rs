//! Finds out whom to trust (kubeadm's `discovery/token`): cluster-info is read from whoever answers, believed if its
//! authority has the hash asked for and its signature is the token's, and read again from a server of that authority.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use client::{
    Client, Clock, TransportError,
    kubeconfig::{Cluster, User},
};
use cluster::joining::{CLUSTER_INFO, PUBLIC_NAMESPACE, cluster_info::ClusterInfo};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use serde::Deserialize;

use super::{
    Invitation,
    error::{JoinError, unreachable},
    kubeconfig,
};
use crate::clients;

/// For one question and its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// By which clocks may differ: certificates are valid from so long before they are issued.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);
const SKEW_NOTED: SignedDuration = SignedDuration::from_secs(30);
/// More than a ConfigMap can hold.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The cluster of an invitation, verified; its authority is in it.
pub async fn discover(invitation: &Invitation, clock: &dyn Clock) -> Result<Cluster, JoinError> {
    let Invitation { server, token, pins } = invitation;
    let stranger = Cluster { server: server.clone(), insecure_skip_tls_verify: true, ..Cluster::default() };
    let (first, _) = ask(stranger, true, clock).await?;
    first.check(pins, token)?;
    let trusted = Cluster {
        server: server.clone(),
        certificate_authority_data: Some(BASE64_STANDARD.encode(&first.ca_pem)),
        ..Cluster::default()
    };
    let (second, there) = ask(trusted.clone(), false, clock).await?;
    if second.kubeconfig != first.kubeconfig {
        return Err(JoinError::Changed { server: server.clone() });
    }
    if let Some(there) = there {
        check_clock(clock.now(), there)?;
    }
    Ok(trusted)
}

fn check_clock(here: Timestamp, there: Timestamp) -> Result<(), JoinError> {
    let skew = here.duration_since(there).abs();
    if skew > SKEW_MAX {
        return Err(JoinError::Clock { here, there });
    }
    if skew > SKEW_NOTED {
        tracing::warn!(%here, %there, "this machine's clock differs from the API server's");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Answer {
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    message: String,
}

/// Reads cluster-info as nobody, with the time the server says it is.
async fn ask(
    cluster: Cluster,
    allow_insecure: bool,
    clock: &dyn Clock,
) -> Result<(ClusterInfo, Option<Timestamp>), JoinError> {
    let server = cluster.server.clone();
    let mut config = kubeconfig(cluster, User::default());
    config.allow_insecure = allow_insecure;
    let client = Client::from_kubeconfig(&config, &clients::user_agent("argosy"));
    let client = client.map_err(|cause| JoinError::Request { server: server.clone(), cause })?;
    let path = format!("/api/v1/namespaces/{PUBLIC_NAMESPACE}/configmaps/{CLUSTER_INFO}");
    let fetched = tokio::time::timeout(ANSWER_LIMIT, fetch(&client, &server, &path)).await;
    let late =
        || TransportError { server: server.clone(), source: format!("no answer within {ANSWER_LIMIT:?}").into() };
    let fetched = fetched.unwrap_or_else(|_| Err(late()));
    let (status, date, body) = fetched.map_err(|source| unreachable(&server, source, clock.now()))?;
    let not_kubernetes = || JoinError::NotKubernetes { server: server.clone() };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| not_kubernetes())?;
    match (status, answer.kind.as_str()) {
        (StatusCode::OK, "ConfigMap") => {
            let info = ClusterInfo::read(answer.data, |text| serde_saphyr::from_str(text).ok())?;
            Ok((info, date))
        }
        (_, "Status") => Err(JoinError::NoClusterInfo { status: answer.message }),
        _ => Err(not_kubernetes()),
    }
}

async fn fetch(
    client: &Client,
    server: &str,
    path: &str,
) -> Result<(StatusCode, Option<Timestamp>, Bytes), TransportError> {
    let failed = |source: net::BoxError| TransportError { server: server.to_owned(), source };
    let request = Request::builder().method(Method::GET).uri(path).header(header::ACCEPT, "application/json");
    let request = request.body(Bytes::new()).map_err(|error| failed(error.into()))?;
    let response = client.transport().send(request).await?;
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(failed)?.to_bytes();
    Ok((status, date, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_between_clocks_are_too_much() {
        let there = Timestamp::constant(1_800_000_000, 0);
        for (seconds, fits) in [(0, true), (-40, true), (300, true), (301, false), (-301, false)] {
            let here = there + SignedDuration::from_secs(seconds);
            assert_eq!(check_clock(here, there).is_ok(), fits, "{seconds}");
        }
        let date = DateTimeParser::new().parse_timestamp("Fri, 15 Jan 2027 08:00:00 GMT");
        assert_eq!(date.ok(), Some(there), "as HTTP writes dates");
    }
}
