"""CPU time and memory of this process and of those that it started, from /proc."""

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_tree() -> list[int]:
    """This process and its living descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := stat_fields(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    tree = [os.getpid()]
    for process in tree:
        tree.extend(children.get(process, []))
    return tree


def stat_fields(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, …; none if the process has ended."""
    try:
        # The name, in parentheses, may have spaces.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(tree: list[int]) -> float:
    """User and system time of these processes so far."""
    return sum(int(ticks) for process in tree for ticks in stat_fields(process)[11:13]) / TICKS_PER_SECOND


def memory_bytes(tree: list[int], file: str, entry: str) -> int:
    """The sum of an entry such as `VmHWM` of the file `status`, which is in kB."""
    return sum(entry_bytes(process, file, entry) for process in tree)


def entry_bytes(process: int, file: str, entry: str) -> int:
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{entry}:")]
    return int(values[0]) * 1024 if values else 0
