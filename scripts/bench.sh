#!/usr/bin/env bash
# Measures what docs/specification.md promises of one machine, medians over RUNS starts, on a data folder of its own.
#
# usage: scripts/bench.sh ARGOSY        env: RUNS (5), IDLE_S (300: seconds before memory is read)
set -euo pipefail
argosy=${1:?usage: scripts/bench.sh ARGOSY}
runs=${RUNS:-5}
idle_s=${IDLE_S:-300}
dir=$(mktemp -d /var/lib/argosy-bench.XXXXXX)
trap '"$argosy" down --data-dir "$dir" --purge >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

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

pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$dir/run/argosy.pid")
sleep "$idle_s"
row "resident memory of the one process after $idle_s s" "$(awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")" MiB
