#!/usr/bin/env bash
# Measures API servers in turns with `argosy bench api`: the operations that docs/specification.md names, with this machine's
# limits. docs/benchmarks.md says what the figures mean.
#
# usage: scripts/bench-api.sh ARGOSY KUBECONFIG [FLAGS of `argosy bench api`, such as --against FILE --against-pid PID,PID]
# env:   ROUNDS (3), DURATION (5), LIMITS (/var/lib: a folder on the servers' disk)
set -euo pipefail
argosy=${1:?usage: scripts/bench-api.sh ARGOSY KUBECONFIG [FLAGS]}
kubeconfig=${2:?usage: scripts/bench-api.sh ARGOSY KUBECONFIG [FLAGS]}
shift 2
bench() {
  "$argosy" bench api "$@" --kubeconfig "$kubeconfig" --rounds "${ROUNDS:-3}" --duration "${DURATION:-5}"
}

bench get --sizes 1Ki,10Ki --limits "${LIMITS:-/var/lib}" "$@"
bench create update patch apply delete mixed --connections 64 --limits "${LIMITS:-/var/lib}" "$@"
# Few connections: with many, one answer of 100 MiB on each is a measurement of memory.
bench list --objects 100,1000,7000,10000 --sizes 1Ki,10Ki --connections 4 --limits "${LIMITS:-/var/lib}" "$@"
bench deletecollection --objects 7000 "$@"
bench watch --watchers 1,100,1000,10000 "$@"
