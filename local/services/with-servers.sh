#!/usr/bin/env bash
# Runs a command with the services' addresses, users and authority in its environment, for the tests of `stores/` that need real
# servers. Usage: with-servers.sh COMMAND...
source "$(dirname "$0")/../lib.sh"

# The authority's key is in memory only, and goes with the command.
umask 077
WIRES_CA=$(mktemp -d /dev/shm/wires.XXXXXX)
trap 'rm -rf "$WIRES_CA"' EXIT
export WIRES_CA

# value SECRET KEY
value() { kubectl -n services get secret "$1" -o "jsonpath={.data.${2//./\\.}}" | base64 -d; }

# server NAME ADDRESS SECRET
server() {
  local username password
  username=$(value "$3" username)
  password=$(value "$3" password)
  export "WIRES_$1=$2" "WIRES_$1_USERNAME=$username" "WIRES_$1_PASSWORD=$password"
}

value ca tls.crt >"$WIRES_CA/tls.crt"
value ca tls.key >"$WIRES_CA/tls.key"
server POSTGRES 127.0.0.1:30432 postgres-userpipeline
server POSTGRES_CERTIFICATE 127.0.0.1:30432 postgres-userpipeline-cert
server KAFKA 127.0.0.1:30094 kafka-userpipeline
server CASSANDRA 127.0.0.1:30042 cassandra-userpipeline
server REGISTRY https://127.0.0.1:30081/apis/ccompat/v7 schema-registry-userpipeline
node=$(kubectl get node "$NODE" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
export WIRES_KAFKA_MTLS=$node:30096 WIRES_REGISTRY_MTLS=https://$node:30444/apis/ccompat/v7
"$@"
