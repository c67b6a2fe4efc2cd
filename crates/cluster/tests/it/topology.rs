//! Layouts: who runs where, and the unit files under `deploy/`, which are what the code would write.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use cluster::{
    layout::{Cidr, DEFAULT_DATA_DIR, Layout},
    topology::{Host, Shape, Topology, TopologyError, containerd_unit, files, unit_file, units},
};

fn network() -> Cidr {
    Cidr::v4([10, 89, 7, 0], 24)
}

/// Hosts with what runs on each.
fn shape(shape: Shape) -> Vec<String> {
    let topology = Topology::new(shape, None, network()).expect("a topology");
    let layout = Layout::new("/d");
    let line = |host| {
        let names: Vec<&str> = units(&topology, host, &layout).iter().map(|unit| unit.name).collect();
        format!("{} {}: {}", host.name, host.address, names.join(" "))
    };
    topology.hosts.iter().map(line).collect()
}

const MASTER: &str = "etcd kube-apiserver kube-controller-manager kube-scheduler";
const NODE: &str = "network kubelet kube-proxy";

#[test]
fn each_layout_has_its_hosts() {
    let one = [format!("master-1 10.89.7.11: {MASTER}"), format!("worker-1 10.89.7.101: {NODE}")];
    assert_eq!(shape(Shape::Single), one);
    let one = [format!("master-1 10.89.7.11: {MASTER} {NODE}"), format!("worker-1 10.89.7.101: {NODE}")];
    assert_eq!(shape(Shape::SingleSchedulable), one);
    for (three, on_masters) in [(Shape::Ha, String::new()), (Shape::HaSchedulable, format!(" {NODE}"))] {
        let mut wanted = vec!["balancer 10.89.7.10: nginx".to_owned()];
        wanted.extend((1..=3).map(|n| format!("master-{n} 10.89.7.1{n}: {MASTER}{on_masters}")));
        wanted.extend((1..=3).map(|n| format!("worker-{n} 10.89.7.10{n}: {NODE}")));
        assert_eq!(shape(three), wanted);
    }
}

#[test]
fn a_worker_that_joins_takes_the_lowest_free_number() {
    let mut topology = Topology::new(Shape::Single, Some(3), network()).expect("a topology");
    topology.hosts.retain(|host| host.name != "worker-2");
    let joined = topology.add_worker().expect("room");
    assert_eq!((joined.name.as_str(), joined.address), ("worker-2", Ipv4Addr::new(10, 89, 7, 102)));
    assert_eq!(topology.add_worker().expect("room").name, "worker-4");
    assert!(matches!(Topology::new(Shape::Single, Some(100), network()), Err(TopologyError::TooManyWorkers)));
}

/// The values of a flag of a unit, and of nginx's servers.
fn told(topology: &Topology, host: &str, unit: &str, name: &str) -> String {
    let (host, layout) = (topology.host(host).expect("a host"), Layout::new("/d"));
    let unit = units(topology, host, &layout).into_iter().find(|one| one.name == unit).expect("a unit");
    let prefix = format!("--{name}=");
    unit.args.iter().find_map(|arg| arg.strip_prefix(&prefix)).expect("a flag").to_owned()
}

fn balanced(topology: &Topology) -> usize {
    let layout = Layout::new("/d");
    files(topology, topology.host("balancer").expect("a host"), &layout)[0].1.matches(":6443 max_fails").count()
}

