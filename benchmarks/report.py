"""The result as a table to read and as JSON to go on with."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import torch
from tabulate import tabulate

from detr_d2.data.files import write_text

from .settings import Settings

_MEBI = 2**20
_UNITS = {
    "pixels_per_10000": "{:.2g} px in 10,000",
    "box_pixels": "boxes {:.0e} px",
    "grey_levels": "image {:.0f} levels",
    "loss": "loss {:.0e}",
    "gradients": "gradients {:.0e}",
    "pq_points": "PQ {:.0e}",
}


def machine(device: str) -> dict:
    """What the numbers were taken on."""
    names = [
        line.partition(":")[2].strip()
        for line in _lines("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def markdown(rows: list[dict], exactness: dict, machine: dict, settings: Settings) -> str:
    """The whole result: a line on the machine, times, phases, and how far results lie apart."""
    parts = [
        _heading(machine, settings),
        tabulate(_times(rows), "keys", tablefmt="github", disable_numparse=True),
    ]
    if phases := _phases(rows):
        parts += [
            "Seconds of the phases (median); the rest holds losses, backward pass and optimiser of "
            "a training step, and post-processing of inference:",
            tabulate(phases, "keys", tablefmt="github", disable_numparse=True),
        ]
    if exactness:
        parts.append("\n".join(f"- {sentence}" for sentence in _sentences(exactness)))
    return "\n\n".join(parts)


def plain_text(rows: list[dict]) -> str:
    """The times and phases of some rows, for a terminal."""
    tables = [tabulate(_times(rows), "keys", tablefmt="simple", disable_numparse=True)]
    if phases := _phases(rows):
        tables.append(tabulate(phases, "keys", tablefmt="simple", disable_numparse=True))
    return "\n\n".join(tables)


def write(
    folder: Path, rows: list[dict], exactness: dict, machine: dict, settings: Settings
) -> None:
    """Write benchmark.json and benchmark.md."""
    content = {
        "machine": machine,
        "settings": {**asdict(settings), "variants": list(map(str, settings.variants))},
        "rows": rows,
        "exactness": exactness,
    }
    texts = {
        "benchmark.json": json.dumps(content, indent=2),
        "benchmark.md": markdown(rows, exactness, machine, settings) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def _heading(machine: dict, settings: Settings) -> str:
    if machine["gpu"]:
        where = machine["gpu"]
    else:
        where = f"{settings.threads} threads of {machine['cpu']} ({machine['cores']} cores)"
    return f"{where}, PyTorch {machine['torch']}, {machine['date']}."


def _times(rows: list[dict]) -> list[dict[str, str]]:
    table = []
    title = None
    for row in rows:
        cells = {"": "" if row["title"] == title else row["title"], "variant": row["variant"]}
        title = row["title"]
        unit, digits = (1, "{:.2f} s") if row["median"] >= 1 else (1000, "{:.1f} ms")
        cells["median"] = digits.format(row["median"] * unit)
        ends = [digits.split(" ")[0].format(row[k] * unit) for k in _ENDS]
        cells["min, quartiles"] = f"{ends[0]}, {ends[1]} to {ends[2]}"
        cells["runs"] = str(row["runs"])
        cells["speed"] = f"x{row['speed_up']:.1f}" if "speed_up" in row else ""
        cells.update(_service(row))
        cells["peak MiB"] = _scaled(row, "peak_bytes", _MEBI)
        cells["saved MiB"] = _scaled(row, "saved_bytes", _MEBI)
        cells["GMAC"] = _scaled(row, "macs", 1e9, 1)
        cells["M parameters"] = _scaled(row, "parameters", 1e6, 1)
        apart = row.get("apart", {})
        cells["from the reference"] = ", ".join(_UNITS[k].format(v) for k, v in apart.items())
        table.append(cells)
    return table


def _service(row: dict) -> dict[str, str]:
    """What a runtime in a process of its own takes."""
    if "start_seconds" not in row:
        return {}
    start, of_start = row["start_seconds"], row["start_cpu_seconds"]
    return {
        "CPU time": f"{row['cpu_median']:.2f} s",
        "start": f"{start:.1f} s",
        "CPU time of it": f"{of_start:.1f} s",
        "resident MiB": _scaled(row, "resident_bytes", _MEBI),
        "file MB": _scaled(row, "file_bytes", 1e6),
    }


_ENDS = ("min", "lower_quartile", "upper_quartile")


def _scaled(row: dict, key: str, unit: float, digits: int = 0) -> str:
    return f"{row[key] / unit:,.{digits}f}" if key in row else ""


def _phases(rows: list[dict]) -> list[dict[str, str]]:
    with_phases = [row for row in rows if "phases" in row]
    names = list(dict.fromkeys(name for row in with_phases for name in row["phases"]))
    names.sort(key=lambda name: name == "the rest")
    table = []
    for row in with_phases:
        seconds = {n: f"{row['phases'][n]:.3f}" if n in row["phases"] else "" for n in names}
        table.append({"": row["title"], "variant": row["variant"], **seconds})
    return table


def _sentences(exactness: dict) -> Iterable[str]:
    yield (
        "In float64, on a reduced model, the fast path and the reference differ by at most "
        f"{exactness['float64_logits']:.0e} in class logits, {exactness['float64_masks']:.0e} in "
        f"mask logits, {exactness['float64_losses']:.0e} in losses, "
        f"{exactness['float64_gradients']:.0e} in elements of gradients, and "
        f"{exactness['float64_pixels']:.2g} of 10,000 pixels of panoptic maps."
    )
    for name, pixels in exactness.items():
        if name.startswith("shapes_"):
            yield (
                f"With the trained model of the shapes, `{name.removeprefix('shapes_')}` gives "
                f"{pixels:.2g} of 10,000 pixels to another segment than the reference in float32."
            )
