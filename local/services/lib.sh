# Sourced by the scripts that put something into the namespace `services`.
# shellcheck shell=bash

# Both take NAME=IMAGE, a line each.
load() {
  # shellcheck disable=SC2046 # a word each
  "$LOCAL/cluster/load.sh" $(cut -d= -f2 <<<"$1")
}

# Applies the manifests of these names, with these images in the place of the manifests' names without a tag.
apply() {
  local name image
  while IFS='=' read -r name image; do
    echo "---"
    sed "s#image: userpipeline/$name\$#image: $image#" "$LOCAL/services/$name.yaml"
  done <<<"$1" | kubectl -n services apply -f - >"$CACHE/logs/services-apply.log"
}

rolled_out() {
  kubectl -n services rollout status "$1" --timeout=300s >"$CACHE/logs/rollout.log" 2>&1 ||
    die "$1 is not ready. See: kubectl -n services get pods,events"
}

# until_true SECONDS WHAT COMMAND...: for some seconds after a restart the API still shows yesterday's Ready=True, so the
# service itself is asked.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || {
      kubectl -n services get pods >&2 || true
      die "$what does not answer. See: kubectl -n services get pods,events"
    }
    sleep 0.5
  done
  say "$what answers"
}