#[test]
fn a_master_that_joins_is_known_to_the_others_when_it_serves() {
    let mut topology = Topology::new(Shape::HaSchedulable, Some(1), network()).expect("a topology");
    let joined = topology.add_master().expect("room");
    assert_eq!((joined.name.as_str(), joined.address), ("master-4", Ipv4Addr::new(10, 89, 7, 14)));
    assert!(joined.node && joined.master);
    let members =
        |topology: &Topology, host: &str| told(topology, host, "etcd", "initial-cluster").matches("=").count();
    let servers = |topology: &Topology, host: &str| told(topology, host, "kube-apiserver", "etcd-servers");
    assert_eq!(members(&topology, "master-4"), 4);
    assert_eq!(told(&topology, "master-4", "etcd", "initial-cluster-state"), "existing");
    assert_eq!(told(&topology, "master-1", "etcd", "initial-cluster-state"), "new");
    let all = [14, 11, 12, 13].map(|last| format!("https://10.89.7.{last}:2379")).join(",");
    assert_eq!(servers(&topology, "master-4"), all);
    assert_eq!((servers(&topology, "master-1").matches(',').count(), balanced(&topology)), (2, 3));
    let (layout, before) = (Layout::new("/d"), topology.clone());
    topology.hosts.iter_mut().for_each(|host| host.apart = false);
    assert_eq!((servers(&topology, "master-1").matches(',').count(), balanced(&topology)), (3, 4));
    // Of what runs on the first master only the API server has to be started anew.
    let of = |topology: &Topology| units(topology, topology.host("master-1").expect("a host"), &layout);
    let pairs = of(&before).into_iter().zip(of(&topology));
    let anew: Vec<&str> = pairs.filter(|(old, new)| new.differs(old)).map(|(old, _)| old.name).collect();
    assert_eq!(anew, ["kube-apiserver"]);

    let mut single = Topology::new(Shape::Single, None, network()).expect("a topology");
    assert!(matches!(single.add_master(), Err(TopologyError::OneMaster(Shape::Single))));
    while topology.masters().count() < 9 {
        topology.add_master().expect("room");
    }
    assert!(matches!(topology.add_master(), Err(TopologyError::TooManyMasters)));
}

