"""Measure time, memory and agreement of DETR's variants, against a plain reference.

Without options it is meant to take about ten minutes on two CPU cores. docs/benchmark.md says how
it measures, and how to read what it writes: OUTPUT/benchmark.md and OUTPUT/benchmark.json.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from detr_d2.engine.tools import positive_int, run_tool
from detr_d2.requirements import require

from . import (
    FURTHER_WORKS,
    WORKS,
    Settings,
    Variant,
    check_exactness,
    default_variants,
    machine,
    markdown,
    measure,
    measure_alone,
    plain_text,
    quick,
    works_of,
    write,
)

CONFIG = "configs/COCO-PanopticSegmentation/panoptic_detr_R_50_joint.yaml"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--config-file", default=CONFIG, help=f"a PanopticDETR ({CONFIG})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(cpu)")
    parser.add_argument("--threads", type=positive_int, default=2, help="of PyTorch on the CPU (2)")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="MODEL[+PRECISION][+compile]",
        help="models reference, fast, proposals, panoptic-fpn; precisions tf32, bf16, fp16 "
        "(reference fast fast+bf16 proposals panoptic-fpn; on cuda all that there are)",
    )
    parser.add_argument(
        "--works",
        nargs="+",
        choices=[*WORKS, *FURTHER_WORKS],
        default=list(WORKS),
        help=f"(all but {' and '.join(FURTHER_WORKS)})",
    )
    parser.add_argument(
        "--batch-sizes", nargs="+", type=positive_int, help="of inference (1; on cuda 1 and 8)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="for each work, all its variants together; at least three rounds are made (30)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a reduced model on small images, to see that everything runs; its times say nothing",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    require("panopticapi", "The benchmark")  # the plain reference merges and reads PNGs with it
    variants = args.variants and tuple(map(Variant.parse, args.variants))
    chosen = {
        "config_file": args.config_file,
        "device": args.device,
        "threads": args.threads,
        "variants": variants or default_variants(args.device),
        "works": tuple(args.works),
        "batch_sizes": tuple(args.batch_sizes or ((1,) if args.device == "cpu" else (1, 8))),
    }
    settings = quick(**chosen) if args.quick else Settings(**chosen, seconds=args.seconds)

    rows: list[dict] = []
    where = machine(args.device)
    # Of the ordinary code beside its reference; that of runtimes is in their rows.
    exactness = check_exactness(settings) if set(args.works) & set(WORKS) else {}
    measured = measure if args.quick else measure_alone
    for make_work in tqdm(works_of(settings), desc="Measuring"):
        found = measured(make_work)
        tqdm.write(plain_text(found) + "\n")
        rows += found
    write(args.output, rows, exactness, where, settings)
    print(markdown(rows, exactness, where, settings))
    print(f"\nWritten to {args.output}/benchmark.md and benchmark.json.")


if __name__ == "__main__":
    run_tool(main)
