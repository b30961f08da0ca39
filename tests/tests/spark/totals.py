"""Runs the block of Python in docs/how-to/from-spark.md on items, and prints the totals as lines of JSON.

Usage: totals.py PAGE ITEMS, with a file of one JSON item in each line.
"""

import json
import re
import sys

from pyspark.sql import SparkSession


def main() -> None:
    page, items = sys.argv[1:]
    with open(page, encoding="utf-8") as file:
        block = re.search(r"```python\n(.*?)```", file.read(), re.DOTALL)
    if block is None:
        sys.exit(f"{page} has no block of Python")
    names: dict[str, object] = {}
    exec(compile(block.group(1), page, "exec"), names)  # noqa: S102: it is the documentation.
    settings = {
        "spark.master": "local[2]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
    }
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for row in names["totals"](spark.read.json(items)).collect():
        total = row.asDict(recursive=True)
        window = total.pop("window")
        print(json.dumps(total | {"window_start": str(window["start"]), "window_end": str(window["end"])}, default=str))


main()
