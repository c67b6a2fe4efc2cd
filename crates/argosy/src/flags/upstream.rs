//! The flags that upstream's components have: names alone, so that one which Argosy does not support is told from one that
//! does not exist. Kept from Kubernetes 1.36.

use std::ffi::OsString;

/// Takes the arguments of `component` as upstream does, with `_` for `-` in names of flags, and refuses a flag that is
/// none of `known`.
pub fn check(component: &str, arguments: &[OsString], known: &[&str]) -> Result<Vec<OsString>, String> {
    let mut checked = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.iter();
    for argument in arguments.by_ref() {
        if argument == "--" {
            checked.push(argument.clone());
            break;
        }
        match argument.to_str().and_then(|text| text.strip_prefix("--")) {
            Some(flag) => checked.push(check_flag(component, flag, known)?),
            None => checked.push(argument.clone()),
        }
    }
    checked.extend(arguments.cloned());
    Ok(checked)
}

fn check_flag(component: &str, flag: &str, known: &[&str]) -> Result<OsString, String> {
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
    let name = name.replace('_', "-");
    if known.contains(&name.as_str()) || name == "help" {
        let value = value.map(|value| format!("={value}")).unwrap_or_default();
        return Ok(format!("--{name}{value}").into());
    }
    if is_upstreams(component, &name) {
        return Err(format!("flag --{name} of upstream's {component} is not supported by Argosy"));
    }
    Err(format!("{component} has no flag --{name}"))
}

fn is_upstreams(component: &str, name: &str) -> bool {
    let own = match component {
        "kube-apiserver" => KUBE_APISERVER,
        "kube-controller-manager" => KUBE_CONTROLLER_MANAGER,
        "kube-scheduler" => KUBE_SCHEDULER,
        "kubelet" => KUBELET,
        "kube-proxy" => KUBE_PROXY,
        _ => "",
    };
    [SHARED, own].iter().any(|list| list.split_whitespace().any(|flag| flag == name))
}

/// Flags that every component of upstream has.
const SHARED: &str = "\
    allow-metric-labels allow-metric-labels-manifest disabled-metrics feature-gates help kubeconfig \
    log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream logging-format \
    show-hidden-metrics-for-version v version vmodule";

