#!/usr/bin/env bash
# Kafka, Cassandra, PostgreSQL and the schema registry in the namespace `services`, until each one answers.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/services/lib.sh"

# Always applied: it takes a second, and what is unchanged is left alone.
ALWAYS=yes
plan() { ready_once || echo "65 Kafka, Cassandra, PostgreSQL and schema registry in the cluster"; }

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

run() {
  local images
  # One is enough for a node, and what pods request is scarce: pods of many pipelines share two processors.
  kubectl -n kube-system scale deployment coredns --replicas=1 >/dev/null
  images=$("$LOCAL/images/services.sh" list)
  load "$images"
  kubectl apply -f "$LOCAL/services/namespace.yaml" >/dev/null
  secret postgres-superuser postgres
  secret postgres-userpipeline userpipeline
  secret postgres-registry registry
  secret postgres-userpipeline-cert userpipeline-cert
  secret postgres-userpipeline-plain userpipeline-plain
  secret kafka-userpipeline userpipeline
  secret cassandra-superuser admin
  secret cassandra-userpipeline userpipeline
  secret schema-registry-userpipeline userpipeline
  "$LOCAL/services/certificates.sh"
  folder kafka 10001
  folder cassandra 10002
  folder postgres 10004
  # The pods may be made before their namespace has its service account.
  until_true 60 "the cluster" kubectl -n services get serviceaccount default
  apply "$images"

  for name in statefulset/postgres deployment/schema-registry statefulset/kafka statefulset/cassandra; do
    rolled_out "$name"
  done
  # Generously: after a kill Kafka looks through every partition, and all of them share the processors with the compiler.
  until_true 300 PostgreSQL kubectl -n services exec postgres-0 -- psql -c 'SELECT 1'
  # With the password, so that the answer is the registry's and not the proxy's.
  until_true 300 "the schema registry over TLS" kubectl -n services exec deployment/schema-registry -c tls-proxy -- \
    bash -c "$(<"$LOCAL/services/request-subjects")"
  until_true 300 Kafka kubectl -n services exec kafka-0 -- kafka-topics --list
  until_true 300 "Cassandra over TLS" kubectl -n services exec cassandra-0 -- cqlsh -e 'SELECT release_version FROM system.local'
  until_true 60 "PostgreSQL over TLS" tls_answers postgres-0 postgres 5432 -starttls postgres
  # This also waits for its SCRAM user.
  until_true 60 "Kafka over TLS" kubectl -n services exec kafka-0 -- \
    kafka-topics --bootstrap-server localhost:9093 --command-config /tmp/client.properties --list
}

step_main "$@"
