#!/usr/bin/env bash
# The image of kind's node, with the control plane's images inside. Only where no image registry offers kindest/node.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

BUILDER=userpipeline-node-builder

plan() { ! builds_base || node_image_saved || echo "90 node image for kind"; }

clean_up() {
  docker rm -f -v "$BUILDER" >/dev/null 2>&1 || true
  rm -rf "${context:?}"
}

run() {
  have_image "$NODE_IMAGE" && return
  local bin kind_module
  bin=$("$LOCAL/kubernetes/build.sh" out)
  context=$(mktemp -d "$CACHE/context.XXXX")
  clean_up && mkdir "$context"
  trap clean_up EXIT

  say "node image: packages and kind's files"
  kind_module=$(go mod download -json "sigs.k8s.io/kind@$KIND_VERSION" | jq -r .Dir)
  cp -r --no-preserve=mode "$kind_module/images/base/files" "$context/kind-files"
  cp -r "$LOCAL/node-image/files" "$LOCAL/node-image/Dockerfile" "$LOCAL/docker/runc-wrapper" "$context/"
  mkdir "$context/bin"
  cp "$bin"/{kubelet,kubeadm,kubectl} "$context/bin/"
  printf '%s' "$KUBERNETES_VERSION" >"$context/version"
  build_image userpipeline/node:build "$context" --build-arg BASE="$BASE_IMAGE"

  say "node image: the control plane's images"
  local images
  mapfile -t images < <("$LOCAL/node-image/control-plane.sh" "$bin")
  ((${#images[@]} >= 8)) || die "the control plane's images were not built"
  docker run -d --privileged --name "$BUILDER" --entrypoint sleep userpipeline/node:build infinity >/dev/null
  docker exec -d "$BUILDER" containerd
  for _ in $(seq 60); do
    docker exec "$BUILDER" ctr version >/dev/null 2>&1 && break
    sleep 0.5
  done
  docker save "${images[@]}" | docker exec -i "$BUILDER" ctr -n k8s.io images import --snapshotter overlayfs - >"$CACHE/logs/node-import.log"
  docker exec "$BUILDER" sh -c 'kill "$(pidof containerd)"; while pidof containerd >/dev/null; do sleep 0.1; done; rm -rf /run/containerd'

  docker commit "$BUILDER" userpipeline/node:committed >/dev/null
  # commit cannot set the signal at which systemd shuts down, and it keeps `sleep infinity` as the command.
  printf '%s\n' 'FROM userpipeline/node:committed' 'STOPSIGNAL SIGRTMIN+3' \
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' 'CMD []' >"$context/Dockerfile"
  find "$context" -mindepth 1 -maxdepth 1 ! -name Dockerfile -exec rm -rf {} +
  build_image "$NODE_IMAGE" "$context"
  say "node image: saving it in the cache"
  save_image "$NODE_IMAGE"
  docker rmi -f userpipeline/node:committed userpipeline/node:build userpipeline/control-plane:build "${images[@]}" >/dev/null 2>&1 || true
}

step_main "$@"
