#!/usr/bin/env bash
# Fetches what goes into a service's image and is no Debian package, into DIR. Usage: jars.sh SERVICE DIR
source "$(dirname "$0")/../lib.sh"

service=$1 out=$2
mkdir -p "$out"

maven_jars() {
  mvn -B -q -f "$LOCAL/images/$service/pom.xml" -Dservice.version="$1" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/lib"
}

case $service in
  kafka) maven_jars "$KAFKA_VERSION" ;;
  cassandra)
    maven_jars "$CASSANDRA_VERSION"
    # For the image's Python, not this machine's.
    pip3 install -q --target "$out/cqlsh" --python-version 3.11 --implementation cp --only-binary :all: "cqlsh==$CQLSH_VERSION"
    ;;
  schema-registry)
    mvn -B -q dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$APICURIO_VERSION:tar.gz:all" \
      -DoutputDirectory="$out" -Dmdep.useBaseVersion=true
    mkdir -p "$out/app"
    tar -C "$out/app" -xzf "$out"/*.tar.gz
    rm "$out"/*.tar.gz
    ;;
esac
