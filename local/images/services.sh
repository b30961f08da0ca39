#!/usr/bin/env bash
# Images of Kafka, Cassandra, PostgreSQL, the schema registry and the proxy in front of it, built from the recipes beside this script.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

JAVA_IMAGE=userpipeline/java:$(key "$BASE_IMAGE $JAVA_PACKAGE" "$LOCAL/images/java")
# One script fetches for three services, so its text is part of each key; a version only of its own.
fetched() { key "$1" "$LOCAL/images/jars.sh" "$LOCAL/images/$2"; }
image_of() {
  case $1 in
    kafka) echo "userpipeline/kafka:$(fetched "$JAVA_IMAGE $KAFKA_VERSION" kafka)" ;;
    cassandra) echo "userpipeline/cassandra:$(fetched "$JAVA_IMAGE $CASSANDRA_VERSION $CQLSH_VERSION" cassandra)" ;;
    schema-registry) echo "userpipeline/schema-registry:$(fetched "$JAVA_IMAGE $APICURIO_VERSION" schema-registry)" ;;
    postgres) echo "userpipeline/postgres:$(key "$BASE_IMAGE $POSTGRES_MAJOR" "$LOCAL/images/postgres")" ;;
    tls-proxy) echo "userpipeline/tls-proxy:$(key "$BASE_IMAGE" "$LOCAL/images/tls-proxy")" ;;
  esac
}
SERVICES=(kafka cassandra schema-registry postgres tls-proxy)
# Those in Java come from Maven; the others are Debian packages.
is_java() { [[ $1 == kafka || $1 == cassandra || $1 == schema-registry ]]; }

plan() {
  local service seconds=0 list=()
  for service in "${SERVICES[@]}"; do
    image_saved "$(image_of "$service")" && continue
    list+=("$service")
    if is_java "$service"; then seconds=$((seconds + 25)); else seconds=$((seconds + 15)); fi
  done
  ((seconds == 0)) || echo "$seconds images of ${list[*]}"
}

build() {
  local service=$1 image dir="$LOCAL/images/$1" jars=()
  image=$(image_of "$service")
  have_image "$image" && return
  say "building the image of $service"
  have_image "$BASE_IMAGE" || die "the base image is missing; run make up"
  if is_java "$service"; then
    have_image "$JAVA_IMAGE" || {
      build_image "$JAVA_IMAGE" "$LOCAL/images/java" --build-arg BASE="$BASE_IMAGE" --build-arg JAVA_PACKAGE="$JAVA_PACKAGE"
    }
    rm -rf "$CACHE/jars/$service"
    quietly "jars-$service" "$LOCAL/images/jars.sh" "$service" "$CACHE/jars/$service"
    jars=("$CACHE/jars/$service"/*)
  fi
  # The recipe and what was fetched for it make one context.
  local context
  context=$(mktemp -d "$CACHE/context.XXXX")
  cp -a "$dir/." "$context/"
  ((${#jars[@]} == 0)) || mv "${jars[@]}" "$context/"
  build_image "$image" "$context" --build-arg JAVA_BASE="$JAVA_IMAGE" --build-arg BASE="$BASE_IMAGE" \
    --build-arg POSTGRES_MAJOR="$POSTGRES_MAJOR"
  rm -rf "$context" "$CACHE/jars/$service"
  save_image "$image"
}

run() {
  local service
  for service in "${SERVICES[@]}"; do build "$service"; done
}

# For the manifests: NAME=IMAGE, a line each.
[[ ${1:-} == list ]] && {
  for service in "${SERVICES[@]}"; do echo "$service=$(image_of "$service")"; done
  exit
}
step_main "$@"
