#!/usr/bin/env bash
# The cluster tests, on the cluster that KUBECONFIG names; its nodes have the images, or can pull them. INFERMESH_CLUSTER_*
# say more: tests/cluster/settings.py. Arguments are pytest's.
# KUBE names the tool of a test cluster on this machine (commands up, down, env, build, load, node, stop-node, start-node).
# Without KUBECONFIG the tests run there: it is started if it does not run, gets the images, and what was started is stopped.
# Where it can't be started the exit status is 75.
set -euo pipefail
cd "$(dirname "$0")/.."
kube=${KUBE:-../shared/kube/kube}
say() { echo "cluster: $*"; }

images() { # builds the four images and puts them on the nodes, under a second tag as well: something to upgrade to
  local service node name ctr="ctr -a /run/containerd/containerd.sock -n k8s.io"
  BUILDER=$kube TAG=dev scripts/images.sh
  "$kube" load infermesh-{gateway,registry,scheduler,worker}:dev
  for node in 1 2; do
    for service in gateway registry scheduler worker; do
      name=docker.io/library/infermesh-$service
      "$kube" node $node $ctr images tag --force $name:dev $name:next > /dev/null
    done
  done
}

faults() { # what only this tool can do to a node or to the API server; the tests run these as they stand, with NODE set
  local rule='INPUT -p tcp --dport 6443 -s 10.244.0.0/16 -j DROP'
  export INFERMESH_CLUSTER_VICTIM=node2 INFERMESH_CLUSTER_NEXT_TAG=next
  # what a node leaves behind takes a moment to go on a busy machine, and the tool does not wait for it
  export INFERMESH_CLUSTER_STOP_NODE="for n in 1 2 3 4 5; do $kube stop-node \${NODE#node} && exit; sleep 1; done; exit 1"
  export INFERMESH_CLUSTER_START_NODE="nice -n -10 $kube start-node \${NODE#node}"
  export INFERMESH_CLUSTER_CUT_API="$kube node 1 iptables -I $rule"
  export INFERMESH_CLUSTER_MEND_API="while $kube node 1 iptables -D $rule 2> /dev/null; do :; done"
}

if [ -z "${KUBECONFIG:-}" ]; then
  [ -x "$kube" ] || { say "skipped: KUBECONFIG names no cluster, and there is no $kube"; exit 0; }
  kube=$(realpath "$kube")
  "$kube" status > /dev/null 2>&1 || trap '"$kube" down' EXIT
  "$kube" up --nodes 2 --keda || { say "no test cluster could be started"; exit 75; }
  images
  eval "$("$kube" env)"
  faults
elif [ -x "$kube" ] && [ "$("$kube" env 2> /dev/null | sed -n 's/.*KUBECONFIG=//p')" = "$KUBECONFIG" ]; then
  kube=$(realpath "$kube")
  faults
fi
[ $# -gt 0 ] || set -- tests/cluster tests/chart tests/contract # no other folder has such tests; importing all takes a while
# two processes (tests/cluster/processes.py tells what each does), which give way to a cluster on the same machine
nice -n 10 .venv/bin/python -m pytest --cluster -m 'cluster or chart' -n 2 --no-loadscope-reorder "$@"
