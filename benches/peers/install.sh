#!/usr/bin/env bash
# Installs the peers that the benches compare with into the cache, once for each set of versions: a Python environment with
# PySpark and dlt in peers/venv, and Spark's connectors in peers/jars.
source "$(dirname "${BASH_SOURCE[0]}")/../../local/lib.sh"

PEERS=$CACHE/peers
POM=$ROOT/benches/peers/pom.xml
VERSIONS=$(key "$POM" "$PYSPARK_VERSION" "$SPARK_CASSANDRA_CONNECTOR_VERSION" "$POSTGRES_JDBC_VERSION" "$DLT_VERSION")

python_packages() {
  python3 -m venv --clear "$PEERS/venv"
  "$PEERS/venv/bin/pip" install --quiet "pyspark==$PYSPARK_VERSION" "dlt[postgres]==$DLT_VERSION"
}

spark_jars() {
  rm -rf "$PEERS/jars"
  mvn -B -q -f "$POM" -Dspark.version="$PYSPARK_VERSION" -Dconnector.version="$SPARK_CASSANDRA_CONNECTOR_VERSION" \
    -Dpostgresql.version="$POSTGRES_JDBC_VERSION" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PEERS/jars"
}

[[ $(cat "$PEERS/installed" 2>/dev/null) != "$VERSIONS" ]] || exit 0
for program in python3 mvn java; do
  command -v "$program" >/dev/null || die "$program is needed to install the peers of the benches. On Debian: python3-venv and maven."
done
mkdir -p "$PEERS"
rm -f "$PEERS/installed"
say "installing the peers of the benches: PySpark $PYSPARK_VERSION and dlt $DLT_VERSION"
quietly peers-python python_packages
quietly peers-jars spark_jars
echo "$VERSIONS" >"$PEERS/installed"
