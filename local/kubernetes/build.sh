#!/usr/bin/env bash
# Compiles what the node image is made of. Not needed where an image registry offers kindest/node, nor while the finished
# node image is in the cache.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

KEY=$(key "$KUBERNETES_VERSION" "$LOCAL"/kubernetes/{go.mod,go.sum,compile.sh,coredns,etcd,pause})
OUT=$CACHE/kubernetes/$KEY

plan() {
  [[ -d $OUT ]] || ! builds_base || node_image_saved || echo "330 Kubernetes ${KUBERNETES_VERSION#v}, etcd and CoreDNS, compiled from their Go modules"
}

run() {
  command -v go >/dev/null || die "Go 1.24 or later is needed to compile Kubernetes, as no image registry answers. Install Go."
  say "compiling Kubernetes, etcd and CoreDNS (minutes)"
  rm -rf "$CACHE/kubernetes"
  # Go's own cache keeps what is finished, so an interrupted compile goes on where it stopped.
  quietly kubernetes "$LOCAL/kubernetes/compile.sh" "$OUT.new" "$KUBERNETES_VERSION"
  mv "$OUT.new" "$OUT"
  say "Kubernetes is compiled"
}

[[ ${1:-} == out ]] && { echo "$OUT"; exit; }
step_main "$@"
