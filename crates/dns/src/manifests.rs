//! What a cluster needs to run its DNS as pods: the objects that kubeadm makes for CoreDNS, with our image and command.

use std::net::IpAddr;

use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct ManifestSettings {
    pub image: String,
    /// The program and its arguments, `["argosy", "dns", ...]`.
    pub command: Vec<String>,
    /// The tenth address of the Services' range.
    pub cluster_ip: IpAddr,
    pub replicas: u32,
}

/// ServiceAccount, ClusterRole, ClusterRoleBinding, Deployment and Service, to be created in this order.
pub fn manifests(settings: &ManifestSettings) -> Vec<Value> {
    let labels = json!({"k8s-app": "kube-dns"});
    let read = |groups: &str, resources: Value| json!({"apiGroups": [groups], "resources": resources, "verbs": ["get", "list", "watch"]});
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [read("", json!(["services", "namespaces"])), read("discovery.k8s.io", json!(["endpointslices"]))],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "coredns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "replicas": settings.replicas,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod(settings)},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kube-dns", "namespace": "kube-system",
                "labels": {
                    "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
                },
                "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            },
            "spec": {
                "clusterIP": settings.cluster_ip,
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                    {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
                ],
            },
        }),
    ]
}

fn pod(settings: &ManifestSettings) -> Value {
    let probe = |path: &str, port: u16| json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}});
    let mut liveness = probe("/health", 8080);
    liveness["initialDelaySeconds"] = 60.into();
    liveness["timeoutSeconds"] = 5.into();
    liveness["failureThreshold"] = 5.into();
    // The first probe comes before the informers have listed; the next must not be ten seconds away.
    let mut readiness = probe("/ready", 8181);
    readiness["periodSeconds"] = 2.into();
    json!({
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        // Its own resolvers are the node's: those of the cluster are itself.
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        ],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            },
        }]}},
        "containers": [{
            "name": "coredns",
            "image": settings.image,
            "imagePullPolicy": "IfNotPresent",
            "command": settings.command,
            "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
            ],
            "livenessProbe": liveness,
            "readinessProbe": readiness,
            "resources": {"requests": {"cpu": "20m", "memory": "20Mi"}, "limits": {"memory": "170Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            },
        }],
    })
}