/// Flags of upstream's kube-apiserver beyond those.
const KUBE_APISERVER: &str = "\
    admission-control-config-file advertise-address aggregator-reject-forwarding-redirect allow-privileged \
    anonymous-auth api-audiences audit-log-batch-buffer-size audit-log-batch-max-size audit-log-batch-max-wait \
    audit-log-batch-throttle-burst audit-log-batch-throttle-enable audit-log-batch-throttle-qps audit-log-compress \
    audit-log-format audit-log-maxage audit-log-maxbackup audit-log-maxsize audit-log-mode audit-log-path \
    audit-log-truncate-enabled audit-log-truncate-max-batch-size audit-log-truncate-max-event-size audit-log-version \
    audit-policy-file audit-webhook-batch-buffer-size audit-webhook-batch-initial-backoff audit-webhook-batch-max-size \
    audit-webhook-batch-max-wait audit-webhook-batch-throttle-burst audit-webhook-batch-throttle-enable \
    audit-webhook-batch-throttle-qps audit-webhook-config-file audit-webhook-initial-backoff audit-webhook-mode \
    audit-webhook-truncate-enabled audit-webhook-truncate-max-batch-size audit-webhook-truncate-max-event-size \
    audit-webhook-version authentication-config authentication-kubeconfig authentication-skip-lookup \
    authentication-token-webhook-cache-ttl authentication-token-webhook-config-file \
    authentication-token-webhook-version authentication-tolerate-lookup-failure authorization-always-allow-paths \
    authorization-config authorization-kubeconfig authorization-mode authorization-policy-file \
    authorization-webhook-cache-authorized-ttl authorization-webhook-cache-unauthorized-ttl \
    authorization-webhook-config-file authorization-webhook-version bind-address cert-dir client-ca-file \
    contention-profiling coordinated-leadership-lease-duration coordinated-leadership-renew-deadline \
    coordinated-leadership-retry-period cors-allowed-origins debug-socket-path default-watch-cache-size \
    delete-collection-workers disable-admission-plugins disable-http2-serving egress-selector-config-file \
    emulated-version emulation-forward-compatible enable-admission-plugins enable-aggregator-routing \
    enable-bootstrap-token-auth enable-garbage-collector enable-logs-handler enable-priority-and-fairness \
    encryption-provider-config encryption-provider-config-automatic-reload endpoint-reconciler-type etcd-cafile \
    etcd-certfile etcd-compaction-interval etcd-count-metric-poll-period etcd-db-metric-poll-interval \
    etcd-healthcheck-timeout etcd-keyfile etcd-prefix etcd-readycheck-timeout etcd-servers etcd-servers-overrides \
    event-ttl external-hostname goaway-chance http2-max-streams-per-connection kubelet-certificate-authority \
    kubelet-client-certificate kubelet-client-key kubelet-preferred-address-types kubelet-timeout \
    kubernetes-service-node-port lease-reuse-duration-seconds livez-grace-period max-connection-bytes-per-sec \
    max-mutating-requests-inflight max-requests-inflight min-compatibility-version min-request-timeout \
    peer-advertise-ip peer-advertise-port peer-ca-file permit-address-sharing permit-port-sharing profiling \
    proxy-client-cert-file proxy-client-key-file request-timeout requestheader-allowed-names \
    requestheader-client-ca-file requestheader-extra-headers-prefix requestheader-group-headers \
    requestheader-uid-headers requestheader-username-headers runtime-config \
    runtime-config-emulation-forward-compatible secure-port send-retry-after-while-not-ready-once \
    service-account-extend-token-expiration service-account-issuer service-account-jwks-uri service-account-key-file \
    service-account-lookup service-account-max-token-expiration service-account-signing-endpoint \
    service-account-signing-key-file service-cluster-ip-range service-node-port-range shutdown-delay-duration \
    shutdown-send-retry-after shutdown-watch-termination-grace-period storage-backend storage-initialization-timeout \
    storage-media-type strict-transport-security-directives tls-cert-file tls-cipher-suites tls-curve-preferences \
    tls-min-version tls-private-key-file tls-sni-cert-key token-auth-file tracing-config-file watch-cache \
    watch-cache-sizes";