#[test]
fn a_master_that_joins_is_told_who_is_there() {
    let topology = Topology::new(Shape::Ha, Some(1), network()).expect("a topology");
    let url = |last: u8| format!("https://10.89.7.{last}:2380");
    let joins = |name: &str, last: u8, members: &[(&str, String)]| {
        let members: Vec<_> = members.iter().map(|(name, url)| ((*name).to_owned(), url.clone())).collect();
        let host = Host::joining(name, Ipv4Addr::new(10, 89, 7, last));
        topology.joined_by(&host, &members)
    };
    // What etcd says counts, not what was uploaded; its own member of an attempt before is not told twice.
    let members = [("master-1", url(11)), ("other", url(19)), ("", url(50))];
    let joined = joins("m", 50, &members).expect("a topology");
    let cluster = [("master-1", 11), ("other", 19), ("m", 50)].map(|(name, last)| format!("{name}={}", url(last)));
    assert_eq!(told(&joined, "m", "etcd", "initial-cluster"), cluster.join(","));
    assert_eq!(joined.api_address(), topology.api_address());
    assert!(joins("worker-1", 101, &members[..2]).is_ok(), "a worker may become a master too");
    for (name, last, members, wanted) in [
        ("master-1", 50, &members[..1], "same name or address"),
        ("m", 10, &members[..1], "same name or address"),
        ("m", 51, &members[2..], "never started"),
        ("m", 50, &[("m1", "http://127.0.0.1:1234".to_owned())][..], "argosy store member add"),
    ] {
        let error = joins(name, last, members).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn masters_are_deployed_one_after_the_other() {
    let now = another_master();
    let joined: Vec<&str> = now.masters().filter(|host| host.joined).map(|host| host.name.as_str()).collect();
    assert_eq!(joined, ["m4"]);
    let machine = |name: &str, last| (name.to_owned(), Ipv4Addr::new(192, 0, 2, last));
    let again = |masters: &[(&str, u8)]| {
        let masters = masters.iter().map(|(name, last)| machine(name, *last)).collect();
        Topology::of_machines(Shape::Ha, Some(machine("lb", 10)), masters, Vec::new(), Some(&now))
    };
    // How it began is kept; one that went and comes back joins.
    let fewer = again(&[("m1", 11), ("m2", 12), ("m4", 14)]).expect("fewer");
    assert_eq!(fewer.masters().map(|host| host.joined).collect::<Vec<_>>(), [false, false, true]);
    assert!(again(&[("m1", 11), ("m5", 15)]).expect("one new").host("m5").expect("a host").joined);
    let several = again(&[("m1", 11), ("m5", 15), ("m6", 16)]);
    assert!(matches!(several, Err(TopologyError::SeveralNew(names)) if names == "m5 and m6"));
}

#[test]
fn machines_that_make_no_layout_are_refused() {
    let machine = |name: &str, last| (name.to_owned(), Ipv4Addr::new(192, 0, 2, last));
    let ha = |balancer, masters| Topology::of_machines(Shape::Ha, balancer, masters, Vec::new(), None);
    let three = || vec![machine("a", 1), machine("b", 2), machine("c", 3)];
    let error = |result: Result<Topology, TopologyError>| result.expect_err("refused").to_string();
    assert!(error(ha(None, three())).contains("a balancer"));
    assert!(error(ha(Some(machine("lb", 9)), three()[..2].to_vec())).contains("three masters"));
    assert!(error(ha(Some(machine("a", 9)), three())).contains("same name or address"));
    let inside =
        Topology::of_machines(Shape::Single, None, vec![("a".into(), Ipv4Addr::new(10, 96, 1, 1))], Vec::new(), None);
    assert!(error(inside).contains("10.96.0.0/16"));
    assert!(ha(Some(machine("lb", 9)), three()).is_ok());
}

/// The example of docs/install.md.
fn example() -> Topology {
    let machine = |name: &str, last| (name.to_owned(), Ipv4Addr::new(192, 0, 2, last));
    let masters = vec![machine("m1", 11), machine("m2", 12), machine("m3", 13)];
    let workers = vec![machine("w1", 21), machine("w2", 22)];
    Topology::of_machines(Shape::Ha, Some(machine("lb", 10)), masters, workers, None).expect("a topology")
}

/// The same once another master was deployed.
fn another_master() -> Topology {
    let of = |topology: &Topology, master: bool| -> Vec<(String, Ipv4Addr)> {
        let hosts = topology.hosts.iter().filter(|host| !host.balancer && host.master == master);
        hosts.map(|host| (host.name.clone(), host.address)).collect()
    };
    let (before, lb) = (example(), ("lb".to_owned(), Ipv4Addr::new(192, 0, 2, 10)));
    let masters = [of(&before, true), vec![("m4".to_owned(), Ipv4Addr::new(192, 0, 2, 14))]].concat();
    let workers = of(&before, false);
    Topology::of_machines(Shape::Ha, Some(lb), masters, workers, Some(&before)).expect("a topology")
}

/// What `deploy/` should hold.
fn wanted() -> BTreeMap<PathBuf, String> {
    let (example, another, layout) = (example(), another_master(), Layout::new(DEFAULT_DATA_DIR));
    let mut wanted = BTreeMap::new();
    // One of each kind: the others differ in names and addresses.
    for (topology, name) in [(&example, "lb"), (&example, "m1"), (&example, "w1"), (&another, "m4")] {
        let host = topology.host(name).expect("of the example");
        let mut all = units(topology, host, &layout);
        all.extend(host.node.then(|| containerd_unit(&layout)));
        for unit in all {
            let text = unit_file(&unit, Path::new("/usr/local/bin/argosy"));
            wanted.insert(Path::new(&host.name).join(unit.file_name()), text);
        }
        for (path, text) in files(topology, host, &layout) {
            wanted.insert(Path::new(&host.name).join(path.file_name().expect("a file")), text);
        }
    }
    wanted
}

/// `UPDATE_DEPLOY=1` writes the folder anew.
#[test]
fn the_unit_files_under_deploy_are_what_is_deployed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let wanted = wanted();
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        for (path, text) in &wanted {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("written");
        }
    }
    let mut found = BTreeMap::new();
    for host in fs::read_dir(&folder).expect("deploy/").flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(host.path()).expect("a folder").flatten() {
            let text = fs::read_to_string(file.path()).expect("text");
            found.insert(Path::new(&host.file_name()).join(file.file_name()), text);
        }
    }
    assert_eq!(found, wanted, "UPDATE_DEPLOY=1 cargo test -p cluster writes deploy/ anew");
}

/// As far as it can be known without the programs: a directive that systemd does not know, or a value it does not take.
#[test]
fn systemd_finds_nothing_to_complain_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let (topology, layout) = (example(), Layout::new(DEFAULT_DATA_DIR));
    let mut paths = Vec::new();
    for host in &topology.hosts {
        let mut all = units(&topology, host, &layout);
        all.extend(host.node.then(|| containerd_unit(&layout)));
        for unit in all {
            let path = folder.path().join(unit.file_name());
            // A program that is certainly there.
            let text = unit_file(&unit, Path::new("/bin/true")).replace("/usr/bin/etcd", "/bin/true");
            let text = text.replace("/usr/sbin/nginx", "/bin/true").replace("/usr/bin/containerd", "/bin/true");
            fs::write(&path, text).expect("written");
            paths.push(path);
        }
    }
    let output =
        Command::new("systemd-analyze").arg("verify").args(["--man=no", "--recursive-errors=no"]).args(&paths).output();
    let output = output.expect("systemd-analyze is missing: install the package systemd");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let folder = folder.path().to_string_lossy().into_owned();
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains(&folder)).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
}
