#!/usr/bin/env bash
# Kafka, Cassandra, PostgreSQL, the schema registry and the stand-in API in the namespace `services`, until each one answers.
source "$(dirname "$0")/../lib.sh"

# Always applied: it takes a second, and what is unchanged is left alone.
ALWAYS=yes
plan() { ready_once || echo "60 Kafka, Cassandra, PostgreSQL, schema registry and stand-in API in the cluster"; }

ready_once() {
  [[ -x $CACHE/bin/kubectl ]] && kubectl --request-timeout=5s -n services get statefulset/kafka statefulset/cassandra statefulset/postgres \
    deployment/schema-registry >/dev/null 2>&1
}

# A password is made on the first install and never leaves the cluster.
secret() {
  kubectl -n services get secret "$1" >/dev/null 2>&1 && return
  kubectl create -f - >/dev/null <<SECRET
apiVersion: v1
kind: Secret
type: kubernetes.io/basic-auth
metadata: { name: $1, namespace: services }
stringData: { username: $2, password: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') }
SECRET
}

# A hostPath takes no fsGroup: the folders get their owners here.
folder() { docker exec "$NODE" install -d -m 700 -o "$2" -g "$2" "/var/lib/userpipeline/$1"; }

apply() {
  local images="$1" file name image rules=()
  while IFS='=' read -r name image; do
    rules+=(-e "s#image: userpipeline/$name\$#image: $image#")
  done <<<"$images"
  for file in "$LOCAL"/services/*.yaml; do
    name=$(basename "$file" .yaml)
    # A service whose image does not exist yet is left out.
    [[ $name == namespace ]] || grep -q "^$name=" <<<"$images" || continue
    echo "---"
    sed "${rules[@]}" "$file"
  done | kubectl -n services apply -f - >"$CACHE/logs/services-apply.log"
}

# until_true SECONDS WHAT COMMAND...: for some seconds after a restart the API still shows yesterday's Ready=True, so the
# service itself is asked.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what does not answer. See: kubectl -n services get pods,events"
    sleep 0.5
  done
  say "$what answers"
}

run() {
  local images
  images=$("$LOCAL/images/services.sh" list; "$LOCAL/images/product.sh" list)
  # shellcheck disable=SC2046 # a word each
  "$LOCAL/cluster/load.sh" $(cut -d= -f2 <<<"$images")
  kubectl apply -f "$LOCAL/services/namespace.yaml" >/dev/null
  secret postgres-superuser postgres
  secret postgres-userpipeline userpipeline
  secret postgres-registry registry
  secret cassandra-superuser admin
  secret cassandra-userpipeline userpipeline
  folder kafka 10001
  folder cassandra 10002
  folder postgres 10004
  # The pods may be made before their namespace has its service account.
  until_true 60 "the cluster" kubectl -n services get serviceaccount default
  apply "$images"

  for name in statefulset/postgres deployment/schema-registry statefulset/kafka statefulset/cassandra; do
    kubectl -n services rollout status "$name" --timeout=300s >"$CACHE/logs/rollout.log" || die "$name is not ready. See: kubectl -n services get pods,events"
  done
  until_true 120 PostgreSQL kubectl -n services exec postgres-0 -- psql -c 'SELECT 1'
  until_true 120 "the schema registry" curl -fsS -m 5 http://127.0.0.1:30081/apis/ccompat/v7/subjects
  until_true 120 Kafka kubectl -n services exec kafka-0 -- kafka-topics --list
  until_true 120 Cassandra kubectl -n services exec cassandra-0 -- cqlsh -e 'SELECT release_version FROM system.local'
  if grep -q '^source=' <<<"$images"; then
    kubectl -n services rollout status deployment/source --timeout=120s >"$CACHE/logs/rollout.log" || die "the stand-in API is not ready"
    until_true 60 "the stand-in API" curl -fsS -m 5 http://127.0.0.1:30080/healthz
  fi
}

step_main "$@"
