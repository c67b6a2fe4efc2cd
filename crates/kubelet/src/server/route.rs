//! Which handler a request belongs to (upstream `server.go: Install*Handlers`). Pure.

use http::Method;

use super::uri::segments;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Health,
    Pods,
    RunningPods,
    Summary,
    Metrics,
    MetricsResource,
    MetricsCadvisor,
    MetricsProbes,
    Configz,
    ContainerLogs(Target),
    Exec(Target),
    Attach(Target),
    Run(Target),
    PortForward(Target),
    /// A path below the node's log directory.
    NodeLogs(String),
    /// There upstream, switched off here; says what is.
    Disabled(&'static str),
    MethodNotAllowed,
    NotFound,
}

/// A pod, and (but for port forwards) one of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub namespace: String,
    pub pod: String,
    pub uid: Option<String>,
    pub container: String,
}

pub fn route(method: &Method, path: &str) -> Route {
    let parts = segments(path);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let reads = *method == Method::GET || *method == Method::HEAD;
    let get = |route: Route| {
        if reads { route } else { Route::MethodNotAllowed }
    };
    let streams = |route: Route| {
        if reads || *method == Method::POST { route } else { Route::MethodNotAllowed }
    };
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => get(Route::Health),
        ["pods"] => get(Route::Pods),
        ["runningpods"] => get(Route::RunningPods),
        ["stats", "summary"] => get(Route::Summary),
        ["metrics"] => get(Route::Metrics),
        ["metrics", "resource"] => get(Route::MetricsResource),
        ["metrics", "cadvisor"] => get(Route::MetricsCadvisor),
        ["metrics", "probes"] => get(Route::MetricsProbes),
        ["configz"] => get(Route::Configz),
        ["containerLogs", namespace, pod, container] => {
            get(Route::ContainerLogs(target(namespace, pod, None, container)))
        }
        ["exec", rest @ ..] => container(rest).map_or(Route::NotFound, |target| streams(Route::Exec(target))),
        ["attach", rest @ ..] => container(rest).map_or(Route::NotFound, |target| streams(Route::Attach(target))),
        ["run", rest @ ..] => match container(rest) {
            Some(target) if *method == Method::POST => Route::Run(target),
            Some(_) => Route::MethodNotAllowed,
            None => Route::NotFound,
        },
        ["portForward", namespace, pod] => streams(Route::PortForward(target(namespace, pod, None, ""))),
        ["portForward", namespace, pod, uid] => streams(Route::PortForward(target(namespace, pod, Some(uid), ""))),
        ["logs", rest @ ..] => {
            let slash = if path.ends_with('/') && !rest.is_empty() { "/" } else { "" };
            get(Route::NodeLogs(rest.join("/") + slash))
        }
        ["debug", "pprof", ..] => Route::Disabled("profiling endpoint is disabled."),
        ["debug", "flags", ..] => Route::Disabled("flags endpoint is disabled."),
        _ => Route::NotFound,
    }
}

fn container(parts: &[&str]) -> Option<Target> {
    match parts {
        [namespace, pod, container] => Some(target(namespace, pod, None, container)),
        [namespace, pod, uid, container] => Some(target(namespace, pod, Some(uid), container)),
        _ => None,
    }
}

fn target(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Target {
    Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.map(str::to_owned),
        container: container.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let t = |uid: Option<&str>, container: &str| target("ns", "p", uid, container);
        for (method, path, expect) in [
            ("GET", "/healthz", Route::Health),
            ("GET", "/healthz/syncloop", Route::Health),
            ("GET", "/pods", Route::Pods),
            ("GET", "/pods/", Route::Pods),
            ("GET", "/runningpods/", Route::RunningPods),
            ("POST", "/pods", Route::MethodNotAllowed),
            ("GET", "/stats/summary", Route::Summary),
            ("GET", "/metrics", Route::Metrics),
            ("GET", "/metrics/resource", Route::MetricsResource),
            ("GET", "/metrics/cadvisor", Route::MetricsCadvisor),
            ("GET", "/containerLogs/ns/p/c", Route::ContainerLogs(t(None, "c"))),
            ("DELETE", "/containerLogs/ns/p/c", Route::MethodNotAllowed),
            ("GET", "/containerLogs/ns/p", Route::NotFound),
            ("POST", "/exec/ns/p/c", Route::Exec(t(None, "c"))),
            ("GET", "/exec/ns/p/u/c", Route::Exec(t(Some("u"), "c"))),
            ("PUT", "/exec/ns/p/c", Route::MethodNotAllowed),
            ("GET", "/exec/ns/p", Route::NotFound),
            ("GET", "/attach/ns/p/c", Route::Attach(t(None, "c"))),
            ("POST", "/run/ns/p/c", Route::Run(t(None, "c"))),
            ("GET", "/run/ns/p/c", Route::MethodNotAllowed),
            ("POST", "/portForward/ns/p", Route::PortForward(t(None, ""))),
            ("POST", "/portForward/ns/p/u", Route::PortForward(t(Some("u"), ""))),
            ("GET", "/logs/", Route::NodeLogs(String::new())),
            ("HEAD", "/logs/syslog", Route::NodeLogs("syslog".into())),
            ("GET", "/logs/pods/a%20b/", Route::NodeLogs("pods/a b/".into())),
            ("POST", "/logs/syslog", Route::MethodNotAllowed),
            ("GET", "/debug/pprof/heap", Route::Disabled("profiling endpoint is disabled.")),
            ("GET", "/", Route::NotFound),
            ("GET", "/podsx", Route::NotFound),
        ] {
            let method: Method = method.parse().expect("method");
            assert_eq!(route(&method, path), expect, "{method} {path}");
        }
    }
}
