#!/usr/bin/env bash
# kind and helm, in the cache and in the versions of versions.env. (kubectl comes out of the node image: see cluster/create.sh.)
source "$(dirname "$0")/../lib.sh"

has_kind() { [[ -x $CACHE/bin/kind && $("$CACHE/bin/kind" version 2>&1) == *"$KIND_VERSION"* ]]; }
has_helm() { [[ -x $CACHE/bin/helm && $("$CACHE/bin/helm" version --short 2>&1) == "$HELM_VERSION"* ]]; }

plan() {
  has_kind || echo "25 kind $KIND_VERSION"
  has_helm || echo "75 helm $HELM_VERSION"
}

run() {
  command -v go >/dev/null || die "Go 1.24 or later is needed to install kind and helm. Install Go."
  export CGO_ENABLED=0 GOBIN=$CACHE/bin GOTOOLCHAIN=local
  if ! has_kind; then
    say "compiling kind"
    quietly kind go install -trimpath -ldflags "-s -w" "sigs.k8s.io/kind@$KIND_VERSION"
  fi
  if ! has_helm; then
    say "compiling helm"
    # A helm compiled without these believes in Kubernetes 1.20 when it renders without a cluster.
    local minor chartutil=helm.sh/helm/v3/pkg/chartutil
    minor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")
    quietly helm go install -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION \
      -X $chartutil.k8sVersionMajor=1 -X $chartutil.k8sVersionMinor=$minor" "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
  fi
}

step_main "$@"
