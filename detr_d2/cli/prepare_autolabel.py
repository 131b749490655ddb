"""The options of `prepare autolabel`, and what they ask for."""

import argparse
from pathlib import Path
from typing import Any

from .. import labelling
from ..classes import first_dataset
from ..data import preparation
from ..data.files import write_text
from ..engine import setup_cfg
from ..engine.defaults import number_classes_like_weights
from ..engine.tools import add_overrides, overrides_of, positive_int
from ..errors import UserError

DESCRIPTION = (
    "Annotation that is not complete: every segment of it stays as it is, and a model's segments "
    "fill the rest. Behind the options stand keys of the model's configuration, such as "
    "MODEL.WEIGHTS model.pth. docs/capstone.md goes on to a trained model."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `autolabel` has beside the other formats."""
    annotated = parser.add_mutually_exclusive_group(required=True)
    annotated.add_argument("--instances-json", type=Path, help="what was annotated, as `instances`")
    annotated.add_argument("--panoptic-json", type=Path, help="or as `panoptic`")
    parser.add_argument("--panoptic-root", type=Path, help="folder of its PNGs")
    parser.add_argument("--config-file", required=True, help="of the model: a YAML of configs/")
    parser.add_argument(
        "--take",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="classes of the model to take; followed by another option",
    )
    parser.add_argument("--take-stuff", action="store_true", help="take all of its stuff")
    parser.add_argument("--take-things", action="store_true", help="take all of its things")
    parser.add_argument(
        "--propose",
        type=Path,
        metavar="YAML",
        help="write and show a first file for --classes, and label nothing",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="YAML",
        help="which class of yours each of the model's becomes (default: that of the same name, or "
        "else a new one)",
    )
    parser.add_argument(
        "--least-score",
        type=float,
        default=0.0,
        help="of a segment of the model that is taken; a class of --classes may have its own "
        "(default: 0, all that the model gives)",
    )
    parser.add_argument(
        "--most-lost",
        type=float,
        default=0.5,
        help="a segment of the model that loses more than this share of its pixels to what was "
        "annotated is left out (default: %(default)s)",
    )
    parser.add_argument(
        "--second",
        type=Path,
        metavar="FOLDER",
        help="OUTPUT/predictions of another model for the same images: where the two disagree is "
        "kept, and the page that checks labels can begin there",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=4,
        help="images that are run together (default: %(default)s)",
    )
    add_overrides(parser, "the model's YAML")


def annotated_source(args, kinds: preparation.Kinds) -> preparation.Source:
    """What a person has annotated."""
    if args.annotated_as_stored:
        raise UserError(
            "A model sees photographs upright: convert the annotations first, with "
            "--annotated-as-stored, and give autolabel the --panoptic-json that it writes."
        )
    if args.instances_json is not None:
        return preparation.from_instances(
            args.image_root, args.instances_json, kinds=kinds, ignore_crowd=args.ignore_iscrowd
        )
    if args.panoptic_root is None:
        raise UserError("--panoptic-json needs --panoptic-root, the folder of its PNGs: give both.")
    return preparation.from_panoptic(
        args.image_root,
        args.panoptic_root,
        args.panoptic_json,
        kinds=kinds,
        ignore_crowd=args.ignore_iscrowd,
    )


def label(args, splits: dict[str, preparation.Source]) -> dict[str, preparation.Source]:
    """The sources with the model's segments around a person's; none where a file is proposed."""
    cfg = setup_cfg(args.config_file, overrides_of(args))
    labelling.check_model(cfg)
    number_classes_like_weights(cfg)
    classes = labelling.model_classes(first_dataset(cfg))
    categories = next(iter(splits.values())).categories
    asked = args.take or args.take_stuff or args.take_things
    chosen = labelling.choose(classes, args.take, args.take_stuff, args.take_things)
    if args.propose:
        _propose(args.propose, labelling.proposal(chosen if asked else classes, categories))
        return {}
    if not (asked or args.classes):
        raise UserError(
            "Nothing says which classes of the model to take: give --take-stuff, --take-things, "
            "--take CLASS, or --classes."
        )
    content, where = _classes(args, labelling.proposal(chosen, categories))
    if asked:
        content = {c.name: content[c.name] for c in chosen if c.name in content}
    class_map = labelling.map_classes(content, where, classes, categories, args.least_score)
    filling = labelling.Filling(class_map, args.most_lost)
    second = args.second and labelling.SecondOpinion.read(args.second, classes, class_map)
    pictures = [picture for part in splits.values() for picture in part.pictures]
    bare = sum(not picture.content for picture in pictures)
    if bare:
        print(f"{bare} of {len(pictures)} images have no annotation: all of them is the model's.")
    labels = labelling.ModelLabels(args.output / "predictions")
    labels.begin(cfg, args.image_root)
    errors = labels.predict(cfg, args.image_root, pictures, args.batch_size, args.workers)
    print(
        f"{labels.folder} keeps what the model found: other classes or thresholds take no further "
        "run of it."
    )
    page = args.output / "check.html"
    labelling.write_check_page(page)
    print(f"A page on which a person checks the labels: {page}")
    return {name: labels.around(part, filling, errors, second) for name, part in splits.items()}


def _classes(args, proposed: str) -> tuple[dict[str, Any], str]:
    """What the classes become, and where that is from; without a file, the proposal is shown."""
    if args.classes is not None:
        return labelling.read_class_file(args.classes), str(args.classes)
    print(f"{proposed}\nThese classes are taken; --propose and --classes change that.\n")
    return labelling.parse_classes(proposed, "the proposal"), "the proposal"


def _propose(path: Path, text: str) -> None:
    if path.exists():
        raise UserError(f"{path} exists already: remove it, or give --propose another name.")
    write_text(path, text)
    print(f"{text}\nLook it over, and give it as --classes: {path}")
