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
  # For the tests of Strimzi's resources: the chart's Roles need both namespaces.
  for namespace in kafka strimzi-users; do
    kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  done
  # Ownership is taken: a CRD that was applied by hand would stop the install otherwise.
  say "installing the operator"
  quietly helm-operator helm upgrade --install userpipeline "$CHART" --namespace "$RELEASE_NAMESPACE" --create-namespace \
    --set image.registry="$PRODUCT_REGISTRY" --set image.tag="$PRODUCT_TAG" --set image.pullPolicy=IfNotPresent \
    --set 'strimzi.clusters[0].namespace=kafka,strimzi.clusters[0].name=events,strimzi.clusters[0].userNamespace=strimzi-users' \
    --take-ownership --wait --timeout 180s
}

step_main "$@"
