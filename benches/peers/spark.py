"""Spark Structured Streaming from a Kafka topic of JSON to Cassandra and PostgreSQL: the peer of a stream worker.

Usage: spark.py FILE, with the JSON document
{"bootstrapServers", "topic", "offsetsPerTrigger", "mode": "Backlog" | "Live", "records": N,
 "cassandra": {"host", "port", "username", "password", "keyspace", "table"},
 "postgres": null | {"url", "user", "password", "table"}}.

Backlog reads from the earliest offset, and ends when N records are stored. Live reads what is produced from now on, and
ends when stdin is closed. The tables must exist. PostgreSQL's receives plain appends.

The first line on stdout is {"ready": true}: from then on, Live misses no record. Each micro-batch then prints, once it
is stored, {"batch", "records", "at": Unix time, "cpu": seconds so far, "peak": bytes}. The last two are of Python and
the JVM together. The JVM compiles during the first batches: leave five batches of 50,000 records out of a measurement.
"""

import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, from_json
from pyspark.sql.streaming.query import StreamingQuery

from processes import cpu_seconds, memory_bytes, process_tree

RECORD = (
    "id string, revision bigint, username string, email string, given_name string, family_name string, city string, "
    "country string, postcode string, age bigint, score double, registered timestamp, active boolean, note string"
)
# A task for each core, instead of one for each partition.
TASKS = 2
# Beside the virtual environment: see install.sh.
JARS = Path(sys.prefix).parent / "jars"


SETTINGS = {
    "spark.master": f"local[{TASKS}]",
    "spark.jars": ",".join(str(jar) for jar in sorted(JARS.glob("*.jar"))),
    "spark.driver.memory": "1g",
    # It takes less CPU time than G1, the default.
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": str(TASKS),
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    # A micro-batch is cached for seconds.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    "spark.cassandra.output.concurrent.writes": "64",
    "spark.cassandra.output.batch.size.rows": "1",
    # With batches of one row there is nothing to group.
    "spark.cassandra.output.batch.grouping.key": "none",
    "spark.cassandra.output.metrics": "false",
}


def spark_session(cassandra: dict[str, Any], scratch: str) -> SparkSession:
    builder = SparkSession.builder.appName("peer").config("spark.local.dir", scratch)
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    session.conf.set("spark.cassandra.connection.host", cassandra["host"])
    session.conf.set("spark.cassandra.connection.port", cassandra["port"])
    # Settings of the builder are arguments of the JVM, which every user of the machine can read.
    session.conf.set("spark.cassandra.auth.username", cassandra["username"])
    session.conf.set("spark.cassandra.auth.password", cassandra["password"])
    return session


def records_of(session: SparkSession, config: dict[str, Any]) -> DataFrame:
    messages = session.readStream.format("kafka").options(
        **{
            "kafka.bootstrap.servers": config["bootstrapServers"],
            "subscribe": config["topic"],
            "startingOffsets": "earliest" if config["mode"] == "Backlog" else "latest",
            "maxOffsetsPerTrigger": str(config["offsetsPerTrigger"]),
        }
    )
    record = from_json(col("value").cast("string"), RECORD)
    return messages.load().select(record.alias("record")).select("record.*").coalesce(TASKS)


