//! Requests that open a way to somewhere else: logs, exec, attach and port-forward to kubelets, proxies to pods,
//! services and nodes. What flows is passed on as bytes, upgrades included.

pub(crate) mod forward;
mod links;

use std::sync::Arc;

use api::{Status, Value};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use net::Body;

use crate::{
    Server,
    cache::Object,
    request::{Query, RequestInfo},
    rest::Answer,
};
use links::Links;

/// Whether the request is one of these.
pub(crate) fn is_connect(info: &RequestInfo) -> bool {
    info.is_resource
        && match (info.group.as_str(), info.resource.as_str()) {
            ("", "pods") => matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy"),
            ("", "services" | "nodes") => info.subresource == "proxy",
            _ => false,
        }
}

pub(crate) async fn serve(server: &Arc<Server>, info: &RequestInfo, query: &Query, request: Request<Body>) -> Answer {
    server.cache.wait_until_current().await?;
    if info.subresource == "proxy" {
        return proxy(server, info, request).await;
    }
    let pod = find(server, "pods", &info.namespace, &info.name)?;
    let tree = pod.tree();
    let node = tree.str_at(&["spec", "nodeName"]).to_owned();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let path = kubelet_path(info, query, &tree, request.uri())?;
    let uri: Uri = path.parse().map_err(|error| Status::bad_request(format!("path: {error}")))?;
    let target = kubelet(server, &node, None)?;
    let tunnelled = info.subresource == "portforward"
        && net::ws::offered(request.headers()).contains(&net::ws::PORT_FORWARD_TUNNEL);
    let sent = if tunnelled {
        forward::tunnel(request, target, uri).await
    } else if info.subresource == "log" && net::ws::is_requested(request.headers()) {
        forward::messages(request, target, uri).await
    } else {
        forward::send(request, target, uri).await
    };
    sent.map_err(|error| Status::failure(api::status::Reason::InternalError, format!("error dialing backend: {error}")))
}

fn find(server: &Server, plural: &str, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
    let resource = server.resource("", "v1", plural).ok_or_else(Status::no_such_resource)?;
    let shelf = server.cache.shelf(&resource).ok_or_else(Status::no_such_resource)?;
    let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    shelf.get(&key).ok_or_else(|| Status::not_found("", plural, name))
}

/// The container that is meant: the one named, the default one by annotation, or the only one.
fn container<'a>(query: &Query, pod: &'a Value, name: &str) -> Result<&'a str, Status> {
    let all = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|list| pod.at(&["spec", list])?.as_array())
        .flatten()
        .map(|container| container.str_at(&["name"]));
    let names: Vec<&str> = all.collect();
    let regular = pod.at(&["spec", "containers"]).and_then(Value::as_array).unwrap_or_default();
    match query.get("container").filter(|container| !container.is_empty()) {
        Some(wanted) => names
            .iter()
            .find(|name| **name == wanted)
            .copied()
            .ok_or_else(|| Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match regular {
            [only] => Ok(only.str_at(&["name"])),
            _ => {
                let default = pod.str_at(&["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
                names.iter().find(|name| **name == default && !default.is_empty()).copied().ok_or_else(|| {
                    let list: Vec<&str> = regular.iter().map(|container| container.str_at(&["name"])).collect();
                    Status::bad_request(format!(
                        "a container name must be specified for pod {name}, choose one of: [{}]",
                        list.join(" ")
                    ))
                })
            }
        },
    }
}

/// The kubelet's path for a request about a pod (`pkg/registry/core/pod/strategy.go`, LogLocation and ResourceLocation).
fn kubelet_path(info: &RequestInfo, query: &Query, pod: &Value, uri: &Uri) -> Result<String, Status> {
    let (namespace, name) = (&info.namespace, &info.name);
    let options = uri.query().unwrap_or_default();
    let without_container: Vec<&str> =
        options.split('&').filter(|pair| !pair.starts_with("container=") && !pair.is_empty()).collect();
    let rest = |renamed: &[(&str, &str)]| {
        let mut pairs: Vec<String> = without_container.iter().map(|pair| (*pair).to_owned()).collect();
        for (from, to) in renamed {
            for pair in &mut pairs {
                if let Some(value) = pair.strip_prefix(&format!("{from}=")) {
                    *pair = format!("{to}={}", if value == "true" { "1" } else { value });
                }
            }
        }
        pairs.join("&")
    };
    let streams = [("stdin", "input"), ("stdout", "output"), ("stderr", "error")];
    Ok(match info.subresource.as_str() {
        "log" => format!("/containerLogs/{namespace}/{name}/{}?{}", container(query, pod, name)?, rest(&[])),
        "exec" => format!(
            "/exec/{namespace}/{name}/{}?{}",
            container(query, pod, name)?,
            rest(&[streams[0], streams[1], streams[2], ("tty", "tty")])
        ),
        "attach" => format!(
            "/attach/{namespace}/{name}/{}?{}",
            container(query, pod, name)?,
            rest(&[streams[0], streams[1], streams[2], ("tty", "tty")])
        ),
        "portforward" => format!("/portForward/{namespace}/{name}?{options}"),
        other => return Err(Status::bad_request(format!("unknown subresource {other}"))),
    })
}

/// A node's kubelet, at a port of its own where the request names one.
fn kubelet(server: &Server, node: &str, port: Option<u16>) -> Result<forward::Target, Status> {
    let object = find(server, "nodes", "", node)?;
    let tree = object.tree();
    let addresses = tree.at(&["status", "addresses"]).and_then(Value::as_array).unwrap_or_default();
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|address| address.str_at(&["type"]) == kind)
            .map(|address| address.str_at(&["address"]).to_owned())
    };
    let host = of("InternalIP")
        .or_else(|| of("Hostname"))
        .ok_or_else(|| Status::unavailable(format!("no preferred addresses found for node {node}")))?;
    let own = tree.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_i64);
    // Zero is what a node that has not said has.
    let own = own.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let access = server.config.kubelet.as_ref();
    let access = access.ok_or_else(|| Status::unavailable("this API server has no credentials for kubelets"))?;
    Ok(forward::Target::tls(&host, port.or(own).unwrap_or(10250), access.tls.clone()))
}

