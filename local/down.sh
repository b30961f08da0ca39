#!/usr/bin/env bash
# Usage: down.sh cluster|cache. The first removes the cluster and its data; the second also all that was built, and stops the
# Docker engine if it was us who started it (its runtime wrapper stands in the cache).
source "$(dirname "$0")/lib.sh"

if docker info >/dev/null 2>&1; then
  docker rm -f -v "$NODE" >/dev/null 2>&1 || true
  say "the cluster is gone"
fi
rm -f "$KUBECONFIG"
[[ ${1:-cluster} == cache ]] || exit 0

if docker info >/dev/null 2>&1; then
  docker image ls --format '{{.Repository}}:{{.Tag}}' | grep '^userpipeline/' | xargs -r docker rmi -f >/dev/null
fi
if [[ -s $CACHE/dockerd.pid && $(cat "/proc/$(<"$CACHE/dockerd.pid")/comm" 2>/dev/null) == dockerd ]]; then
  pid=$(<"$CACHE/dockerd.pid")
  kill "$pid"
  while [[ -d /proc/$pid ]]; do sleep 0.2; done
  say "the Docker engine that was started here is stopped"
fi
rm -rf "$CACHE"
say "the cache is gone: $CACHE"
