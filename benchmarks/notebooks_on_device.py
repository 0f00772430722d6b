"""Runs every solved notebook under nbval on this machine's best device and prints a table: the record of a GPU run.

    python benchmarks/notebooks_on_device.py > benchmarks/notebooks_on_gpu.md

The compared outputs are those of the CPU: a pass says that the GPU gives the same numbers.
"""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {device}, {os.cpu_count()} cores\n")
    print("| notebook | cells passed | failed | seconds |\n| --- | --- | --- | --- |")
    worst = 0
    for notebook in sorted((ROOT / "solutions").glob("*.ipynb")):
        began = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", str(notebook)], capture_output=True, text=True, cwd=ROOT
        )
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", run.stdout)}
        print(
            f"| {notebook.stem} | {counts.get('passed', 0)} | {counts.get('failed', 0) + counts.get('error', 0)} "
            f"| {time.perf_counter() - began:.0f} |",
            flush=True,
        )
        if run.returncode:
            print(run.stdout[-6000:], file=sys.stderr)
        worst = max(worst, run.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
