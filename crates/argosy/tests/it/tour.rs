//! The tour of kubectl in `tests/tour/tour.txt`, with every kubectl that is there.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use regex::Regex;

use crate::harness::{Cluster, kubectls, pause};

const TOUR: &str = include_str!("../tour/tour.txt");

#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    /// Each must match the output, or must not.
    patterns: Vec<(bool, Regex)>,
    exit: i32,
    retry: Duration,
    /// Minor version of the oldest kubectl that takes it.
    since: u32,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut retry = Duration::ZERO;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let regex = || Regex::new(rest).unwrap_or_else(|error| panic!("line {number}: {error}"));
        match mark {
            "$" => {
                steps.push(Step { line: number, command: rest.into(), retry, ..Step::default() });
                retry = Duration::ZERO;
            }
            "~" => retry = Duration::from_secs(rest.parse().expect("seconds")),
            "" | "#" => {}
            _ => {
                let step = steps.last_mut().unwrap_or_else(|| panic!("line {number} belongs to no command"));
                match mark {
                    "?" => step.patterns.push((true, regex())),
                    "!" => step.patterns.push((false, regex())),
                    "since" => step.since = rest.parse().expect("a minor version"),
                    "exit" => step.exit = rest.parse().expect("an exit code"),
                    _ => panic!("line {number} is not understood: {line}"),
                }
            }
        }
    }
    steps
}

/// What is wrong with a step's outcome; nothing when it is as it must be.
fn run(step: &Step, folder: &Path) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-c", &step.command])
        .current_dir(folder)
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("HOME", folder)
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .output()
        .expect("bash runs");
    let text = crate::harness::text(&output);
    let code = output.status.code().unwrap_or(-1);
    let mut wrong = Vec::new();
    if code != step.exit {
        wrong.push(format!("exit code {code}, not {}", step.exit));
    }
    for (wanted, pattern) in &step.patterns {
        if pattern.is_match(&text) != *wanted {
            wrong.push(format!("{} {pattern}", if *wanted { "does not match" } else { "matches" }));
        }
    }
    (!wrong.is_empty()).then(|| format!("{}; it said:\n{text}", wrong.join(", ")))
}

#[test]
fn kubectl_does_what_it_does_elsewhere() {
    let cluster = Cluster::start(2);
    cluster.import_busybox();
    let steps = parse(TOUR);
    assert!(steps.len() > 50, "the tour has {} steps", steps.len());
    let mut failures = Vec::new();
    for (version, kubectl) in kubectls() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("a folder");
        std::os::unix::fs::symlink(&kubectl, folder.path().join("bin/kubectl")).expect("a link");
        std::fs::copy(cluster.kubeconfig(), folder.path().join("kubeconfig")).expect("copied");
        let minor = version.strip_prefix("1.").and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
        // What a failed tour of another version has left would fail this one too.
        cluster.kubectl("delete namespace tour --ignore-not-found --timeout=90s");
        for step in &steps {
            if step.since > minor {
                println!("not with kubectl {version}: {}", step.command);
                continue;
            }
            let begin = Instant::now();
            let wrong = loop {
                match run(step, folder.path()) {
                    Some(_) if begin.elapsed() < step.retry => pause(Duration::from_millis(200)),
                    outcome => break outcome,
                }
            };
            if let Some(wrong) = wrong {
                eprintln!("kubectl {version}, line {}: {}\n{wrong}", step.line, step.command);
                failures.push(format!("kubectl {version}, line {}: {}\n{wrong}", step.line, step.command));
            }
        }
    }
    assert!(failures.is_empty(), "{} steps failed\n\n{}\n{}", failures.len(), failures.join("\n\n"), cluster.log());
}