/// Flags of upstream's kube-controller-manager beyond those.
const KUBE_CONTROLLER_MANAGER: &str = "\
    allocate-node-cidrs allow-untagged-cloud attach-detach-reconcile-sync-period authentication-kubeconfig \
    authentication-skip-lookup authentication-token-webhook-cache-ttl authentication-tolerate-lookup-failure \
    authorization-always-allow-paths authorization-kubeconfig authorization-webhook-cache-authorized-ttl \
    authorization-webhook-cache-unauthorized-ttl bind-address cert-dir cidr-allocator-type client-ca-file cloud-config \
    cloud-provider cluster-cidr cluster-name cluster-signing-cert-file cluster-signing-duration \
    cluster-signing-key-file cluster-signing-kube-apiserver-client-cert-file \
    cluster-signing-kube-apiserver-client-key-file cluster-signing-kubelet-client-cert-file \
    cluster-signing-kubelet-client-key-file cluster-signing-kubelet-serving-cert-file \
    cluster-signing-kubelet-serving-key-file cluster-signing-legacy-unknown-cert-file \
    cluster-signing-legacy-unknown-key-file concurrent-cron-job-syncs concurrent-daemonset-syncs \
    concurrent-deployment-syncs concurrent-device-taint-eviction-syncs concurrent-endpoint-syncs \
    concurrent-ephemeralvolume-syncs concurrent-gc-syncs concurrent-horizontal-pod-autoscaler-syncs \
    concurrent-job-syncs concurrent-namespace-syncs concurrent-replicaset-syncs concurrent-resource-quota-syncs \
    concurrent-resourceclaim-syncs concurrent-service-endpoint-syncs concurrent-serviceaccount-token-syncs \
    concurrent-statefulset-syncs concurrent-ttl-after-finished-syncs \
    concurrent-validating-admission-policy-status-syncs configure-cloud-routes contention-profiling \
    controller-shutdown-timeout controller-start-interval controllers disable-attach-detach-reconcile-sync \
    disable-force-detach-on-timeout disable-http2-serving emulated-version enable-dynamic-provisioning \
    enable-garbage-collector enable-hostpath-provisioner endpoint-updates-batch-period \
    endpointslice-updates-batch-period external-cloud-volume-plugin flex-volume-plugin-dir \
    horizontal-pod-autoscaler-cpu-initialization-period horizontal-pod-autoscaler-downscale-stabilization \
    horizontal-pod-autoscaler-initial-readiness-delay horizontal-pod-autoscaler-sync-period \
    horizontal-pod-autoscaler-tolerance http2-max-streams-per-connection kube-api-burst kube-api-content-type \
    kube-api-qps large-cluster-size-threshold leader-elect leader-elect-lease-duration leader-elect-renew-deadline \
    leader-elect-resource-lock leader-elect-resource-name leader-elect-resource-namespace leader-elect-retry-period \
    legacy-service-account-token-clean-up-period master max-endpoints-per-slice min-compatibility-version \
    min-resync-period mirroring-concurrent-service-endpoint-syncs mirroring-endpointslice-updates-batch-period \
    mirroring-max-endpoints-per-subset namespace-sync-period node-cidr-mask-size node-cidr-mask-size-ipv4 \
    node-cidr-mask-size-ipv6 node-eviction-rate node-monitor-grace-period node-monitor-period \
    node-startup-grace-period node-sync-period permit-address-sharing permit-port-sharing profiling \
    pv-recycler-increment-timeout-nfs pv-recycler-minimum-timeout-hostpath pv-recycler-minimum-timeout-nfs \
    pv-recycler-pod-template-filepath-hostpath pv-recycler-pod-template-filepath-nfs \
    pv-recycler-timeout-increment-hostpath pvclaimbinder-sync-period requestheader-allowed-names \
    requestheader-client-ca-file requestheader-extra-headers-prefix requestheader-group-headers \
    requestheader-uid-headers requestheader-username-headers resource-quota-sync-period root-ca-file \
    route-reconciliation-period secondary-node-eviction-rate secure-port service-account-private-key-file \
    service-cluster-ip-range terminated-pod-gc-threshold tls-cert-file tls-cipher-suites tls-curve-preferences \
    tls-min-version tls-private-key-file tls-sni-cert-key unhealthy-zone-threshold use-service-account-credentials";

/// Flags of upstream's kube-scheduler beyond those.
const KUBE_SCHEDULER: &str = "\
    authentication-kubeconfig authentication-skip-lookup authentication-token-webhook-cache-ttl \
    authentication-tolerate-lookup-failure authorization-always-allow-paths authorization-kubeconfig \
    authorization-webhook-cache-authorized-ttl authorization-webhook-cache-unauthorized-ttl bind-address cert-dir \
    client-ca-file config contention-profiling disable-http2-serving emulated-version http2-max-streams-per-connection \
    kube-api-burst kube-api-content-type kube-api-qps leader-elect leader-elect-lease-duration \
    leader-elect-renew-deadline leader-elect-resource-lock leader-elect-resource-name leader-elect-resource-namespace \
    leader-elect-retry-period master min-compatibility-version permit-address-sharing permit-port-sharing \
    pod-max-in-unschedulable-pods-duration profiling requestheader-allowed-names requestheader-client-ca-file \
    requestheader-extra-headers-prefix requestheader-group-headers requestheader-uid-headers \
    requestheader-username-headers secure-port tls-cert-file tls-cipher-suites tls-curve-preferences tls-min-version \
    tls-private-key-file tls-sni-cert-key write-config-to";

