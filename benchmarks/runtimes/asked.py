"""A runtime's process, as the benchmark asks it."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PROCESS = Path(__file__).with_name("process.py")
REPOSITORY = Path(__file__).resolve().parents[2]


class RuntimeProcess:
    """One runtime that has started and given its first result.

    Attributes:
        start_seconds: from the start of the process to that result, by the wall.
        start_cpu_seconds: of the processor, the same.
    """

    def __init__(self, name: str, folder: Path, threads: int):
        self.name, self.folder = name, folder
        self.cpu_seconds: list[float] = []  # of the processor, of each run
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(PROCESS), name, str(folder), str(threads)],
            env={**os.environ, "PYTHONPATH": _search_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer = self._receive()
        self.start_seconds = time.perf_counter() - start
        self.start_cpu_seconds = self._answer["cpu_seconds"]

    def run(self) -> None:
        """One run, until it is done."""
        before = self._answer["cpu_seconds"]
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._answer = self._receive()
        self.cpu_seconds.append(self._answer["cpu_seconds"] - before)

    def result(self) -> dict:
        """The first: boxes (n, 4), and `panoptic_seg` where there is one."""
        return pickle.loads((self.folder / f"{self.name}.pickle").read_bytes())

    def costs(self, file: Path) -> dict[str, float]:
        """What it takes besides time, for a row of the table; `file` is what it has read."""
        return {
            "cpu_median": float(np.median(self.cpu_seconds)),
            "start_seconds": self.start_seconds,
            "start_cpu_seconds": self.start_cpu_seconds,
            "resident_bytes": self._answer["peak_bytes"],
            "file_bytes": file.stat().st_size,
        }

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate()

    def _receive(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} has ended, see above")
        return json.loads(line)


def _search_path() -> str:
    """$PYTHONPATH, with the repository: the process lies in a folder of its own."""
    return os.pathsep.join(filter(None, (str(REPOSITORY), os.getenv("PYTHONPATH"))))