/// To a pod, or through a service to one of its endpoints, by plain HTTP unless TLS is asked for; TLS to a node's kubelet.
async fn proxy(server: &Arc<Server>, info: &RequestInfo, mut request: Request<Body>) -> Answer {
    let (scheme, name, port) = split_name(&info.name);
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("/{}{query}", behind_proxy(info));
    let uri: Uri = path.parse().map_err(|error| Status::bad_request(format!("path: {error}")))?;
    let backend = |host: &str, port: u16| match scheme {
        "https" => forward::Target::tls(host, port, server.unverified.clone()),
        _ => forward::Target::tcp(host, port),
    };
    let target = match info.resource.as_str() {
        "nodes" => kubelet(server, name, port.parse().ok())?,
        "pods" => {
            let pod = find(server, "pods", &info.namespace, name)?.tree();
            let address = pod.str_at(&["status", "podIP"]).to_owned();
            if address.is_empty() {
                return Err(Status::bad_request(format!("address not allowed: pod {name} has no address yet")));
            }
            backend(&address, pod_port(&pod, port))
        }
        _ => {
            let (address, port) = endpoint(server, &info.namespace, name, port)?;
            backend(&address, port)
        }
    };
    // Links of a page are relative to the directory that it is in (apimachinery `pkg/util/proxy/upgradeaware.go`,
    // proxyRedirectsforRootPath).
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads
        && info.rest.is_empty()
        && !info.path.ends_with('/')
        && net::upgrade::requested(request.headers()).is_none()
    {
        return Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header(header::LOCATION, format!("{}/{query}", info.path))
            .body(net::empty())
            .map_err(Status::internal);
    }
    let prefix = info.path.strip_suffix(behind_proxy(info)).unwrap_or(&info.path).trim_end_matches('/').to_owned();
    let links = Links { host: forward::host(&request), backend: target.authority(), prefix };
    if let Ok(uri) = HeaderValue::from_str(&info.path) {
        request.headers_mut().insert("x-forwarded-uri", uri);
    }
    let answer = forward::send(request, target, uri).await;
    let answer = answer.map_err(|error| Status::unavailable(format!("error trying to reach service: {error}")))?;
    Ok(links.rewrite(answer).await)
}

/// The path that is passed on, without its first slash and as the client wrote it: what is escaped stays escaped.
fn behind_proxy(info: &RequestInfo) -> &str {
    // /api/v1[/namespaces/NAMESPACE]/RESOURCE/NAME/proxy/
    let parts = if info.resource == "nodes" { 6 } else { 8 };
    info.path.splitn(parts + 1, '/').nth(parts).unwrap_or_default()
}

/// `[SCHEME:]NAME[:PORT]`
fn split_name(text: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [scheme @ ("http" | "https"), name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", text, ""),
    }
}

/// A port by number or name; without one the first that the pod declares, else 80.
fn pod_port(pod: &Value, port: &str) -> u16 {
    if let Ok(number) = port.parse() {
        return number;
    }
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_array).unwrap_or_default();
    let mut ports =
        containers.iter().flat_map(|container| container.get("ports").and_then(Value::as_array).unwrap_or_default());
    let found = if port.is_empty() { ports.next() } else { ports.find(|declared| declared.str_at(&["name"]) == port) };
    found.and_then(|declared| u16::try_from(declared.get("containerPort")?.as_i64()?).ok()).unwrap_or(80)
}

/// A random ready endpoint of a service (`pkg/registry/core/service/storage`, ResourceLocation).
fn endpoint(server: &Server, namespace: &str, name: &str, port: &str) -> Result<(String, u16), Status> {
    let service = find(server, "services", namespace, name)?.tree();
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
    let declared = if port.is_empty() {
        ports.first()
    } else {
        ports.iter().find(|declared| {
            declared.str_at(&["name"]) == port || declared.get("port").map(Value::to_string).as_deref() == Some(port)
        })
    };
    let unavailable = |why: &str| Status::unavailable(format!("no endpoints available for service \"{name}\"{why}"));
    let declared = declared.ok_or_else(|| unavailable(": no such port"))?;
    let endpoints = find(server, "endpoints", namespace, name).map_err(|_| unavailable(""))?.tree();
    let mut choices = Vec::new();
    for subset in endpoints.get("subsets").and_then(Value::as_array).unwrap_or_default() {
        let matching = subset.get("ports").and_then(Value::as_array).unwrap_or_default();
        let number = matching.iter().find(|port| port.str_at(&["name"]) == declared.str_at(&["name"]));
        let Some(number) = number.and_then(|port| u16::try_from(port.get("port")?.as_i64()?).ok()) else { continue };
        for address in subset.get("addresses").and_then(Value::as_array).unwrap_or_default() {
            choices.push((address.str_at(&["ip"]).to_owned(), number));
        }
    }
    if choices.is_empty() {
        return Err(unavailable(""));
    }
    Ok(choices.swap_remove(rand::random_range(0..choices.len())))
}
