//! What a request asks for, read from its method and path alone: the words that authorization, audit, metrics and dispatch
//! share. Follows apiserver `pkg/endpoints/request/requestinfo.go`.

use std::collections::HashMap;

use http::{Method, Uri};

/// A request in the API's own terms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// Below `/api` or `/apis` and naming a resource.
    pub is_resource: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, …; for other paths the method in lower case.
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// Path segments behind the subresource (`proxy/PATH…`), with the slashes between them.
    pub rest: String,
}

/// A request's query, decoded. Of a repeated parameter the first counts for single values.
#[derive(Clone, Debug, Default)]
pub struct Query {
    values: HashMap<String, Vec<String>>,
}

impl Query {
    pub fn parse(query: Option<&str>) -> Query {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(unescape(name, true)).or_default().push(unescape(value, true));
        }
        Query { values }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.first().map(String::as_str)
    }

    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// As Go reads a boolean query parameter: present without value, `1` or `true` is true; `0` and `false` are false.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "0" | "false"))
    }
}

/// Percent-decoding; with `plus`, `+` is a space. Bytes that are not UTF-8 become U+FFFD.
pub fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| (*byte as char).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', _, _) if plus => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Subresources of a namespace; anything else behind a namespace's name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    pub fn new(method: &Method, uri: &Uri, query: &Query) -> RequestInfo {
        let path = uri.path();
        let mut info = RequestInfo { path: path.to_owned(), verb: lower(method), ..RequestInfo::default() };
        let mut parts: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| unescape(part, false))
            .collect();
        let versions_at = match parts.first().map(String::as_str) {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return info,
        };
        if parts.len() < versions_at + 2 {
            return info;
        }
        if versions_at == 2 {
            info.group = std::mem::take(&mut parts[1]);
        }
        info.version = std::mem::take(&mut parts[versions_at]);
        let mut rest = parts.split_off(versions_at + 1);
        info.is_resource = true;
        info.verb = verb(method);
        // The deprecated /watch/ prefix.
        let mut watch_prefix = false;
        if rest[0] == "watch" && rest.len() > 1 {
            watch_prefix = true;
            rest.remove(0);
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            info.namespace = rest[1].clone();
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str()) {
                rest.drain(..2);
            }
        }
        let mut rest = rest.into_iter();
        info.resource = rest.next().unwrap_or_default();
        info.name = rest.next().unwrap_or_default();
        info.subresource = rest.next().unwrap_or_default();
        info.rest = rest.collect::<Vec<_>>().join("/");
        if info.resource == "namespaces" && info.namespace.is_empty() {
            info.namespace = info.name.clone();
        }
        info.refine(watch_prefix, query);
        info
    }

    /// A GET of a collection lists or watches; a DELETE of one deletes them all.
    fn refine(&mut self, watch_prefix: bool, query: &Query) {
        let collection = self.name.is_empty();
        self.verb = match self.verb {
            "get" if watch_prefix => "watch",
            "get" if collection && query.flag("watch") => "watch",
            "get" if collection => "list",
            "delete" if collection => "deletecollection",
            verb => verb,
        };
        if watch_prefix || !matches!(self.verb, "watch" | "list") {
            return;
        }
        // What is narrowed to one name is authorized for that name.
        if let Some(name) = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="))
            && !name.contains([',', '!', '='])
        {
            self.name = name.to_owned();
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

fn lower(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        let info = RequestInfo::new(&method.parse().unwrap(), &uri, &Query::parse(uri.query()));
        if !info.is_resource {
            return format!("{} {}", info.verb, info.path);
        }
        format!(
            "{} g={} v={} ns={} r={} sub={} n={} rest={}",
            info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name, info.rest
        )
    }

    #[test]
    fn paths_become_requests() {
        for (method, uri, expected) in [
            ("GET", "/healthz", "get /healthz"),
            ("GET", "/api/v1", "get /api/v1"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/api/v1/pods", "list g= v=v1 ns= r=pods sub= n= rest="),
            ("GET", "/api/v1/pods?watch=1", "watch g= v=v1 ns= r=pods sub= n= rest="),
            ("GET", "/api/v1/pods?watch=false", "list g= v=v1 ns= r=pods sub= n= rest="),
            ("GET", "/api/v1/watch/pods", "watch g= v=v1 ns= r=pods sub= n= rest="),
            ("GET", "/api/v1/namespaces/a", "get g= v=v1 ns=a r=namespaces sub= n=a rest="),
            ("PUT", "/api/v1/namespaces/a/finalize", "update g= v=v1 ns=a r=namespaces sub=finalize n=a rest="),
            ("POST", "/api/v1/namespaces/a/pods", "create g= v=v1 ns=a r=pods sub= n= rest="),
            ("POST", "/api/v1/namespaces/a/pods/b/binding", "create g= v=v1 ns=a r=pods sub=binding n=b rest="),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection g=apps v=v1 ns=a r=deployments sub= n= rest=",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/services/b:80/proxy/x/y",
                "get g= v=v1 ns=a r=services sub=proxy n=b:80 rest=x/y",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "patch g=apps v=v1 ns=a r=deployments sub=scale n=b rest=",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db&watch=true",
                "watch g= v=v1 ns=a r=pods sub= n=b rest=",
            ),
        ] {
            assert_eq!(info(method, uri), expected, "{method} {uri}");
        }
    }
}