class Sinks:
    """Stores each micro-batch, and reports it."""

    def __init__(self, config: dict[str, Any], checkpoint: Path, output: TextIO) -> None:
        self.cassandra: dict[str, Any] = config["cassandra"]
        self.postgres: dict[str, Any] | None = config["postgres"]
        self.checkpoint = checkpoint
        self.output = output
        # This one and the JVM, which both start no others.
        self.processes = process_tree()
        self.missing: float = config["records"] if config["mode"] == "Backlog" else float("inf")
        self.first = threading.Event()
        self.complete = threading.Event()
        self.storing = threading.Lock()
        self.writers = ThreadPoolExecutor(2)

    def store(self, batch: DataFrame, number: int) -> None:
        with self.storing:
            if self.postgres is None:
                self.to_cassandra(batch)
            else:
                self.to_both(batch)
            self.report(number)
        self.first.set()

    def to_both(self, batch: DataFrame) -> None:
        # Kafka is read and JSON is parsed once.
        batch.persist(StorageLevel.MEMORY_ONLY)
        writes = [self.writers.submit(write, batch) for write in (self.to_cassandra, self.to_postgres)]
        for write in writes:
            write.result()
        batch.unpersist()

    def to_cassandra(self, batch: DataFrame) -> None:
        target = {"keyspace": self.cassandra["keyspace"], "table": self.cassandra["table"]}
        batch.write.format("org.apache.spark.sql.cassandra").mode("append").options(**target).save()

    def to_postgres(self, batch: DataFrame) -> None:
        postgres = self.postgres or {}
        target = {
            "driver": "org.postgresql.Driver",
            "url": postgres["url"],
            "user": postgres["user"],
            "password": postgres["password"],
            "dbtable": postgres["table"],
            "batchsize": "10000",
            "reWriteBatchedInserts": "true",
            # Text is sent without a type, so that PostgreSQL takes it for a uuid.
            "stringtype": "unspecified",
        }
        batch.write.format("jdbc").mode("append").options(**target).save()

    def report(self, number: int) -> None:
        line = {
            "batch": number,
            "records": end_of(self.checkpoint, number) - end_of(self.checkpoint, number - 1),
            "at": time.time(),
            "cpu": cpu_seconds(self.processes),
            "peak": memory_bytes(self.processes, "status", "VmHWM"),
        }
        # The first batch of Live has none.
        if line["records"]:
            print_line(self.output, line)
        self.missing -= line["records"]
        if self.missing <= 0:
            self.complete.set()


def start_offsets(checkpoint: Path) -> Path:
    return checkpoint / "sources/0/0"


def end_of(checkpoint: Path, batch: int) -> int:
    """The sum of the offsets at which a batch ends. Spark writes them to its checkpoint before it runs the batch."""
    file = checkpoint / "offsets" / str(batch) if batch >= 0 else start_offsets(checkpoint)
    # Lines of version and settings come first.
    offsets: dict[str, dict[str, int]] = json.loads(file.read_text().splitlines()[-1])
    return sum(sum(partitions.values()) for partitions in offsets.values())


def print_line(output: TextIO, line: dict[str, Any]) -> None:
    print(json.dumps(line), file=output, flush=True)


def wait_for_start(query: StreamingQuery, sinks: Sinks, mode: str) -> None:
    """Spark begins with an empty batch where there is nothing to read: Live is ready once that is stored."""
    started = sinks.first.is_set if mode == "Live" else start_offsets(sinks.checkpoint).exists
    while query.isActive and not started():
        time.sleep(0.05)


def complete_with_stdin(sinks: Sinks) -> None:
    sys.stdin.read()
    sinks.complete.set()


def wait_for_end(query: StreamingQuery, sinks: Sinks, mode: str) -> None:
    if mode == "Live":
        threading.Thread(target=complete_with_stdin, args=(sinks,), daemon=True).start()
    while query.isActive and not sinks.complete.wait(0.5):
        pass
    if failure := query.exception():
        raise failure
    # The batch in flight ends, and is reported.
    with sinks.storing:
        pass
    query.stop()


def main(file: str, output: TextIO) -> None:
    config = json.loads(Path(file).read_text())
    with tempfile.TemporaryDirectory(prefix="spark-") as scratch:
        session = spark_session(config["cassandra"], scratch)
        checkpoint = Path(scratch) / "checkpoint"
        sinks = Sinks(config, checkpoint, output)
        stream = records_of(session, config).writeStream.foreachBatch(sinks.store)
        query = stream.option("checkpointLocation", checkpoint.as_uri()).start()
        wait_for_start(query, sinks, config["mode"])
        print_line(output, {"ready": True})
        wait_for_end(query, sinks, config["mode"])
        session.stop()


if __name__ == "__main__":
    # What the JVM prints goes to stderr: stdout has our lines only.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1], lines)
