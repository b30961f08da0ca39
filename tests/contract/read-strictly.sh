#!/usr/bin/env bash
# Reads YAML files of Kafka, KafkaTopic and KafkaUser resources with Strimzi's own Java model, which is fetched once for each version.
# Fails for each property or value that the model does not have. Usage: read-strictly.sh FILE...
source "$(dirname "${BASH_SOURCE[0]}")/../../local/lib.sh"

HERE=$ROOT/tests/contract
MODEL=$CACHE/strimzi-model/$(key "$HERE/pom.xml" "$HERE/ReadStrictly.java" "$STRIMZI_API_VERSION")

fetch_and_compile() {
  rm -rf "$CACHE/strimzi-model"
  mvn -B -q -f "$HERE/pom.xml" -Dstrimzi.api.version="$STRIMZI_API_VERSION" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$MODEL.new/jars"
  javac -cp "$MODEL.new/jars/*" -d "$MODEL.new/classes" "$HERE/ReadStrictly.java"
  mv "$MODEL.new" "$MODEL"
}

# Two tests may come here at the same time.
exec 9>"$CACHE/strimzi-model.lock"
flock 9
[[ -d $MODEL ]] || quietly strimzi-model fetch_and_compile
exec 9>&-

exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$MODEL/jars/*:$MODEL/classes" ReadStrictly "$@"
