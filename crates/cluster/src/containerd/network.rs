//! The node's pod network: a CNI configuration of stock plugins, and the masquerading of what leaves the cluster.
//!
//! `ptp` rather than `bridge`: every pod hangs on a routed link of its own, so traffic between pods of one node passes the
//! host's routing and with it kube-proxy's translations. A bridge would need `br_netfilter` for that, which is a module to
//! load on most machines, and an interface to clean up.

use std::io;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::files::{self, FileError};
use crate::layout::{Cidr, Layout, Settings};
use crate::routes::{self, Routes};

/// What failed about the pod network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot run {program}")]
    Run {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed: {message}")]
    Failed { program: &'static str, message: String },
    #[error("cannot enable IP forwarding (/proc/sys/net/{key}); set it with sysctl")]
    Forwarding {
        key: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The CNI network's name, which its address leases and port mappings carry.
pub fn network_name(settings: &Settings) -> String {
    settings.instance_name("argosy")
}

/// The nftables table (family ip) that masquerades.
pub fn masquerade_table(settings: &Settings) -> String {
    settings.instance_name("argosy-masq")
}

/// The CNI configuration list for pods out of `pod_cidr`.
pub fn conflist(layout: &Layout, settings: &Settings, pod_cidr: Cidr) -> String {
    let everywhere = if pod_cidr.address().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let list = json!({
        "cniVersion": "0.4.0",
        "name": network_name(settings),
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.cni_ipam_dir(),
                    "ranges": [[{ "subnet": pod_cidr.to_string() }]],
                    "routes": [{ "dst": everywhere }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    });
    format!("{list:#}\n")
}

/// Writes the CNI configuration, from which containerd knows that the network is ready. Returns whether it changed.
pub fn write_conflist(layout: &Layout, settings: &Settings, pod_cidr: Cidr) -> Result<bool, FileError> {
    files::make_dir(&layout.cni_conf_dir())?;
    let path = layout.cni_conf_dir().join("10-argosy.conflist");
    files::write_if_changed(&path, conflist(layout, settings, pod_cidr).as_bytes(), 0o644)
}

/// The nft script that masquerades what pods of `pod_cidr` send out of the cluster; it replaces an earlier one in one
/// transaction.
pub fn masquerade_ruleset(settings: &Settings, pod_cidr: Cidr) -> String {
    let table = masquerade_table(settings);
    let cluster = settings.cluster_cidr;
    let (family, multicast) = if pod_cidr.address().is_ipv4() { ("ip", "224.0.0.0/4") } else { ("ip6", "ff00::/8") };
    format!(
        "add table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n  chain postrouting {{\n    \
         type nat hook postrouting priority srcnat + 1; policy accept;\n    \
         {family} saddr {pod_cidr} {family} daddr != {{ {cluster}, {multicast} }} masquerade\n  }}\n}}\n"
    )
}

/// Makes the machine a router for its pods: forwarding on, masquerading in place.
pub async fn set_up(settings: &Settings, pod_cidr: Cidr) -> Result<(), NetworkError> {
    let key = if pod_cidr.address().is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    let path = format!("/proc/sys/net/{key}");
    // Written only where it is off: in some containers the file is read-only and right.
    if std::fs::read_to_string(&path).is_ok_and(|v| v.trim() != "1") {
        std::fs::write(&path, "1").map_err(|source| NetworkError::Forwarding { key, source })?;
    }
    run("nft", &["-f", "-"], &masquerade_ruleset(settings, pod_cidr)).await.map(drop)
}

/// Takes away what [`set_up`] and the port mappings of our network left in the kernel.
pub async fn tear_down(settings: &Settings) -> Result<(), NetworkError> {
    routes::apply(settings.cluster_cidr, &Routes::new()).await?;
    let family = if settings.pod_cidr.address().is_ipv4() { "ip" } else { "ip6" };
    let table = masquerade_table(settings);
    run("nft", &["-f", "-"], &format!("add table {family} {table}\ndelete table {family} {table}\n")).await?;
    for (save, restore) in [("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore")] {
        if crate::machine::find_program(save).is_none() {
            continue;
        }
        let rules = run(save, &["-t", "nat"], "").await?;
        if let Some(script) = port_mapping_removal(&rules, &network_name(settings)) {
            run(restore, &["--noflush"], &script).await?;
        }
    }
    for family in ["ip", "ip6"] {
        remove_idle_nat_table(family).await?;
    }
    Ok(())
}

/// Whether an nft listing of a table shows at most base chains that accept: what iptables leaves behind.
fn is_idle_table(listing: &str) -> bool {
    let idle = |line: &str| {
        let chain = line.starts_with("chain ") || line.starts_with("type ") && line.ends_with("policy accept;");
        line.is_empty() || line.starts_with("table ") || line == "}" || chain
    };
    listing.starts_with("table ") && listing.lines().map(str::trim).all(idle)
}

/// Removes the table `nat` of a family where the plugin's rules were all that was in it.
async fn remove_idle_nat_table(family: &str) -> Result<(), NetworkError> {
    match run("nft", &["list", "table", family, "nat"], "").await {
        Ok(listing) if is_idle_table(&listing) => run("nft", &["delete", "table", family, "nat"], "").await.map(drop),
        // In use by others, or not there.
        Ok(_) | Err(NetworkError::Failed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes an interface; that it has gone with its network namespace is success.
pub(super) async fn delete_link(name: &str) -> Result<(), NetworkError> {
    let there = || std::path::Path::new("/sys/class/net").join(name).exists();
    if !there() {
        return Ok(());
    }
    match run("ip", &["link", "delete", name], "").await {
        Err(error) if there() => Err(error),
        _ => Ok(()),
    }
}

/// The script for `iptables-restore --noflush` that removes a network's port mappings from what `iptables-save` listed,
/// and the plugin's own chains when no other network has any. `None` where there is nothing to remove.
pub fn port_mapping_removal(saved: &str, network: &str) -> Option<String> {
    const OWN: [&str; 3] = ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"];
    let chains: Vec<&str> = saved.lines().filter_map(|l| l.strip_prefix(':')?.split(' ').next()).collect();
    if !chains.iter().any(|c| c.starts_with("CNI-")) {
        return None;
    }
    let mark = format!("name: \\\"{network}\\\"");
    let rules: Vec<&str> = saved.lines().filter(|l| l.starts_with("-A ")).collect();
    let dispatch: Vec<&str> = rules.iter().copied().filter(|r| r.starts_with("-A CNI-HOSTPORT-DNAT ")).collect();
    let (ours, others): (Vec<&str>, Vec<&str>) = dispatch.into_iter().partition(|r| r.contains(&mark));
    let target = |rule: &str| rule.split(" -j ").nth(1).and_then(|t| t.split(' ').next()).map(str::to_owned);
    let mut gone: Vec<String> = ours.iter().filter_map(|r| target(r)).collect();
    let mut script = String::from("*nat\n");
    let mut delete = |rule: &str| script.push_str(&format!("-D {}\n", &rule[3..]));
    ours.iter().for_each(|r| delete(r));
    if others.is_empty() {
        let own = |name: &str| OWN.contains(&name);
        rules
            .iter()
            .filter(|r| target(r).is_some_and(|t| own(&t)) && !r.starts_with("-A CNI-"))
            .for_each(|r| delete(r));
        gone.extend(chains.iter().filter(|c| own(c)).map(|c| (*c).to_owned()));
    }
    if gone.is_empty() {
        return None;
    }
    // All are emptied before any is removed: a chain that another one names cannot go.
    gone.iter().for_each(|c| script.push_str(&format!("-F {c}\n")));
    gone.iter().for_each(|c| script.push_str(&format!("-X {c}\n")));
    script.push_str("COMMIT\n");
    Some(script)
}

pub(crate) async fn run(program: &'static str, args: &[&str], input: &str) -> Result<String, NetworkError> {
    let error = |source| NetworkError::Run { program, source };
    let path = crate::machine::find_program(program).unwrap_or_else(|| program.into());
    let mut child = Command::new(path)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(error)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails before it reads says why on its way out.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(error)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(NetworkError::Failed { program, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_without_rules_is_idle() {
        let chain = |rule: &str| {
            format!(
                "table ip nat {{\n\tchain POSTROUTING {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n{rule}\t}}\n}}\n"
            )
        };
        let dropping = chain("").replace("policy accept", "policy drop");
        let cases = [
            (chain(""), true),
            (chain("\t\tmasquerade\n"), false),
            (dropping, false),
            ("table ip nat {\n}\n".to_owned(), true),
            (String::new(), false),
        ];
        for (listing, idle) in cases {
            assert_eq!(is_idle_table(&listing), idle, "{listing}");
        }
    }

    #[test]
    fn port_mappings_of_one_network_go_and_others_stay() {
        let of = |chain: &str, name: &str| {
            format!(
                "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"{name}\\\" id: \\\"x\\\"\" -j {chain}\n"
            )
        };
        let head = "*nat\n:PREROUTING ACCEPT [0:0]\n:CNI-DN-1 - [0:0]\n:CNI-DN-2 - [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n\
                    -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n";
        let both = format!("{head}{}{}COMMIT\n", of("CNI-DN-1", "argosy"), of("CNI-DN-2", "argosy-b"));
        let script = port_mapping_removal(&both, "argosy").expect("ours is there");
        assert_eq!(script, format!("*nat\n-D {}-F CNI-DN-1\n-X CNI-DN-1\nCOMMIT\n", &of("CNI-DN-1", "argosy")[3..]));
        let alone = format!("{head}{}COMMIT\n", of("CNI-DN-1", "argosy"));
        let script = port_mapping_removal(&alone, "argosy").expect("ours is there");
        for line in ["-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n", "-X CNI-HOSTPORT-DNAT\n"] {
            assert!(script.contains(line), "{line} is not in {script}");
        }
        assert_eq!(port_mapping_removal("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "argosy"), None);
    }
}
