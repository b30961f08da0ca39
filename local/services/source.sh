#!/usr/bin/env bash
# The stand-in for the public users API. Apart from the other services, for its binary is ours and compiled meanwhile; the
# other images of ours are loaded in the same go.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/services/lib.sh"

ALWAYS=yes
plan() { :; }

run() {
  local images
  images=$("$LOCAL/images/product.sh" list)
  load "$images"
  apply "$(grep '^source=' <<<"$images")"
  rolled_out deployment/source
  until_true 60 "the stand-in API" curl -fsS -m 5 http://127.0.0.1:30080/healthz
  until_true 60 "the stand-in API over TLS" tls_answers deployment/source source 8443
}

step_main "$@"
