"""What the check of an exported file has found, for people."""

from tabulate import tabulate

from .check import Compared, Differences

_HEADS = ("picture", "instances", "boxes, of its sides", "scores", "segments", "pixels", "1 - PQ")


def table_of(compared: list[Compared]) -> str:
    """In Markdown; below it, what float64 says of pictures where more differs than is allowed."""
    rows = [_row(c) for c in compared]
    allowed = compared[0].allowed
    pixels = f"1 of {allowed.pixels:,}" if allowed.pixels else "-"
    limits = (*map(_limit, (allowed.boxes, allowed.scores)), "", pixels)
    rows.append(("allowed", "", *limits, _limit(allowed.disagreement), ""))
    text = tabulate(rows, (*_HEADS, "agrees"), tablefmt="github", disable_numparse=True)
    asked = [c for c in compared if c.exact is not None]
    return text if not asked else f"{text}\n\n{_beside_float64(asked)}"


def _row(compared: Compared) -> tuple:
    agrees = "yes" if compared.within else "rounding" if compared.rounding else "NO"
    boxes, scores, *of_map = _written(compared.found)
    if compared.segments is None:
        of_map = ["-", "-"]
    segments = "-" if compared.segments is None else compared.segments
    return (_size(compared), compared.number, boxes, scores, segments, *of_map, agrees)


def _beside_float64(compared: list[Compared]) -> str:
    rows = []
    for c in compared:
        assert c.exact is not None, "float64 was not asked"
        for what, different in zip(("the file", "the model in float32"), c.exact):
            rows.append((f"{_size(c)}, {what}", *_written(different)))
    heads = ("beside the model in float64", *_HEADS[2:4], *_HEADS[5:])
    text = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    return (
        "More differs than is allowed. It is rounding where the file is not twice as far from the\n"
        "model in float64 as the model in float32 is. Where both are far, the weights leave it to\n"
        f"rounding what is found, and the map has not been put to the test.\n\n{text}"
    )


def _size(compared: Compared) -> str:
    height, width = compared.size
    return f"{width} x {height}"


def _written(d: Differences) -> tuple[str, ...]:
    return f"{d.boxes:.1e}", f"{d.scores:.1e}", str(d.pixels), f"{d.disagreement:.1e}"


def _limit(value: float) -> str:
    return "-" if value == float("inf") else f"{value:.0e}"
