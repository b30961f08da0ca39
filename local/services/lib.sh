# Sourced by the scripts that put something into the namespace `services`.
# shellcheck shell=bash

# Both take NAME=IMAGE, a line each.
load() {
  # shellcheck disable=SC2046 # a word each
  "$LOCAL/cluster/load.sh" $(cut -d= -f2 <<<"$1")
}

# Applies the manifests of these names, with these images in the place of the manifests' names without a tag. An image without
# a manifest is a second container in another one's. The hash of the certificate is part of the pods, so a new certificate
# rolls them: most services read theirs only at the start.
apply() {
  local name image images='' certificate
  while IFS='=' read -r name image; do images+="s#image: userpipeline/$name\$#image: $image#; "; done <<<"$1"
  while IFS='=' read -r name image; do
    [[ -f $LOCAL/services/$name.yaml ]] || continue
    certificate=$(kubectl -n services get secret "$name-tls" -o jsonpath='{.data.tls\.crt}')
    echo "---"
    sed "$images s#CERTIFICATE_HASH#$(key "$certificate")#" "$LOCAL/services/$name.yaml"
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

# tls_answers POD CONTAINER PORT OPTION...: whether the certificate is of the authority. Asked inside the pod, because not every
# engine lets this machine reach the node's address.
tls_answers() {
  kubectl -n services exec "$1" -c "$2" -- openssl s_client -connect "localhost:$3" -CAfile /secrets/tls/ca.crt \
    -verify_return_error -verify_hostname localhost "${@:4}" </dev/null
}
