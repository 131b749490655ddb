"""Convert a dataset to COCO's panoptic format.

Images stay where they are. OUTPUT gets panoptic_NAME.json and its PNGs in panoptic_NAME/, both
complete or not at all, and then a picture. docs/own_data.md goes on to a trained model.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from ..data import preparation
from ..data.id_maps import FORMS, RGB
from ..data.parallel import available_processors
from ..engine.tools import add_levels, levels_of
from ..errors import UserError
from . import prepare_autolabel, prepare_boxes
from .prepare_report import write_and_show


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    _add_instances(formats)
    _add_labels(formats)
    _add_masks(formats)
    _add_labelme(formats)
    _add_panoptic(formats)
    _add_autolabel(formats)
    _add_boxes(formats)
    return parser.parse_args()


def _add_format(formats, name: str, description: str) -> argparse.ArgumentParser:
    parser = formats.add_parser(name, help=description, description=description)
    parser.add_argument("--image-root", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="folder that is written to")
    parser.add_argument("--name", default="train", help="of the new dataset (default: train)")
    parser.add_argument(
        "--list", type=Path, help="text file of the images to convert, relative to --image-root"
    )
    parser.add_argument("--limit", type=int, help="convert the first images only")
    parser.add_argument(
        "--val-share",
        type=float,
        help="part of the images, such as 0.2, that becomes a dataset of its own: the datasets are "
        "then train and val, and --name is not used",
    )
    parser.add_argument(
        "--annotated-as-stored",
        action="store_true",
        help="the annotations are for photographs as they lie in their files, before their EXIF "
        "orientation turns them",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out annotations that cannot be converted, such as those without a mask, and "
        "say how many; and images, and say which (default: list them and write nothing)",
    )
    add_levels(parser)
    parser.add_argument("--seed", type=int, default=0, help="of --val-share (default: 0)")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_processors(),
        help="processes (default: %(default)s, the processors); the result is the same",
    )
    parser.set_defaults(label=None, run=_convert)
    return parser


def _add_instances(formats) -> None:
    parser = _add_format(
        formats,
        "instances",
        "COCO's instances JSON, polygons or run-length masks. Instances are things, but for "
        "categories whose isthing is 0; where they overlap, stuff lies below, then crowd regions, "
        "and smaller ones over larger ones.",
    )
    _add_kinds(parser)
    parser.add_argument("--instances-json", type=Path, required=True)
    parser.add_argument(
        "--stuff-root",
        type=Path,
        help="folder of label maps, named as the images but with .png, for the stuff where no "
        "instance is",
    )
    parser.add_argument("--stuff-categories", type=Path, help="what is in them, as --categories")
    _add_background(parser)
    parser.set_defaults(convert=_from_instances)


def _add_stuff_and_things(parser: argparse.ArgumentParser) -> None:
    options = {"--stuff": "stuff", "--things": "things"}
    for option, kind in options.items():
        parser.add_argument(
            option,
            nargs="*",
            default=[],
            metavar="CLASS",
            help=f"classes that are {kind}, whatever isthing says",
        )


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    _add_stuff_and_things(parser)
    parser.add_argument(
        "--ignore-iscrowd",
        action="store_true",
        help="iscrowd 1 is an object like any other: some tools write it for every brush stroke",
    )


def _kinds(args) -> preparation.Kinds:
    return preparation.Kinds(tuple(args.stuff), tuple(args.things))


def _add_labels(formats) -> None:
    parser = _add_format(
        formats,
        "labels",
        "Label maps, one class a pixel, with instance maps beside them or without (Cityscapes, "
        "CamVid).",
    )
    parser.add_argument("--label-root", type=Path, required=True, help="folder of the label maps")
    parser.add_argument(
        "--categories",
        type=Path,
        help='JSON: [{"id": 9, "name": "car", "isthing": 1, "label": 26}, ...]; label, a value in '
        "the maps or a list of them, is the id where it is not given; other values are VOID",
    )
    parser.add_argument(
        "--labelmap",
        type=Path,
        help="CVAT's labelmap.txt, the colours of the classes in maps that are colours; without "
        "--categories, all of its classes but the background are things",
    )
    parser.add_argument(
        "--image-ending",
        default="",
        help="of the image names, such as _leftImg8bit.png (default: the suffix)",
    )
    parser.add_argument(
        "--label-ending",
        default=".png",
        help="that stands for it in names of label maps, such as _gtFine_labelIds.png (default: "
        "%(default)s)",
    )
    parser.add_argument("--instance-root", type=Path, help="folder of the instance maps")
    parser.add_argument(
        "--instance-ending",
        default=".png",
        help="in names of instance maps, such as _gtFine_instanceIds.png (default: %(default)s)",
    )
    parser.add_argument(
        "--crowd-below",
        type=int,
        default=1,
        help="instance numbers below it are of no single object, and become one crowd region a "
        "class; 1000 in Cityscapes (default: 1)",
    )
    parser.add_argument(
        "--connected-things",
        type=int,
        metavar="PIXELS",
        help="without instance maps: things are connected regions of at least this many pixels, "
        "smaller ones are VOID",
    )
    _add_stuff_and_things(parser)
    parser.set_defaults(convert=_from_labels)


def _add_masks(formats) -> None:
    parser = _add_format(
        formats,
        "masks",
        "A folder of masks for each image: MASKS/a/car_1.png or MASKS/a/car/1.png is a car of "
        "image a.jpg; pixels that are not 0 are of it. Where things overlap, smaller ones lie over "
        "larger ones.",
    )
    parser.add_argument("--mask-root", type=Path, required=True, help="folder of the masks")
    _add_stuff_and_things(parser)
    parser.add_argument("--category", default="", help="the class of all masks")
    parser.set_defaults(convert=_from_masks)


def _add_labelme(formats) -> None:
    parser = _add_format(
        formats,
        "labelme",
        "labelme's own JSON files, one an image: polygons, rectangles, circles and masks; those of "
        "one label and group_id are one object. Smaller objects lie over larger ones.",
    )
    _add_stuff_and_things(parser)
    parser.add_argument(
        "--annotation-root", type=Path, help="folder of the JSON files (default: --image-root)"
    )
    _add_background(parser)
    parser.set_defaults(convert=_from_labelme)


def _add_background(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--background",
        default="",
        help="name of a stuff class for all pixels that are left (default: they are VOID)",
    )


def _add_panoptic(formats) -> None:
    parser = _add_format(
        formats,
        "panoptic",
        "COCO panoptic data itself: a part of it, other splits, other classes. Classes that are "
        "not kept become VOID.",
    )
    parser.add_argument("--panoptic-root", type=Path, required=True, help="folder of the PNGs")
    parser.add_argument("--panoptic-json", type=Path, required=True)
    _add_kinds(parser)
    parser.add_argument(
        "--ids",
        choices=FORMS,
        default=RGB,
        help="what the PNGs are: rgb, COCO's; value, of one channel or a palette's indices; "
        "scaled, 257 or 256 times that, in 16 bits; bgr, with red and blue exchanged (default: "
        "rgb)",
    )
    parser.add_argument("--keep", nargs="*", default=[], metavar="CLASS", help="only these")
    parser.add_argument("--drop", nargs="*", default=[], metavar="CLASS", help="all but these")
    parser.add_argument("--merge", nargs="*", default=[], metavar="NEW=A,B", help="A and B to NEW")
    parser.add_argument("--rename", nargs="*", default=[], metavar="OLD=NEW")
    parser.set_defaults(convert=_from_panoptic)


def _add_autolabel(formats) -> None:
    parser = _add_format(formats, "autolabel", prepare_autolabel.DESCRIPTION)
    _add_kinds(parser)
    prepare_autolabel.add_options(parser)
    parser.set_defaults(
        convert=lambda args: prepare_autolabel.annotated_source(args, _kinds(args)),
        label=prepare_autolabel.label,
    )


def _add_boxes(formats) -> None:
    parser = formats.add_parser(
        "boxes", help=prepare_boxes.DESCRIPTION, description=prepare_boxes.DESCRIPTION
    )
    prepare_boxes.add_options(parser)
    parser.set_defaults(run=prepare_boxes.run)


def _from_instances(args) -> preparation.Source:
    if (args.stuff_root is None) != (args.stuff_categories is None):
        raise UserError("--stuff-root and --stuff-categories belong together: give both.")
    return preparation.from_instances(
        args.image_root,
        args.instances_json,
        args.stuff_root,
        args.stuff_categories,
        args.background,
        _kinds(args),
        args.ignore_iscrowd,
    )


def _from_labels(args) -> preparation.Source:
    objects = None
    if args.instance_root is not None:
        ending = preparation.Ending(args.image_ending, args.instance_ending)
        objects = preparation.Objects(args.instance_root, ending, args.crowd_below)
    elif args.connected_things is not None:
        objects = preparation.Objects(least_area=args.connected_things)
    ending = preparation.Ending(args.image_ending, args.label_ending)
    return preparation.from_label_maps(
        args.image_root,
        args.label_root,
        args.categories,
        ending,
        objects,
        args.labelmap,
        _kinds(args),
    )


def _from_labelme(args) -> preparation.Source:
    return preparation.from_labelme(
        args.image_root, args.annotation_root or args.image_root, args.background, _kinds(args)
    )


def _from_masks(args) -> preparation.Source:
    return preparation.from_mask_folders(
        args.image_root, args.mask_root, _kinds(args), args.category
    )


def _from_panoptic(args) -> preparation.Source:
    classes = preparation.Classes(
        keep=tuple(args.keep),
        drop=tuple(args.drop),
        merge={new: tuple(parts.split(",")) for new, parts in _pairs(args.merge).items()},
        rename=_pairs(args.rename),
    )
    return preparation.from_panoptic(
        args.image_root,
        args.panoptic_root,
        args.panoptic_json,
        classes,
        _kinds(args),
        args.ignore_iscrowd,
        args.ids,
    )


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        first, equals, second = text.partition("=")
        if not (first and equals and second):
            raise UserError(f"{text} is not of the form A=B: write it so.")
        if first in pairs:
            raise UserError(f"{first}= is given twice: write it once, as in NEW=A,B.")
        pairs[first] = second
    return pairs


def main() -> None:
    args = parse_args()
    args.run(args)


def _convert(args) -> None:
    levels = levels_of(args)
    source = replace(args.convert(args), as_stored=args.annotated_as_stored)
    for note in source.notes:
        print(note)
    if args.list:
        source = source.only(preparation.read_list(args.list))
    source = source.first(args.limit)
    splits = source.split(args.val_share, args.seed) if args.val_share else {args.name: source}
    for name in splits:
        preparation.check_is_new(args.output, name)
    if args.label:
        splits = args.label(args, splits)
    for name, part in splits.items():
        write_and_show(part, args.output, name, args.workers, args.skip_bad, levels)
