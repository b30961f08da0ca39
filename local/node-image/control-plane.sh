#!/usr/bin/env bash
# The images of the control plane, one binary each, under the names kubeadm asks for. Prints these names.
# Usage: control-plane.sh DIR, DIR being that of the compiled binaries.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

bin=$1
base=userpipeline/control-plane:build
build_image "$base" "$LOCAL/node-image/control-plane" --build-arg BASE="$BASE_IMAGE" >&2

context=$(mktemp -d "$CACHE/context.XXXX")
# shellcheck disable=SC2064 # expanded now
trap "rm -rf '$context'" EXIT

"$bin/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION" >"$context/names"
# The sandbox image is named a second time, by kind's containerd configuration.
sed -n 's#\(.*/pause\):.*#\1:3.10#p' "$context/names" | cat "$context/names" - | sort -u | while read -r image; do
  name=$(basename "${image%:*}")
  rm -rf "$context/image" && mkdir "$context/image"
  cp -l "$bin/$name" "$context/image/" 2>/dev/null || cp "$bin/$name" "$context/image/"
  # /usr/local/bin, and an entrypoint: kube-proxy is called by that path, CoreDNS's and pause's pods give no command.
  from=$base
  [[ $name != pause ]] || from=scratch
  printf 'FROM %s\nCOPY %s /usr/local/bin/%s\nENTRYPOINT ["/usr/local/bin/%s"]\n' "$from" "$name" "$name" "$name" >"$context/image/Dockerfile"
  build_image "$image" "$context/image" >&2
  echo "$image"
done
