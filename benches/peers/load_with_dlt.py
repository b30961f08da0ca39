"""Pages of the stand-in source, loaded into PostgreSQL by dlt: the peer of ingest-job.

Usage: load_with_dlt.py FILE, with the JSON document
{"url", "pages", "pageSize", "seed", "dataset", "workingFolder", "mode": "Append" | "Upsert",
 "postgres": {"host", "port", "database", "username", "password", "sslmode", "sslrootcert": null | path}}.

dlt creates the schema `dataset`, and in it the table `users` with a column for each member of a user. Append, the
default, is the fastest, and stores a user again in each run. Upsert loads into the schema `DATASET_staging` and merges
from there by the user's id. Like ingest-job, it stores a user once.

Prints {"records", "seconds", "cpu": seconds, "peak": bytes}: from the first request to the last COMMIT, of this process
and of those that dlt starts. The time to start Python and to import dlt is left out.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

# dlt reads them when it is imported. A worker for each of two cores, and files that give both of them work.
os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "EXTRACT__WORKERS": "2",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "2",
    "DATA_WRITER__FILE_MAX_ITEMS": "10000",
    # Each file is read again at once, on this machine.
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
}

import dlt  # noqa: E402
from dlt.common.json import json as fast_json  # noqa: E402
from dlt.destinations import postgres  # noqa: E402
from dlt.extract import DltResource  # noqa: E402
from dlt.sources.helpers import requests  # noqa: E402

from processes import memory_bytes, process_tree  # noqa: E402

DISPOSITIONS: dict[str, Any] = {
    "Append": "append",
    "Upsert": {"disposition": "merge", "strategy": "upsert"},
}
# Seconds between two looks at the memory.
POLL = 0.2


def users(config: dict[str, Any]) -> DltResource:
    """The pages of the source, two at a time."""

    @dlt.resource
    def page_numbers() -> Iterator[int]:
        yield from range(1, config["pages"] + 1)

    @dlt.transformer(
        data_from=page_numbers,
        name="users",
        write_disposition=DISPOSITIONS[config.get("mode", "Append")],
        primary_key="login__uuid",
        # A number in most countries: each worker would infer a type of its own from the users it sees.
        columns={"location__postcode": {"data_type": "text"}},
        parallelized=True,
    )
    def page(number: int) -> list[dict[str, Any]]:
        query = {"results": config["pageSize"], "page": number, "seed": config["seed"]}
        answer = requests.get(config["url"], params=query)
        # `answer.json()` uses a slower parser.
        results: list[dict[str, Any]] = fast_json.loadb(answer.content)["results"]
        return results

    return page


def pipeline(config: dict[str, Any]) -> dlt.Pipeline:
    server = dict(config["postgres"])
    tls = {name: server.pop(name) for name in ("sslmode", "sslrootcert")}
    credentials = server | {"query": {name: value for name, value in tls.items() if value}}
    return dlt.pipeline(
        "peer",
        pipelines_dir=config["workingFolder"],
        destination=postgres(credentials=credentials),
        dataset_name=config["dataset"],
    )


class PeakMemory:
    """The most that this process and its children have used at a time; what they share counts once."""

    def __init__(self) -> None:
        self.bytes = 0
        self.ended = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while not self.ended.wait(POLL):
            self.bytes = max(self.bytes, memory_bytes(process_tree(), "smaps_rollup", "Pss"))


def cpu_of_ended_and_own() -> float:
    """Normalisers have ended when this is asked for."""
    usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def stored_users(loader: dlt.Pipeline) -> int:
    with loader.sql_client() as client:
        rows = client.execute_sql("SELECT count(*) FROM users")
        return int(rows[0][0]) if rows else 0


def main(file: str) -> None:
    config = json.loads(Path(file).read_text())
    loader = pipeline(config)
    memory, started, cpu = PeakMemory(), time.monotonic(), cpu_of_ended_and_own()
    # COPY. By default dlt sends INSERTs, which are slower and take much of PostgreSQL's memory.
    loader.run(users(config), loader_file_format="csv").raise_on_failed_jobs()
    seconds, cpu = time.monotonic() - started, cpu_of_ended_and_own() - cpu
    memory.ended.set()
    print(json.dumps({"records": stored_users(loader), "seconds": seconds, "cpu": cpu, "peak": memory.bytes}))


if __name__ == "__main__":
    main(sys.argv[1])
