//! The same units for systemd.

use std::path::Path;

use super::{Program, Unit};
use crate::containerd;

/// The text of `NAME.service`. `argosy` is where the binary lies on the machine.
pub fn unit_file(unit: &Unit, argosy: &Path) -> String {
    let program = match unit.program {
        Program::Argosy => argosy.display().to_string(),
        // Where Debian has them.
        Program::Installed("nginx") => "/usr/sbin/nginx".to_owned(),
        Program::Installed(name) => format!("/usr/bin/{name}"),
    };
    let service = |name: &&str| format!("{name}.service");
    let after: Vec<String> = unit.after.iter().map(service).collect();
    let after = match after.is_empty() {
        true => "After=network-online.target\nWants=network-online.target\n".to_owned(),
        false => format!("After=network-online.target {0}\nWants=network-online.target {0}\n", after.join(" ")),
    };
    let command: Vec<String> = std::iter::once(&program).chain(&unit.args).map(|word| quote(word)).collect();
    let then = match unit.then.is_empty() {
        true => String::new(),
        false => format!("ExecStartPost={} {}\n", argosy.display(), unit.then.join(" ")),
    };
    let reload = if unit.reloads { "ExecReload=/bin/kill -HUP $MAINPID\n" } else { "" };
    format!(
        "[Unit]\nDescription={}\n{after}StartLimitIntervalSec=0\n\n[Service]\n\
         ExecStart={}\n{then}{reload}Restart=always\nRestartSec=1\nLimitNOFILE=1048576\n{}\n[Install]\nWantedBy=multi-user.target\n",
        unit.description,
        command.join(" \\\n  "),
        // Pods are not part of what started them: they go on when it is restarted.
        if ["kubelet", containerd::NAME].contains(&unit.name) { "KillMode=process\nDelegate=yes\n" } else { "" },
    )
}

/// systemd takes `%` for a specifier and `$` for a variable.
fn quote(word: &str) -> String {
    word.replace('%', "%%").replace('$', "$$")
}
