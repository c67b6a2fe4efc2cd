#!/usr/bin/env bash
# Runs examples/hello.yaml on the cluster and shows its answer: through the Service's address, and by its name from a pod.
#
# usage: scripts/demo.sh [DATA_DIR [ARGOSY]]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-/var/lib/argosy}
argosy=${2:-argosy}
KUBECONFIG=$data/admin.kubeconfig
export KUBECONFIG
command -v kubectl >/dev/null || { echo "demo: no kubectl on PATH, see \`make setup\`" >&2; exit 1; }

kubectl apply -f examples/hello.yaml
kubectl rollout status deployment/hello --timeout=90s || {
  kubectl get pods --output wide
  kubectl get events --field-selector type=Warning
  exit 1
} >&2
# On a cluster of this very second the names are not served yet, and the rules for the Service are just being made.
kubectl --namespace kube-system rollout status deployment/coredns --timeout=90s
address=$(kubectl get service hello -o jsonpath='{.spec.clusterIP}')
# Of a cluster of several hosts, this machine is none: it has no rules for Services.
host=$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')
on_node=()
[[ ! -e $data/topology.json ]] || on_node=("$argosy" node exec --data-dir "$data" "$host" --)
echo "through the Service's address, http://$address:"
"${on_node[@]}" curl -fsS --max-time 5 --retry 10 --retry-delay 1 --retry-all-errors "http://$address/"
echo "by its name, from a pod:"
pod=$(kubectl get pod -l app=hello -o jsonpath='{.items[0].metadata.name}')
by_name() { kubectl exec "$pod" -- argosy hello --get http://hello.default.svc.cluster.local/; }
for _ in {1..10}; do
  by_name 2>/dev/null && exit
  sleep 1
done
by_name # with its error
