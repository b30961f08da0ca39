#!/usr/bin/env bash
# Installs or upgrades the operator by its Helm chart, with the images that were built last.
source "$(dirname "$0")/lib.sh"

ALWAYS=yes
CHART=$ROOT/charts/userpipeline-operator
RELEASE_NAMESPACE=userpipeline-system

plan() {
  [[ -d $CHART ]] || return 0
  [[ -x $CACHE/bin/kubectl ]] && kubectl --request-timeout=5s -n "$RELEASE_NAMESPACE" get deployment -o name 2>/dev/null | grep -q . ||
    echo "15 operator"
}

run() {
  [[ -d $CHART ]] || { say "no chart in charts/userpipeline-operator yet: the operator is left out"; return; }
  # shellcheck source=/dev/null
  source "$CACHE/images/own.env"
  # An install that was killed leaves a pending release, and Helm then refuses every further one.
  kubectl -n "$RELEASE_NAMESPACE" delete secret -l 'owner=helm,name=userpipeline,status in (pending-install,pending-upgrade,pending-rollback)' \
    >/dev/null 2>&1 || true
  # Ownership is taken: a CRD that was applied by hand would stop the install otherwise.
  say "installing the operator"
  quietly helm-operator helm upgrade --install userpipeline "$CHART" --namespace "$RELEASE_NAMESPACE" --create-namespace \
    --set image.registry="$PRODUCT_REGISTRY" --set image.tag="$PRODUCT_TAG" --set image.pullPolicy=IfNotPresent \
    --take-ownership --wait --timeout 180s
}

step_main "$@"
