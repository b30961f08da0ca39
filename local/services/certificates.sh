#!/usr/bin/env bash
# A certificate authority for the services, and a server certificate of it for each: the Secrets `ca` and SERVICE-tls and the
# ConfigMap `ca` in the namespace `services`. Valid ones stay.
source "$(dirname "$0")/../lib.sh"

SERVICES=(postgres kafka cassandra schema-registry source)

node_ip=$(kubectl get node "$NODE" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
# Step by step and not as one pipe: a failed request must not pass for an authority that is missing.
existing=$(kubectl -n services get secret ca "${SERVICES[@]/%/-tls}" --ignore-not-found -o json)
manifests=$(printf '%s' "$existing" |
  docker exec -i "$NODE" bash -c "$(<"$LOCAL/services/issue-certificates")" issue-certificates "$node_ip" "${SERVICES[@]}")
# Server-side: the client's way would copy the keys into an annotation.
printf '%s' "$manifests" | kubectl apply --server-side --force-conflicts -f - >/dev/null
