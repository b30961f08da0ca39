#!/usr/bin/env bash
# The kind cluster: made, started again after a stop, or replaced if it no longer answers.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

answers() { kubectl --request-timeout=3s get --raw /readyz >/dev/null 2>&1; }
node_exists() { docker container inspect "$NODE" >/dev/null 2>&1; }
node_runs() { [[ $(docker container inspect -f '{{.State.Running}}' "$NODE" 2>/dev/null) == true ]]; }

plan() {
  if [[ -x $CACHE/bin/kubectl ]] && answers; then return; fi
  if node_exists; then echo "30 start of the stopped cluster"; else echo "40 kind cluster"; fi
}

# kubectl is the node's own: one version for both, and nothing more to compile or download.
install_kubectl() {
  [[ -x $CACHE/bin/kubectl ]] || docker cp -q "$NODE:/usr/bin/kubectl" "$CACHE/bin/kubectl" 2>/dev/null ||
    docker cp "$NODE:/usr/bin/kubectl" "$CACHE/bin/kubectl" >/dev/null
}

wait_for_api() {
  for _ in $(seq "$1"); do
    answers && return
    node_runs || return 1
    sleep 1
  done
  return 1
}

create() {
  say "creating the kind cluster"
  local image=()
  if builds_base; then
    have_image "$NODE_IMAGE" || die "the node image is missing; run make up"
    image=(--image "$NODE_IMAGE")
  fi
  # kind's own wait is too short on a busy machine, and services.sh waits for what matters.
  quietly kind-create kind create cluster --config "$ROOT/kind-config.yaml" --kubeconfig "$KUBECONFIG" --wait 180s "${image[@]}"
}

run() {
  if node_exists; then
    say "starting the cluster"
    docker start "$NODE" >/dev/null
    [[ -s $KUBECONFIG ]] || kind get kubeconfig --name "$CLUSTER" >"$KUBECONFIG"
    install_kubectl
    if ! wait_for_api 60; then
      say "the cluster does not answer: replacing it, its data is lost"
      kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG" >/dev/null 2>&1
      create
    fi
  else
    create
  fi
  install_kubectl
  wait_for_api 60 || die "the cluster's API does not answer; look at: docker logs $NODE"
}

step_main "$@"
