"""Two small images, `a` and its mirror image `b`, as other tools' formats say what is on them.

Each has a road, a car that is an L, a car of two parts, and a person who stands before the first.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from panoptic_files import save, save_noise
from PIL import Image

HEIGHT, WIDTH = 12, 16
NAMES = ["road", "car", "person"]
COLORS = [(128, 64, 128), (0, 0, 142), (220, 20, 60)]
L = [(1, 4), (5, 4), (5, 6), (8, 6), (8, 9), (1, 9)]


def box(left: int, top: int, right: int, bottom: int) -> list[tuple]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


@dataclass(frozen=True)
class Thing:
    """An object: its polygons, and the rows and columns of its pixels, said again."""

    number: int
    name: str
    polygons: list[list[tuple]]
    blocks: list[tuple[slice, slice]]

    @property
    def label(self) -> int:
        return NAMES.index(self.name)

    @property
    def mask(self) -> np.ndarray:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        for rows, columns in self.blocks:
            mask[rows, columns] = True
        return mask

    def mirrored(self) -> "Thing":
        polygons = [[(WIDTH - x, y) for x, y in polygon] for polygon in self.polygons]
        blocks = [(rows, slice(WIDTH - x.stop, WIDTH - x.start)) for rows, x in self.blocks]
        return Thing(self.number, self.name, polygons, blocks)


THINGS = [
    Thing(1, "road", [box(0, 8, 16, 12)], [(slice(8, 12), slice(0, 16))]),
    Thing(2, "car", [L], [(slice(4, 9), slice(1, 5)), (slice(6, 9), slice(1, 8))]),
    Thing(
        3,
        "car",
        [box(9, 3, 11, 7), box(12, 3, 15, 7)],
        [(slice(3, 7), slice(9, 11)), (slice(3, 7), slice(12, 15))],
    ),
    Thing(4, "person", [box(3, 2, 5, 5)], [(slice(2, 5), slice(3, 5))]),
]
IMAGES = {"a": THINGS, "b": [thing.mirrored() for thing in THINGS]}


def numbers(things: list[Thing]) -> np.ndarray:
    """The object of each pixel, 0 where none is; later ones lie over earlier ones."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    for thing in things:
        found[thing.mask] = thing.number
    return found


def labels(things: list[Thing], nothing: int = 0, first: int = 1) -> np.ndarray:
    """The class of each pixel, counted from `first`."""
    values = [nothing, *(thing.label + first for thing in THINGS)]
    return np.array(values, np.uint8)[numbers(things)]


def segments(things: list[Thing]) -> set[tuple]:
    """(class, pixels) of each object, as our converters should have them."""
    found = numbers(things)
    return {
        (thing.name, frozenset(zip(*(x.tolist() for x in np.nonzero(found == thing.number)))))
        for thing in things
    }


def class_segments(things: list[Thing]) -> set[tuple]:
    """(class, pixels) of each class: what is left where objects of a class are not told apart."""
    joined: dict[str, frozenset] = {}
    for name, pixels in segments(things):
        joined[name] = joined.get(name, frozenset()) | pixels
    return set(joined.items())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save_picture(path: Path) -> None:
    save_noise(path, HEIGHT, WIDTH)


