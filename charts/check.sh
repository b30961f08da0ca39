#!/usr/bin/env bash
# Lints the chart, renders it in each shape, and holds every object against Kubernetes' own schemas. Needs no cluster.
source "$(dirname "$0")/../local/lib.sh"

VALIDATOR=1.37.0
CHART=$ROOT/charts/userpipeline-operator
venv=$CACHE/kubernetes-validate-$VALIDATOR

"$LOCAL/kubernetes/tools.sh" run
if [[ ! -x $venv/bin/kubernetes-validate ]]; then
  command -v python3 >/dev/null || die "python3 is needed to validate what the chart renders. Install it."
  rm -rf "$venv"
  quietly kubernetes-validate bash -c "python3 -m venv '$venv' && '$venv/bin/pip' install --quiet kubernetes-validate==$VALIDATOR"
fi

command helm lint --strict "$CHART" >/dev/null || command helm lint --strict "$CHART"
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

# render NAME [helm options]: the objects, one file.
render() {
  local name=$1
  shift
  command helm template userpipeline "$CHART" --namespace userpipeline-system "$@" >"$rendered/$name.yaml"
  # The validator knows Kubernetes' own kinds; the CRD itself is one of them.
  "$venv/bin/kubernetes-validate" --strict --quiet -k 1.34 "$rendered/$name.yaml"
}

render default
render one-namespace --set watchNamespace=team-a
render own-images --set image.registry=registry.example/team/userpipeline,image.tag=1.2.3,replicas=2,image.allowedRegistries[0]=mirror.example/up,connections.required=true
render admission --set admission.enabled=true,watchNamespace=team-a,pods.allowedLabels[0]=team,checks.pods.priorityClassName=low
render without-crds --set crds.enabled=false,rbac.aggregate=false,checks.enabled=false

render strimzi --set watchNamespace=team-a,strimzi.clusters[0].namespace=kafka,strimzi.clusters[0].name=events,strimzi.clusters[0].userNamespace=team-a,strimzi.clusters[1].namespace=kafka,strimzi.clusters[1].name=audit

# What must hold in every shape.
! grep -q '^kind: CustomResourceDefinition' "$rendered/without-crds.yaml" || die "crds.enabled=false still renders the CRD"
grep -q -- '--require-connections' "$rendered/own-images.yaml" || die "connections.required does not reach the operator"
grep -q -- '--disable-checks' "$rendered/without-crds.yaml" || die "checks.enabled does not reach the operator"
grep -qF -- '--check-pods={\"priorityClassName\":\"low\"}' "$rendered/admission.yaml" || die "checks.pods does not reach the operator"
! grep -q -- '--disable-checks' "$rendered/default.yaml" || die "connections are not checked by default"
for name in own-images admission; do
  grep -q -- '--restrict-pod-metadata' "$rendered/$name.yaml" || die "$name: pipelines could steer webhooks by annotations of pods"
done
grep -q -- '--allowed-pod-label=team' "$rendered/admission.yaml" || die "pods.allowedLabels does not reach the operator"
grep -qF 'key in [\"team\"]' "$rendered/admission.yaml" || die "pods.allowedLabels does not reach the admission policy"
# An edit that leaves a block as it is needs no right to its Secrets.
! grep -E '^ *- expression: .*variables\.(secrets|headers)' "$rendered/admission.yaml" | grep -v 'Changed ||' ||
  die "the admission policy checks Secrets that an edit does not change"
grep -q -- '--strimzi-cluster=kafka/events:team-a' "$rendered/strimzi.yaml" || die "strimzi.clusters does not reach the operator"
(($(grep -A1 '^metadata:$' "$rendered/strimzi.yaml" | grep -c '^  name: userpipeline-operator-strimzi$') == 4)) || die "strimzi.clusters needs one Role and one RoleBinding for each namespace"
! grep -q 'kafka.strimzi.io' "$rendered/default.yaml" || die "without strimzi.clusters the operator must have no right on Strimzi's resources"
grep -q 'helm.sh/resource-policy: keep' "$rendered/default.yaml" || die "the CRD would go with the chart"
(($(grep -c '^kind: ClusterRoleBinding' "$rendered/one-namespace.yaml") == 1)) || die "with watchNamespace the operator must have no right in the whole cluster but to know which one it is"
for file in "$rendered"/*.yaml; do
  ! grep -qE '\bsecrets\b' <(sed -E '/^kind: (CustomResourceDefinition|ValidatingAdmissionPolicy(Binding)?)$/,/^---/d' "$file") || die "$(basename "$file"): the operator must have no right on Secrets"
done
if command helm template userpipeline "$CHART" --set image.pullPolicy=Sometimes >/dev/null 2>&1; then
  die "values.schema.json lets a wrong value pass"
fi
echo "chart: lint, 6 renderings, validation: ok"
