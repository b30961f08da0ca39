#!/usr/bin/env bash
# Runs a command while the local Cassandra syncs its commit log periodically, as most clusters do: there, each write waits for the
# sync, which limits all that write. Usage: with-periodic-commit-log.sh COMMAND...
source "$(dirname "$0")/../local/lib.sh"

commit_log() {
  kubectl -n services set env statefulset/cassandra "$1" >/dev/null
  kubectl -n services rollout status statefulset/cassandra --timeout=300s >/dev/null
}

trap 'commit_log COMMITLOG_SYNC-' EXIT
commit_log COMMITLOG_SYNC=periodic
"$@"
