#!/usr/bin/env bash
# Installs what building and running Argosy needs and this machine lacks. Changes nothing that is there already.
#
# usage: scripts/setup.sh        env: KUBECTL_VERSION (for a kubectl where none is on PATH; default v1.36.0)
set -euo pipefail

# program (or file) that shows a package is there : Debian's package
NEEDED=(
  containerd:containerd ctr:containerd runc:runc /usr/lib/cni/ptp:containernetworking-plugins nft:nftables
  iptables:iptables conntrack:conntrack ip:iproute2 etcd:etcd-server nginx:nginx
  /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream protoc:protobuf-compiler
  /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev cmake:cmake cc:gcc g++:g++ make:make
  openssl:openssl curl:curl
)
# Services that their packages start, and that a cluster brings up by itself.
SERVICES=(containerd etcd nginx)

say() { printf '%s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

present() {
  case $1 in
    /usr/lib/cni/*) [[ -x $1 || -x /opt/cni/bin/${1##*/} || -x /usr/libexec/cni/${1##*/} ]] ;;
    /*) [[ -e $1 ]] ;;
    *) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
  esac
}

missing_packages() {
  local entry
  for entry in "${NEEDED[@]}"; do present "${entry%%:*}" || say "${entry#*:}"; done | sort -u
}

install_packages() {
  local packages=("$@") sudo=() service installed_services=()
  if ! command -v apt-get >/dev/null; then
    die "this machine has no apt-get. Install what Debian calls: ${packages[*]}
  containerd 1.6 or newer with runc; the CNI plugins ptp, host-local, portmap and loopback in /opt/cni/bin or
  /usr/lib/cni; nft, iptables, conntrack, ip; etcd 3.4 or newer; nginx with its stream module; protoc with
  google/protobuf/descriptor.proto; cmake and a C and C++ compiler. Then run this again."
  fi
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "packages are missing (${packages[*]}) and this is not root: run it as root"
    sudo=(sudo)
  fi
  for service in "${SERVICES[@]}"; do
    present "$service" || installed_services+=("$service")
  done
  say "installing: ${packages[*]}"
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
  # A service that was here before is somebody's; one that this installation started is in the way.
  for service in "${installed_services[@]}"; do
    if [[ -d /run/systemd/system ]]; then
      "${sudo[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || say "note: $service could not be stopped"
    elif [[ -x /etc/init.d/$service ]]; then
      "${sudo[@]}" "/etc/init.d/$service" stop >/dev/null 2>&1 || say "note: $service could not be stopped"
    fi
  done
}

# kubectl's own place of download first; where that is out of reach, say what to do. A cluster runs without it.
install_kubectl() {
  local version=${KUBECTL_VERSION:-v1.36.0} arch target=/usr/local/bin/kubectl temporary
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  temporary=$(mktemp -d)
  local url=https://dl.k8s.io/release/$version/bin/linux/$arch/kubectl
  if curl -fsSL --connect-timeout 10 -o "$temporary/kubectl" "$url" &&
    curl -fsSL --connect-timeout 10 -o "$temporary/sha256" "$url.sha256" &&
    (cd "$temporary" && printf '%s  kubectl\n' "$(cat sha256)" | sha256sum --check --quiet); then
    install -m 0755 "$temporary/kubectl" "$target"
    say "installed kubectl $version as $target"
  elif command -v apt-get >/dev/null && apt-cache show kubernetes-client >/dev/null 2>&1 && [[ $EUID -eq 0 ]] &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends kubernetes-client; then
    say "installed the distribution's kubectl, which may be older than this cluster"
  else
    say "note: no kubectl on PATH and none could be installed. Get one, version 1.27 or newer, from" \
      "https://kubernetes.io/docs/tasks/tools/ and put it on PATH."
  fi
  rm -rf "$temporary"
}

mapfile -t packages < <(missing_packages)
[[ ${#packages[@]} -eq 0 ]] || install_packages "${packages[@]}"
mapfile -t packages < <(missing_packages)
[[ ${#packages[@]} -eq 0 ]] || die "still missing after the installation: ${packages[*]}"
command -v kubectl >/dev/null || install_kubectl
command -v cargo >/dev/null || die "cargo is not on PATH: install the Rust toolchain, 1.95 or newer, from https://rustup.rs"
say "everything that Argosy needs is here"
