"""A serving process of the demo's home (run `make demo` first): time from its start to its first answer, and its memory beside another."""

from __future__ import annotations

import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

from twofold.runtime.supervisor import environment, listening_socket, replica_command
from twofold.settings import Settings

HOME = Path(__file__).resolve().parent.parent / "build" / "demo"
REQUEST = b'{"flight_id": "mine", "origin": "JFK", "dest": "SFO", "carrier": "UA", "tailnum": "N510UA", "distance": 2586}'


def started(settings: Settings) -> tuple[subprocess.Popen[bytes], float]:
    """A replica that has answered, and the seconds until it did."""
    with listening_socket("127.0.0.1", 0) as listener:
        begun = time.perf_counter()
        process = subprocess.Popen(replica_command(settings, listener), pass_fds=(listener.fileno(),), env=environment())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/predict/late?deadline_ms=60000"
        urllib.request.urlopen(url, REQUEST, timeout=60).read()
        return process, time.perf_counter() - begun


def pss_mb(process: subprocess.Popen[bytes]) -> float:
    """Proportional set size: shared pages count by their share."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def main() -> None:
    """Five starts one after another, then two replicas side by side."""
    if not HOME.exists():
        print("no home of the demo: run `make demo` first")
        return
    settings = Settings(home=HOME, clock="replay")
    seconds = []
    for _ in range(5):
        process, taken = started(settings)
        seconds.append(taken)
        process.terminate()
        process.wait()
    pair = [started(settings)[0] for _ in range(2)]
    print(f"start to first answer: {statistics.median(seconds):.2f} s (median of 5; {min(seconds):.2f} to {max(seconds):.2f})")
    print("memory of each of two replicas (PSS): " + ", ".join(f"{pss_mb(process):.0f} MB" for process in pair))
    for process in pair:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
