"""What Prefect costs a run: `orca run` beside the plain function, without a server, and with one that is running."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca.runtime import commit, machine, versions

PLAIN = "import sys, orca; orca.adapt(sys.argv[1], store=sys.argv[2])"
COMMAND = "from flows.cli import main; main()"
START = """
import time; t = time.perf_counter()
from flows.servers.temporary import TemporaryServer
s = TemporaryServer(); s.wait(); print(time.perf_counter() - t); s.stop()
"""
MOST_SECONDS, MOST_SHARE = 3.0, 0.02  # overhead asked for: at most 3 s and 2 per cent of the plain run
WAYS = ("plain", "without a server", "with a server")


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """The API's address of an ``orca ui`` on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "ui", "--port", str(port), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PREFECT_HOME": str(home)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"orca ui on port {port} has ended with code {process.wait()}")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def seconds(code: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Wall seconds of a process of its own, imports included, and what it wrote."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with code {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - begun, done.stdout


def measure(config: str, repeats: int) -> dict[str, Any]:
    """Seconds of a whole run, and of one that finds every stage in the store, each way; and of the server's start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    found: dict[str, dict[str, list[float]]] = {what: {way: [] for way in WAYS} for what in ("whole", "reused")}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        alone = {**kept, "PREFECT_HOME": str(root / "alone")}
        seconds(START, [], alone)  # the first start makes the database
        with server(root / "served") as api:
            environments = dict(zip(WAYS, (alone, alone, {**kept, "PREFECT_API_URL": api}), strict=True))
            for repeat in range(repeats):
                starts.append(float(seconds(START, [], alone)[1]))
                for way, environment in environments.items():
                    store = str(root / f"store-{repeat}-{way}")
                    code = PLAIN if way == "plain" else COMMAND
                    given = [config, store] if way == "plain" else ["run", config, "--store", store, "--json"]
                    for what in found:
                        found[what][way].append(seconds(code, given, environment)[0])
    return {"config": config, "repeats": repeats, **found, "server_start": starts}


def table(made: Mapping[str, Any]) -> str:
    """The medians beside those of the plain function, and whether the bound is kept."""
    lines = ["| run | way | median s | least | most | more than plain, s | at most asked for |", "|" + " --- |" * 7]
    for what in ("whole", "reused"):
        plain = statistics.median(made[what]["plain"])
        for way, values in made[what].items():
            median = statistics.median(values)
            bound = MOST_SECONDS + MOST_SHARE * plain
            cells = [what, way, f"{median:.2f}", f"{min(values):.2f}", f"{max(values):.2f}"]
            more = ["", ""] if way == "plain" else [f"{median - plain:.2f}", f"{bound:.2f}"]
            lines.append(f"| {' | '.join(cells + more)} |")
    on = made["machine"]
    start = f"{statistics.median(made['server_start']):.2f} s, part of it beside the command's imports"
    return "\n".join(lines) + (
        f"\n\nEach a process of its own, imports included; `{made['config']}`; {made['repeats']} repeats. Start of the "
        f"temporary server alone: {start}. {on['cpu']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; prefect "
        f"{made['versions']['prefect']}; commit {made['commit'] or 'unknown'}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=str(__doc__))
    parser.add_argument("--config", default="demo", help="a configuration [demo]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(argv)
    made = {"benchmark": "pipeline", **measure(given.config, given.repeats), "machine": machine(),
            "versions": versions(), "commit": commit()}  # fmt: skip
    print(json.dumps(made, indent=2) if given.json else table(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
