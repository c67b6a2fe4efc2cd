#!/usr/bin/env bash
# Installs what building and running Argosy needs and this machine lacks. Changes nothing that is there already.
#
# usage: scripts/setup.sh [--tests]      --tests: also what only the tests need
#        env: KUBECTL_URL  where a kubectl is fetched from, with its .sha256 beside it, when none is on PATH
set -euo pipefail

# The oldest kubectl that the tour is tested with, and where a new one comes from.
KUBECTL_MIN=1.27
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
KUBECTL_URL=${KUBECTL_URL:-https://dl.k8s.io/release/v1.36.2/bin/linux/$arch/kubectl}

# program (or file) that shows a package is there : Debian's package
NEEDED=(
  containerd:containerd ctr:containerd runc:runc /usr/lib/cni/ptp:containernetworking-plugins nft:nftables
  iptables:iptables conntrack:conntrack ip:iproute2 etcd:etcd-server nginx:nginx
  /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream protoc:protobuf-compiler
  /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev cmake:cmake cc:gcc g++:g++ make:make
  curl:curl
)
NEEDED_BY_TESTS=(openssl:openssl busybox:busybox-static python3-venv:python3-venv)
[[ ${1:-} != --tests ]] || NEEDED+=("${NEEDED_BY_TESTS[@]}")
# Services that their packages start, and that a cluster brings up by itself.
SERVICES=(containerd etcd nginx)

say() { printf '%s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

present() {
  case $1 in
    /usr/lib/cni/*) [[ -x $1 || -x /opt/cni/bin/${1##*/} || -x /usr/libexec/cni/${1##*/} ]] ;;
    /*) [[ -e $1 ]] ;;
    python3-venv) python3 -m ensurepip --version >/dev/null 2>&1 ;;
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

# From the distribution where that has one new enough, else from Kubernetes' own place. A cluster runs without it.
install_kubectl() {
  local package candidate sudo=()
  [[ $EUID -eq 0 ]] || sudo=(sudo)
  for package in kubectl kubernetes-client; do
    command -v apt-cache >/dev/null || break
    candidate=$(apt-cache policy "$package" | sed -n 's/^  Candidate: \([0-9]*:\)\{0,1\}//p')
    if [[ -n $candidate && $candidate != "(none)" ]] && dpkg --compare-versions "$candidate" ge "$KUBECTL_MIN" &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package"; then
      say "installed kubectl $candidate from the package $package"
      return
    fi
  done
  if fetch_kubectl; then
    say "installed /usr/local/bin/kubectl from $KUBECTL_URL"
    return
  fi
  say "note: no kubectl on PATH, none of version $KUBECTL_MIN or newer in this machine's package sources, and" \
    "$KUBECTL_URL is out of reach. Install one from https://kubernetes.io/docs/tasks/tools/ and put it on PATH;" \
    "the cluster runs without it, the demo and the end-to-end tests need it."
}

fetch_kubectl() {
  local folder sum sudo=()
  [[ $EUID -eq 0 ]] || sudo=(sudo)
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' RETURN
  curl -fsSL --connect-timeout 10 --max-time 300 -o "$folder/kubectl" "$KUBECTL_URL" 2>/dev/null || return 1
  sum=$(curl -fsSL --connect-timeout 10 --max-time 60 "$KUBECTL_URL.sha256") || return 1
  echo "${sum%% *}  $folder/kubectl" | sha256sum --check --status || die "$KUBECTL_URL is not what its checksum says"
  "${sudo[@]}" install -m 0755 "$folder/kubectl" /usr/local/bin/kubectl
}

mapfile -t packages < <(missing_packages)
[[ ${#packages[@]} -eq 0 ]] || install_packages "${packages[@]}"
mapfile -t packages < <(missing_packages)
[[ ${#packages[@]} -eq 0 ]] || die "still missing after the installation: ${packages[*]}"
command -v kubectl >/dev/null || install_kubectl
command -v cargo >/dev/null || die "cargo is not on PATH: install the Rust toolchain, 1.95 or newer, from https://rustup.rs"
say "everything that Argosy needs is here"
