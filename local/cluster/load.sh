#!/usr/bin/env bash
# Loads images into the node, those it lacks, all at once. Usage: load.sh IMAGE...
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

present=$(docker exec "$NODE" ctr -n k8s.io images ls -q)
missing=()
for image; do
  grep -qxF "docker.io/$image" <<<"$present" || missing+=("$image")
done
((${#missing[@]})) || exit 0

say "loading ${#missing[@]} images into the cluster"
for image in "${missing[@]}"; do
  have_image "$image" || die "image $image is missing; run make up"
done
# One call: layers that images share are sent once.
quietly kind-load kind load docker-image --name "$CLUSTER" "${missing[@]}"
