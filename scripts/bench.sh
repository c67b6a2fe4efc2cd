#!/usr/bin/env bash
# Measures what docs/specification.md promises of one machine, medians over RUNS runs, on a data folder of its own.
#
# usage: scripts/bench.sh ARGOSY        env: RUNS (5), PODS (20), IDLE_S (300: seconds before memory is read)
set -euo pipefail
argosy=${1:?usage: scripts/bench.sh ARGOSY}
runs=${RUNS:-5}
idle_s=${IDLE_S:-300}
dir=$(mktemp -d /var/lib/argosy-bench.XXXXXX)
server=
finish() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  "$argosy" down --data-dir "$dir" --purge >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap finish EXIT

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
row() { printf '%-52s %10s %s\n' "$1" "$2" "$3"; }

row "binary, stripped" "$(($(stat -c %s "$argosy") >> 20))" MiB

# The first start makes certificates and imports images; the promise is about the ones after it.
begin=$(now_ms)
"$argosy" up --data-dir "$dir" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; exit 1; }
rm -f "$dir.log"
row "argosy up to node Ready, first start" "$(($(now_ms) - begin))" ms
for _ in $(seq "$runs"); do
  "$argosy" down --data-dir "$dir" >/dev/null
  begin=$(now_ms)
  "$argosy" up --data-dir "$dir" >/dev/null
  echo $(($(now_ms) - begin))
done >"$dir/up.ms"
row "argosy up to node Ready, images in place (median)" "$(median <"$dir/up.ms")" ms

# The process from its start until it says that it is ready, seen from outside; includes the time curl needs.
"$argosy" down --data-dir "$dir" >/dev/null
for _ in $(seq "$runs"); do
  begin=$(now_ms)
  "$argosy" server --disable-agent --data-dir "$dir" >/dev/null 2>&1 &
  server=$!
  until [[ $(curl -sk --max-time 2 https://127.0.0.1:6443/readyz) == ok ]]; do sleep 0.005; done
  echo $(($(now_ms) - begin))
  kill "$server"
  wait "$server" || true
  server=
done >"$dir/ready.ms"
row "API server ready after its start (median)" "$(median <"$dir/ready.ms")" ms

"$argosy" up --data-dir "$dir" >/dev/null
pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$dir/run/argosy.pid")
sleep "$idle_s"
row "resident memory of the one process after $idle_s s" "$(awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")" MiB
"$argosy" bench pods --kubeconfig "$dir/admin.kubeconfig" --runs "${PODS:-20}"
