#!/usr/bin/env bash
# Creates the connections of the services in the namespace `demo`, applies the example pipeline there, and waits until its rows are in
# both stores.
source "$(dirname "$0")/lib.sh"

ALWAYS=yes
EXAMPLE=$ROOT/examples/users.yaml
CONNECTIONS=$ROOT/examples/connections.yaml

plan() {
  [[ -f $EXAMPLE && -d $ROOT/charts/userpipeline-operator ]] || return 0
  [[ -x $CACHE/bin/kubectl ]] && kubectl --request-timeout=5s -n demo get userpipeline users >/dev/null 2>&1 || echo "90 example pipeline, until rows are in both stores"
}

# What Ready says, and how many records every sink has acknowledged.
state() {
  kubectl -n demo get userpipeline users \
    -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.status.totals.stored}' 2>/dev/null
}

run() {
  [[ -f $EXAMPLE && -d $ROOT/charts/userpipeline-operator ]] || { say "no example or no operator yet: no demo"; return; }
  say "example pipeline: $(realpath --relative-to="$ROOT" "$EXAMPLE")"
  kubectl apply -f - >/dev/null <<'NAMESPACE'
apiVersion: v1
kind: Namespace
metadata:
  name: demo
  labels: { pod-security.kubernetes.io/enforce: restricted }
NAMESPACE
  "$LOCAL/credentials.sh" demo
  kubectl apply -f "$CONNECTIONS" -f "$EXAMPLE" >/dev/null

  local deadline=$((SECONDS + 300)) ready='' stored=''
  until read -r ready stored < <(state; echo) && [[ $ready == True && ${stored:-0} -gt 0 ]]; do
    if ((SECONDS > deadline)); then
      kubectl get userpipelines -A -o wide >&2 || true
      die "no rows after 5 minutes. See: kubectl -n demo describe userpipeline users"
    fi
    sleep 1
  done

  kubectl get userpipelines -A
  cat <<'NEXT'

Look further (first: eval "$(make -s env)"):
  kubectl -n demo describe userpipeline users            conditions, events, numbers
  kubectl -n demo get userpipelineconnections            where the stores and the source are
  kubectl -n demo get cronjobs,jobs,deployments,pods     what the operator made of it
  kubectl -n demo logs -l userpipeline.dev/pipeline=users --all-containers --prefix
  kubectl -n services exec -it postgres-0  -- psql -c 'SELECT first_name, last_name, email FROM created_users LIMIT 5'
  kubectl -n services exec -it cassandra-0 -- cqlsh -e 'SELECT first_name, last_name, email FROM spark_streams.created_users LIMIT 5'
  kubectl -n services exec -it kafka-0     -- kafka-topics --describe --topic users_created
NEXT
}

step_main "$@"
