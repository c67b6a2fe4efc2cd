//! The kubelet's configuration file: KubeletConfiguration of kubelet.config.k8s.io/v1beta1, as far as it is supported.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use client::kinds::core::v1::Taint;
use serde::Deserialize;

use super::kubelet_limits::LimitFields;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Names are upstream's. What is not listed here is kept in `rest` and refused by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletFile {
    api_version: String,
    kind: String,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_private_key_file: Option<PathBuf>,
    pub authentication: Authentication,
    authorization: Authorization,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub cluster_domain: Option<String>,
    pub resolv_conf: Option<PathBuf>,
    pub register_node: Option<bool>,
    pub register_with_taints: Vec<Taint>,
    pub max_pods: Option<u32>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub system_reserved: Option<BTreeMap<String, String>>,
    pub static_pod_path: Option<PathBuf>,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: Option<bool>,
    pub cgroup_root: Option<String>,
    cgroup_driver: Option<String>,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: Option<bool>,
    pub pod_pids_limit: Option<i64>,
    pub seccomp_default: Option<bool>,
    pub container_runtime_endpoint: Option<String>,
    pub pod_logs_dir: Option<PathBuf>,
    pub rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: Option<bool>,
    #[serde(flatten)]
    pub limits: LimitFields,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    anonymous: Switch,
    webhook: Switch,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Switch {
    enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authorization {
    mode: Option<String>,
}

impl KubeletFile {
    pub fn read(path: &Path) -> anyhow::Result<KubeletFile> {
        KubeletFile::parse(&std::fs::read_to_string(path)?)
    }

    fn parse(text: &str) -> anyhow::Result<KubeletFile> {
        let tree: serde_json::Value = serde_saphyr::from_str(text).context("not valid YAML")?;
        let file: KubeletFile = serde_json::from_value(tree).context("not a valid KubeletConfiguration")?;
        if file.api_version != API_VERSION || file.kind != KIND {
            bail!("expected {KIND} of {API_VERSION}, found {:?} of {:?}", file.kind, file.api_version);
        }
        if let Some(field) = file.rest.keys().next() {
            bail!("field {field} of upstream's KubeletConfiguration is not supported by Argosy, or does not exist");
        }
        if file.authentication.anonymous.enabled == Some(true) {
            bail!("authentication.anonymous.enabled: Argosy's kubelet serves nobody unknown");
        }
        if file.authentication.webhook.enabled == Some(false) {
            bail!("authentication.webhook.enabled: Argosy's kubelet always asks the API server who holds a token");
        }
        if file.authorization.mode.as_deref().is_some_and(|mode| mode != "Webhook") {
            bail!("authorization.mode: Argosy's kubelet always asks the API server (Webhook)");
        }
        if file.cgroup_driver.as_deref().is_some_and(|driver| driver != "cgroupfs") {
            bail!("cgroupDriver: Argosy's kubelet has cgroupfs alone");
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_calls_a_field_is_read() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nclusterDNS: [10.96.0.10]\n\
                    cgroupsPerQOS: false\nauthentication: {x509: {clientCAFile: /ca.crt}}\nregisterWithTaints:\n\
                    - {key: a, effect: NoSchedule}\nsystemReserved: {cpu: 100m}\nserverTLSBootstrap: true\n";
        let file = KubeletFile::parse(text).expect("valid");
        assert_eq!(file.cluster_dns, ["10.96.0.10"]);
        assert_eq!(file.cgroups_per_qos, Some(false));
        assert_eq!(file.server_tls_bootstrap, Some(true));
        assert_eq!(file.authentication.x509.client_ca_file, Some("/ca.crt".into()));
        assert_eq!(file.register_with_taints[0].effect, "NoSchedule");
        assert_eq!(file.system_reserved.expect("reserved")["cpu"], "100m");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let cases = [
            ("evictionHard: yes\n", "KubeletConfiguration"),
            ("topologyManagerPolicy: none\n", "topologyManagerPolicy"),
            ("cgroupDriver: systemd\n", "cgroupDriver"),
            ("authentication: {anonymous: {enabled: true}}\n", "anonymous"),
            ("authorization: {mode: AlwaysAllow}\n", "authorization.mode"),
            ("maxPods: many\n", "KubeletConfiguration"),
        ];
        for (text, wanted) in cases {
            let error = KubeletFile::parse(&format!("{head}{text}")).expect_err(text);
            assert!(format!("{error:#}").contains(wanted), "{text}: {error:#}");
        }
        assert!(KubeletFile::parse("kind: Pod\n").is_err());
    }
}