def save_palette(path: Path, pixels: np.ndarray, colors: list[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    image.putpalette([value for color in colors for value in color])
    image.save(path)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Row by row, beginning with what is not set."""
    values = mask.ravel().tolist()
    counts, last = [0], False
    for value in values:
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def cvat(root: Path, shapes) -> None:
    """CVAT for images 1.1; `shapes` gives the elements of a thing."""
    images = ""
    for number, (name, things) in enumerate(IMAGES.items()):
        save_picture(root / f"images/{name}.png")
        inside = "".join(shapes(thing) for thing in things)
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        images += f'<image id="{number}" name="{name}.png" {size}>{inside}</image>'
    known = "".join(f"<label><name>{x}</name><attributes></attributes></label>" for x in NAMES)
    meta = f"<meta><task><id>1</id><name>t</name><labels>{known}</labels></task></meta>"
    write(
        root / "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?>\n'
        f"<annotations><version>1.1</version>{meta}{images}</annotations>",
    )


def person_behind(things: list[Thing]) -> list[Thing]:
    """The person stands behind the car, which is larger."""
    road, first, second, person = things
    return [road, person, first, second]


def cvat_polygons(root: Path, z_order: bool = False) -> None:
    numbers = [thing.number for thing in person_behind(THINGS)]

    def shapes(thing):
        z = numbers.index(thing.number) if z_order else 0
        group = f'group_id="{thing.number}"' if len(thing.polygons) > 1 else ""
        return "".join(
            f'<polygon label="{thing.name}" source="manual" occluded="0" z_order="{z}" {group} '
            f'points="{";".join(f"{x:.2f},{y:.2f}" for x, y in polygon)}"></polygon>'
            for polygon in thing.polygons
        )

    cvat(root, shapes)


def cvat_z_order(root: Path) -> None:
    cvat_polygons(root, z_order=True)


def cvat_masks(root: Path) -> None:
    def shapes(thing):
        rows, columns = (np.flatnonzero(thing.mask.any(axis)) for axis in (1, 0))
        (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
        cut = thing.mask[top : bottom + 1, left : right + 1]
        return (
            f'<mask label="{thing.name}" source="manual" occluded="0" z_order="0" '
            f'rle="{", ".join(map(str, run_lengths(cut)))}" left="{left}" top="{top}" '
            f'width="{cut.shape[1]}" height="{cut.shape[0]}"></mask>'
        )

    cvat(root, shapes)


def voc_colors() -> list[tuple]:
    """The 256 colours of Pascal VOC: the bits of a number, dealt to red, green and blue in turn."""

    def color(number: int) -> tuple:
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= ((number >> bit) & 1) << (7 - bit // 3)
        return tuple(channels)

    return [color(number) for number in range(256)]


def voc(root: Path, names=NAMES, border: bool = False, objects: bool = True) -> None:
    """Pascal VOC's segmentation: indices of a palette; the border of images is 255, "void"."""
    palette = voc_colors()
    known = {**dict(zip(NAMES, palette[1:])), "void": palette[255]}
    colors = ["background:0,0,0::"]
    colors += [f"{name}:{','.join(map(str, known[name]))}::" for name in names]
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(colors) + "\n")
    write(root / "ImageSets/Segmentation/train.txt", "\n".join(IMAGES) + "\n")
    for name, things in IMAGES.items():
        save_picture(root / f"JPEGImages/{name}.jpg")
        maps = {"SegmentationClass": labels(things), "SegmentationObject": numbers(things)}
        for folder, pixels in maps.items():
            if border:
                pixels[0] = 255
            if objects or folder == "SegmentationClass":
                save_palette(root / folder / f"{name}.png", pixels, palette)


def voc_of_classes(root: Path) -> None:
    voc(root, objects=False)


def voc_with_border(root: Path) -> None:
    voc(root, [*NAMES, "void"], border=True)


def label_me(root: Path) -> None:
    """The XML of LabelMe's web tool; the parts of an object name each other."""
    for name, things in IMAGES.items():
        save_picture(root / f"Images/street/{name}.jpg")
        objects, number = "", 0
        for thing in things:
            first, parts = number, range(number + 1, number + len(thing.polygons))
            for polygon in thing.polygons:
                has = ",".join(map(str, parts)) if number == first else ""
                of = "" if number == first else first
                points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in polygon)
                objects += (
                    f"<object><name>{thing.name}</name><deleted>0</deleted><verified>0</verified>"
                    f"<occluded>no</occluded><attributes></attributes><parts><hasparts>{has}"
                    f"</hasparts><ispartof>{of}</ispartof></parts><date></date><id>{number}</id>"
                    f"<polygon><username>me</username>{points}</polygon></object>"
                )
                number += 1
        size = f"<imagesize><nrows>{HEIGHT}</nrows><ncols>{WIDTH}</ncols></imagesize>"
        write(
            root / f"Annotations/street/{name}.xml",
            f"<annotation><filename>{name}.jpg</filename><folder>street</folder>"
            f"<source></source>{objects}{size}</annotation>",
        )


ADE20K = np.array([0, 2131, 401, 1831])  # the values of nothing, road, car and person


