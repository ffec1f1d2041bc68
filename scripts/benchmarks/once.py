"""Runs a command once and prints its seconds and peak memory as JSON.

A process of its own, since Linux counts the memory of whoever starts a process towards that process' peak; this one is
small. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Runs what the arguments say, its output thrown away but for standard error, which is passed on."""
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    print(json.dumps({"seconds": seconds, "peak_mib": usage.ru_maxrss / 1024, "status": process.returncode}))


if __name__ == "__main__":
    main()