/// Flags of upstream's kubelet beyond those.
const KUBELET: &str = "\
    address allowed-unsafe-sysctls anonymous-auth authentication-token-webhook authentication-token-webhook-cache-ttl \
    authorization-mode authorization-webhook-cache-authorized-ttl authorization-webhook-cache-unauthorized-ttl \
    bootstrap-kubeconfig cert-dir cgroup-driver cgroup-root cgroups-per-qos client-ca-file cloud-provider cluster-dns \
    cluster-domain config config-dir container-log-max-files container-log-max-size container-runtime-endpoint \
    contention-profiling cpu-cfs-quota cpu-cfs-quota-period cpu-manager-policy cpu-manager-policy-options \
    cpu-manager-reconcile-period enable-controller-attach-detach enable-debugging-handlers enable-server \
    enforce-node-allocatable event-burst event-qps eviction-hard eviction-max-pod-grace-period \
    eviction-minimum-reclaim eviction-pressure-transition-period eviction-soft eviction-soft-grace-period \
    exit-on-lock-contention experimental-allocatable-ignore-eviction experimental-mounter-path fail-cgroupv1 \
    fail-swap-on file-check-frequency hairpin-mode healthz-bind-address healthz-port hostname-override \
    http-check-frequency image-credential-provider-bin-dir image-credential-provider-config image-gc-high-threshold \
    image-gc-low-threshold image-service-endpoint kernel-memcg-notification kube-api-burst kube-api-content-type \
    kube-api-qps kube-reserved kube-reserved-cgroup kubelet-cgroups local-storage-capacity-isolation lock-file \
    make-iptables-util-chains manifest-url manifest-url-header max-open-files max-pods maximum-dead-containers \
    maximum-dead-containers-per-container memory-manager-policy minimum-container-ttl-duration \
    minimum-image-ttl-duration node-ip node-labels node-status-max-images node-status-update-frequency oom-score-adj \
    pod-cidr pod-manifest-path pod-max-pids pods-per-core port protect-kernel-defaults provider-id qos-reserved \
    read-only-port register-node register-with-taints registry-burst registry-qps reserved-cpus reserved-memory \
    resolv-conf root-dir rotate-certificates rotate-server-certificates runonce runtime-cgroups \
    runtime-request-timeout seccomp-default serialize-image-pulls streaming-connection-idle-timeout sync-frequency \
    system-cgroups system-reserved system-reserved-cgroup tls-cert-file tls-cipher-suites tls-min-version \
    tls-private-key-file topology-manager-policy topology-manager-policy-options topology-manager-scope \
    volume-plugin-dir volume-stats-agg-period windows-priorityclass windows-service";

/// Flags of upstream's kube-proxy beyond those.
const KUBE_PROXY: &str = "\
    bind-address bind-address-hard-fail cleanup cluster-cidr config config-sync-period conntrack-max-per-core \
    conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established \
    conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode healthz-bind-address healthz-port \
    hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period \
    iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period \
    ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps \
    masquerade-all master metrics-bind-address metrics-port nodeport-addresses oom-score-adj pod-bridge-interface \
    pod-interface-name-prefix profiling proxy-mode write-config-to";

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let checked = check("kube-apiserver", &arguments, &["secure-port", "bind-address"])?;
        Ok(checked.iter().map(|a| a.as_os_str().to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn known_flags_pass_and_underscores_become_dashes() {
        let passed = checked(&["--secure_port=6443", "--bind-address", "::", "-v", "2"]).expect("all known");
        assert_eq!(passed, ["--secure-port=6443", "--bind-address", "::", "-v", "2"]);
        assert_eq!(checked(&["--", "--what"]).expect("no flags"), ["--", "--what"]);
    }

    #[test]
    fn upstreams_flags_are_told_from_unknown_ones() {
        let unsupported = checked(&["--audit-policy-file=/a"]).expect_err("not supported");
        assert_eq!(unsupported, "flag --audit-policy-file of upstream's kube-apiserver is not supported by Argosy");
        assert_eq!(checked(&["--sail"]).expect_err("unknown"), "kube-apiserver has no flag --sail");
        assert!(is_upstreams("kubelet", "eviction-hard") && !is_upstreams("kube-proxy", "eviction-hard"));
    }
}