def ade20k_map(things: list[Thing]) -> np.ndarray:
    """Classes in red, by tens, and in green; objects in blue."""
    values = ADE20K[labels(things)]
    channels = [values // 256 * 10, values % 256, numbers(things)]
    return np.stack(channels, axis=2).astype(np.uint8)


def ade20k2017(root: Path, covered: bool = False) -> None:
    for name, things in IMAGES.items():
        folder = root / "training/street"
        save_picture(folder / f"{name}.jpg")
        pixels = ade20k_map(things)
        if covered:
            pixels[pixels[..., 2] == 0] = (0, 1, 1)
        save(folder / f"{name}_seg.png", pixels)
        lines = [f'{x.number:03d} # 0 # 0 # {x.name} # {x.name} # ""' for x in things]
        write(folder / f"{name}_atr.txt", "\n".join(lines) + "\n")


def ade20k2017_covered(root: Path) -> None:
    ade20k2017(root, covered=True)


def ade20k2020(root: Path) -> None:
    for name, things in IMAGES.items():
        folder = root / "training/street"
        save_picture(folder / f"{name}.jpg")
        save(folder / f"{name}_seg.png", ade20k_map(things))
        objects, found = [], numbers(things)
        for thing in things:
            mask = f"{name}/instance_{thing.number:03d}_{name}.png"
            save(folder / mask, np.where(found == thing.number, 255, 0).astype(np.uint8))
            xs, ys = zip(*thing.polygons[0])
            objects.append(
                {
                    "id": thing.number,
                    "name": thing.name,
                    "name_ndx": int(ADE20K[thing.label + 1]),
                    "hypernym": [],
                    "raw_name": thing.name,
                    "attributes": [],
                    "depth_ordering_rank": 1,
                    "occluded": "no",
                    "crop": 0,
                    "parts": {"hasparts": [], "ispartof": [], "part_level": 0},
                    "instance_mask": mask,
                    "polygon": {"x": list(xs), "y": list(ys)},
                    "saved_date": "",
                }
            )
        write(folder / f"{name}.json", json.dumps({"annotation": {"object": objects}}))


def mapillary(root: Path, panoptic: bool = False) -> None:
    """Mapillary Vistas: 256 times the class and a number, in 16 bits."""
    known = [*NAMES, "void--unlabeled"]
    colors = [*COLORS, (0, 0, 0)]
    config = [
        {"name": name, "readable": name, "color": color, "instances": name in NAMES[1:]}
        for name, color in zip(known, colors)
    ]
    write(root / "config_v2.0.json", json.dumps({"labels": config}))
    images, annotations = [], []
    for name, things in IMAGES.items():
        save_picture(root / f"training/images/{name}.jpg")
        folder = root / "training/v2.0"
        found, classes = numbers(things), labels(things, nothing=3, first=0)
        save_palette(folder / f"labels/{name}.png", classes, colors)
        counted = np.array([0, 0, 0, 1, 0], np.uint16)  # of the road, two cars and a person
        save(folder / f"instances/{name}.png", classes.astype(np.uint16) * 256 + counted[found])
        objects = [{"label": x.name, "polygon": p} for x in things for p in x.polygons]
        write(folder / f"polygons/{name}.json", json.dumps({"objects": objects}))
        if panoptic:
            save(folder / f"panoptic/{name}.png", np.stack([found, found * 0, found * 0], axis=2))
            size = {"width": WIDTH, "height": HEIGHT}
            images.append({"id": name, "file_name": f"{name}.jpg", **size})
            infos = [
                {"id": x.number, "category_id": x.label + 1, "iscrowd": 0, "area": 1, "bbox": []}
                for x in things
            ]
            annotation = {"image_id": name, "file_name": f"{name}.png", "segments_info": infos}
            annotations.append(annotation)
    if panoptic:
        categories = [
            {"id": n, "name": x, "supercategory": x, "isthing": int(n > 1), "color": color}
            for n, (x, color) in enumerate(zip(NAMES, COLORS), 1)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write(folder / "panoptic/panoptic_2020.json", json.dumps(content))


def mapillary_panoptic(root: Path) -> None:
    mapillary(root, panoptic=True)


def cityscapes(root: Path, ending: str = "instanceIds") -> None:
    """Cityscapes: 1000 times the class and a number for things, the class alone for stuff."""
    for name, things in IMAGES.items():
        stem = f"{name}/{name}_000000_000019"
        save_picture(root / f"leftImg8bit/train/{stem}_leftImg8bit.png")
        values = [0, 7, 26000, 26001, 24000]
        if ending == "labelTrainIds":
            values = [255, 0, 13, 13, 11]
        pixels = np.array(values, np.int32)[numbers(things)]
        kind = np.int32 if ending == "instanceIds" else np.uint8
        save(root / f"gtFine/train/{stem}_gtFine_{ending}.png", pixels.astype(kind))


def cityscapes_train_ids(root: Path) -> None:
    cityscapes(root, "labelTrainIds")


def yolo(root: Path) -> None:
    """Ultralytics' segmentation: class and points, in parts of the image."""
    write(root / "data.yaml", "names:\n" + "".join(f"  {n}: {x}\n" for n, x in enumerate(NAMES)))
    for name, things in IMAGES.items():
        save_picture(root / f"images/train/{name}.png")
        lines = [
            " ".join([str(x.label), *(f"{a / WIDTH:.6f} {b / HEIGHT:.6f}" for a, b in polygon)])
            for x in things
            for polygon in x.polygons
        ]
        write(root / f"labels/train/{name}.txt", "\n".join(lines) + "\n")


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def open_images(root: Path) -> None:
    """Open Images V6: a mask of each object, and its box, in parts of the image."""
    masks, boxes, images = [], [], []
    for name, things in IMAGES.items():
        save_picture(root / f"images/train/{name}.jpg")
        images.append({"ImageID": name, "Subset": "train"})
        for thing in things:
            path = f"{name}_m0{thing.label}_{thing.number}.png"
            save(root / "masks/train" / path, np.where(thing.mask, 255, 0).astype(np.uint8))
            (top, left), (bottom, right) = (f(np.argwhere(thing.mask), 0) for f in (np.min, np.max))
            sides = {"XMin": left / WIDTH, "XMax": (right + 1) / WIDTH}
            sides |= {"YMin": top / HEIGHT, "YMax": (bottom + 1) / HEIGHT}
            sides = {side: f"{value:.6f}" for side, value in sides.items()}
            both = {"ImageID": name, "LabelName": f"/m/0{thing.label}"}
            flags = dict.fromkeys(["Occluded", "Truncated", "GroupOf", "Depiction", "Inside"], 0)
            flags = {f"Is{flag}": value for flag, value in flags.items()}
            boxes.append({**both, "Source": "xclick", "Confidence": 1, **sides, **flags})
            sides = {f"Box{side}": value for side, value in sides.items()}
            row = {"MaskPath": path, **both, "BoxID": f"{thing.number:08x}", **sides}
            masks.append({**row, "PredictedIoU": 0.9, "Clicks": ""})
    folder = root / "annotations"
    write_rows(folder / "train-annotations-object-segmentation.csv", masks)
    write_rows(folder / "train-annotations-bbox.csv", boxes)
    write_rows(folder / "image_ids_and_rotation.csv", images)
    known = [{"LabelName": f"/m/0{n}", "DisplayName": x} for n, x in enumerate(NAMES)]
    write_rows(folder / "oidv6-class-descriptions.csv", known)


def kitti(root: Path) -> None:
    """KITTI's segmentation: 256 times Cityscapes's class, and a number from 1 on, in 16 bits."""
    for name, things in IMAGES.items():
        save_picture(root / f"training/image_2/{name}.png")
        values = np.array([0, 7 * 256, 26 * 256 + 1, 26 * 256 + 2, 24 * 256 + 1], np.uint16)
        save(root / f"training/instance/{name}.png", values[numbers(things)])


def camvid(root: Path) -> None:
    lines = ["0 0 0 Void"] + [f"{r} {g} {b} {x}" for x, (r, g, b) in zip(NAMES, COLORS)]
    write(root / "label_colors.txt", "\n".join(lines) + "\n")
    palette = np.array([(0, 0, 0), *COLORS], np.uint8)
    for name, things in IMAGES.items():
        save_picture(root / f"train/{name}.png")
        save(root / f"trainannot/{name}.png", palette[labels(things)])
    write(root / "train.txt", "".join(f"/train/{x}.png /trainannot/{x}.png\n" for x in IMAGES))
