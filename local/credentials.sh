#!/usr/bin/env bash
# Gives a namespace the credentials of the local stores, as the Secrets `postgres-credentials` and `cassandra-credentials`.
# Usage: credentials.sh NAMESPACE
source "$(dirname "$0")/lib.sh"

namespace=${1:?usage: credentials.sh NAMESPACE}
for store in postgres cassandra; do
  kubectl -n services get secret "$store-userpipeline" -o json |
    jq --arg namespace "$namespace" --arg name "$store-credentials" \
      '{apiVersion, kind, type, data, metadata: {$name, $namespace}}' |
    # Server-side: the client's way would copy the password into an annotation.
    kubectl apply --server-side --force-conflicts -f - >/dev/null
done
