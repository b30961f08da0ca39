#!/usr/bin/env bash
# Gives a namespace what pipelines need to reach the local services: the Secrets `postgres-credentials`, `kafka-credentials`,
# `registry-credentials` and `cassandra-credentials`, and the ConfigMap `ca` with the authority of the services' certificates.
# Usage: credentials.sh NAMESPACE
source "$(dirname "$0")/lib.sh"

namespace=${1:?usage: credentials.sh NAMESPACE}

# copy KIND NAME NEW_NAME
copy() {
  kubectl -n services get "$1" "$2" -o json |
    jq --arg namespace "$namespace" --arg name "$3" \
      '{apiVersion, kind, type, data, metadata: {$name, $namespace}} | with_entries(select(.value != null))' |
    # Server-side: the client's way would copy the password into an annotation.
    kubectl apply --server-side --force-conflicts -f - >/dev/null
}

copy secret postgres-userpipeline postgres-credentials
copy secret kafka-userpipeline kafka-credentials
copy secret schema-registry-userpipeline registry-credentials
copy secret cassandra-userpipeline cassandra-credentials
copy configmap ca ca
