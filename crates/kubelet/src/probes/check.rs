//! One run of a probe or lifecycle hook against a container.

use std::time::Duration;

use client::{
    apimachinery::pkg::util::intstr::IntOrString,
    kinds::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction},
};
use tokio::net::TcpStream;
use tonic::{Request, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::http::{self, Outcome, authority};
use crate::cri::{Runtime, RuntimeError};

/// Which container, and where it answers.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: String,
    pub container: Container,
    /// The pod's address; the node's for a pod on its network.
    pub address: String,
}

/// A port by number, or by its name among the container's ports.
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(named) => Some(named.container_port),
                None => name.parse().ok(),
            }
        }
    };
    match number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0) {
        Some(number) => Ok(number),
        None => Err(format!("invalid port number: {port:?}")),
    }
}

/// Runs a probe once. `Ok`: it succeeded.
pub async fn probe(runtime: &dyn Runtime, probe: &Probe, target: &Target, agent: &str) -> Outcome {
    let seconds = probe.timeout_seconds.unwrap_or(1).max(1);
    let timeout = Duration::from_secs(seconds.unsigned_abs().into());
    if let Some(action) = &probe.exec {
        exec(runtime, action, &target.id, timeout).await
    } else if let Some(action) = &probe.http_get {
        http_get(action, target, agent, timeout).await
    } else if let Some(action) = &probe.tcp_socket {
        tcp(action, target, timeout).await
    } else if let Some(action) = &probe.grpc {
        grpc(action, target, agent, timeout).await
    } else {
        Err(format!("missing probe handler for {}", target.container.name))
    }
}

/// Runs a hook once; `limit` bounds what it may take.
pub async fn hook(runtime: &dyn Runtime, hook: &LifecycleHandler, target: &Target, limit: Duration) -> Outcome {
    if let Some(action) = &hook.exec {
        exec(runtime, action, &target.id, limit).await
    } else if let Some(action) = &hook.http_get {
        http_get(action, target, "kube-lifecycle/1.36", limit).await
    } else if let Some(action) = &hook.sleep {
        let wanted = Duration::from_secs(action.seconds.max(0).unsigned_abs());
        tokio::time::sleep(if limit.is_zero() { wanted } else { wanted.min(limit) }).await;
        Ok(String::new())
    } else {
        Err("invalid handler: no action".to_owned())
    }
}

async fn exec(runtime: &dyn Runtime, action: &ExecAction, id: &str, timeout: Duration) -> Outcome {
    let command = action.command.clone().unwrap_or_default();
    match runtime.exec_sync(id, &command, timeout).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(10 << 10);
            let text = String::from_utf8_lossy(&output).into_owned();
            match answer.exit_code {
                0 => Ok(text),
                code if text.is_empty() => Err(format!("command {} exited with {code}", command.join(" "))),
                _ => Err(text),
            }
        }
        Err(RuntimeError::DeadlineExceeded { .. }) => {
            Err(format!("command timed out: {:?} timed out after {timeout:?}", command.join(" ")))
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn http_get(action: &HTTPGetAction, target: &Target, agent: &str, timeout: Duration) -> Outcome {
    let port = port(&target.container, &action.port)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.address);
    let timeout = if timeout.is_zero() { Duration::from_secs(120) } else { timeout };
    http::get(action, host.trim_matches(['[', ']']), port, agent, timeout).await
}

async fn tcp(action: &TCPSocketAction, target: &Target, timeout: Duration) -> Outcome {
    let port = port(&target.container, &action.port)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.address);
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(String::new()),
        Ok(Err(error)) => Err(format!("dial tcp {}: {error}", authority(host, port))),
        Err(_) => Err(format!("dial tcp {}: i/o timeout", authority(host, port))),
    }
}

// grpc.health.v1

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

async fn grpc(action: &GRPCAction, target: &Target, agent: &str, timeout: Duration) -> Outcome {
    let port = port(&target.container, &IntOrString::Int(action.port))?;
    let address = authority(&target.address, port);
    let service = action.service.clone().unwrap_or_default();
    let call = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        let endpoint = endpoint.user_agent(agent.to_owned()).map_err(|error| error.to_string())?;
        let channel =
            endpoint.connect().await.map_err(|error| format!("failed to connect service {address:?}: {error}"))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| error.to_string())?;
        let path = ::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = grpc.unary(Request::new(HealthCheckRequest { service }), path, codec).await;
        match answer {
            Ok(answer) if answer.get_ref().status == SERVING => Ok("service healthy".to_owned()),
            Ok(answer) => Err(format!("service unhealthy (responded with {:?})", answer.get_ref().status)),
            Err(status) => Err(format!("error: health rpc probe failed: {}", status.message())),
        }
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(format!("timeout: failed to connect service {address:?} within {timeout:?}: context deadline exceeded"))
        }
    }
}
