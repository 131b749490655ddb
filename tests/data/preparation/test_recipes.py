"""docs/known_datasets.md, word by word, on small data in the official folders."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage
from panoptic_files import read_written, save, save_ids, save_noise

from detr_d2.engine import Trainer, setup_cfg

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "known_datasets.md"
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
SMALL = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 2, "MODEL.WEIGHTS", ""),
    *("SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0),
]
SIZE = (24, 48)


def section(title: str) -> tuple[str, list[list[str]]]:
    """The Python of a section, and its commands for both splits."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.M)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    text = text.replace("\\\n", " ")
    loops = re.findall(r"^for split in train val; do\n(.*?)^done", text, re.DOTALL | re.M)
    splits = [
        [re.sub(r"\$split|\$\{split\}", split, command) for command in loops]
        for split in ("train", "val")
    ]
    return code, [shlex.split(command) for commands in splits for command in commands]


@pytest.fixture
def follow(tmp_path, monkeypatch, capsys):
    """A function that does what a section says, in the temporary folder; gives what is printed."""
    monkeypatch.chdir(tmp_path)

    def follow(title: str) -> str:
        code, commands = section(title)
        exec(code, {})
        for python, tool, *arguments in commands:
            assert python == "python"
            monkeypatch.setattr(sys, "argv", [tool, *arguments, "--workers", "1"])
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(REPOSITORY / tool), run_name="__main__")
            assert end.value.code is None
        return capsys.readouterr().out

    return follow


def train_a_step(tmp_path: Path, images: str, prepared: str) -> dict[str, float]:
    """The losses of a small model's first step on the dataset."""
    written = tmp_path / "datasets" / prepared
    categories = json.loads((written / "panoptic_train.json").read_text())["categories"]
    paths = [str(tmp_path / images), *(str(written / f"panoptic_train{x}") for x in ("", ".json"))]
    overrides = [
        *("DATASETS.REGISTER.recipe", str(paths), "DATASETS.TRAIN", "('recipe',)"),
        *("MODEL.DETR.NUM_CLASSES", len(categories), "DATASETS.TEST", "()"),
        *("OUTPUT_DIR", str(tmp_path / "output")),
    ]
    losses = {}
    try:
        trainer = Trainer(setup_cfg(str(REPOSITORY / CONFIG), [*SMALL, *overrides]))
        trainer.model.register_forward_hook(lambda module, inputs, found: losses.update(found))
        with EventStorage():
            trainer.iter = 0
            trainer.run_step()
    finally:
        DatasetCatalog.remove("recipe")
        MetadataCatalog.remove("recipe")
    return {name: loss.item() for name, loss in losses.items()}


def where(mask: np.ndarray) -> frozenset:
    return frozenset(map(tuple, np.argwhere(mask).tolist()))


def rectangle(x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


# The classes of labels.txt that the test needs; the maps have one less.
LABELS_TXT = "0: unlabeled\n1: person\n3: car\n92: banner\n149: road\n169: tree\n182: wood\n"
CAR, ROAD, TREE, UNLABELLED = 2, 148, 168, 255


def write_coco(folder: Path, split: str, names: list[str]) -> None:
    """A car, a thing of the map that is no object, unlabelled pixels, a tree above a road."""
    labels = np.full(SIZE, TREE, np.uint8)
    labels[12:] = ROAD
    labels[rectangle(8, 8, 20, 16) | rectangle(40, 0, 44, 4)] = CAR
    labels[rectangle(0, 0, 4, 4)] = UNLABELLED
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        save_noise(folder / f"{split}2017/{name}.jpg", *SIZE)
        save(folder / f"stuffthingmaps/{split}2017/{name}.png", labels)
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 24, "width": 48})
        polygon = [[8, 8, 20, 8, 20, 16, 8, 16]]
        annotation = {"id": number, "image_id": number, "category_id": 3, "iscrowd": 0}
        annotations.append({**annotation, "segmentation": polygon})
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))


def test_coco_stuff(follow, tmp_path):
    for split, names in (("train", ["000000000009", "000000000025"]), ("val", ["000000000139"])):
        write_coco(tmp_path / "coco", split, names)
    (tmp_path / "coco/labels.txt").write_text(LABELS_TXT)
    follow("COCO's instances with COCO-Stuff's maps")
    car, void = rectangle(8, 8, 20, 16), rectangle(40, 0, 44, 4) | rectangle(0, 0, 4, 4)
    upper = rectangle(0, 0, 48, 12)
    expected = {
        (3, 0, where(car)),
        (169, 0, where(upper & ~car & ~void)),
        (149, 0, where(~upper & ~car)),
    }
    for split, count in (("train", 2), ("val", 1)):
        found = read_written(tmp_path / "datasets/coco_stuff", split)
        assert len(found) == count
        assert all(set(segments) == expected for segments in found.values())
    content = json.loads((tmp_path / "datasets/coco_stuff/panoptic_train.json").read_text())
    kinds = {c["name"]: c["isthing"] for c in content["categories"]}
    assert kinds == {"person": 1, "car": 1, "banner": 0, "road": 0, "tree": 0, "wood": 0}
    losses = train_a_step(tmp_path, "coco/train2017", "coco_stuff")
    assert {"loss_ce", "loss_mask"} <= losses.keys() and np.isfinite([*losses.values()]).all()


CAMERA = rectangle(0, 20, 48, 24)  # the car that it is on
LABEL_OF = {11: rectangle(0, 0, 48, 10), 26: rectangle(4, 8, 20, 16), 24: rectangle(30, 6, 40, 14)}
INSTANCE_OF = {26000: rectangle(4, 8, 12, 16), 26001: rectangle(12, 8, 20, 16)}


def write_cityscapes(folder: Path, split: str, stem: str) -> np.ndarray:
    """A road, a building, two cars, and a group of persons; gives the instance numbers."""
    labels = np.full(SIZE, 7, np.uint8)
    for label, mask in LABEL_OF.items():
        labels[mask] = label
    labels[CAMERA] = 1
    instances = labels.astype(np.uint16)
    for number, mask in INSTANCE_OF.items():
        instances[mask] = number
    city = stem.split("_")[0]
    save_noise(folder / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", *SIZE)
    maps = folder / f"gtFine/{split}/{city}"
    save(maps / f"{stem}_gtFine_labelIds.png", labels)
    save(maps / f"{stem}_gtFine_instanceIds.png", instances)
    save_noise(maps / f"{stem}_gtFine_color.png", *SIZE)
    return instances


def write_cityscapes_panoptic(folder: Path, split: str, instances: dict[str, np.ndarray]) -> None:
    """As createPanopticImgs.py does from the instance numbers."""
    images, annotations = [], []
    for stem, numbers in instances.items():
        segments = [n for n in np.unique(numbers).tolist() if n != 1]
        ids = np.where(np.isin(numbers, segments), numbers, 0).astype(int)
        save_ids(folder / f"cityscapes_panoptic_{split}/{stem}_gtFine_panoptic.png", ids)
        name = f"{stem}_gtFine_leftImg8bit.png"
        images.append({"id": stem, "file_name": name, "height": 24, "width": 48})
        infos = [
            {"id": n, "category_id": n if n < 1000 else n // 1000, "iscrowd": int(n == 24)}
            for n in segments
        ]
        file = f"{stem}_gtFine_panoptic.png"
        annotations.append({"image_id": stem, "file_name": file, "segments_info": infos})
    kinds = {7: ("road", 0), 11: ("building", 0), 24: ("person", 1), 26: ("car", 1)}
    categories = [{"id": n, "name": name, "isthing": k} for n, (name, k) in kinds.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"cityscapes_panoptic_{split}.json").write_text(json.dumps(content))


def test_cityscapes(follow, tmp_path):
    root = tmp_path / "cityscapes"
    stems = {"train": ["aachen_000000_000019", "bonn_000001_000019"], "val": ["ulm_000002_000019"]}
    for split, names in stems.items():
        instances = {stem: write_cityscapes(root, split, stem) for stem in names}
        write_cityscapes_panoptic(root / "gtFine", split, instances)
    said = follow("Cityscapes")
    assert "2 images have the label 1, of no category: VOID." in said
    name = "aachen/aachen_000000_000019_leftImg8bit.png"
    assert f"2 of 2 images are found under other names, such as {name} for aachen_" in said
    things = LABEL_OF[26] | LABEL_OF[24]
    expected = {
        (11, 0, where(LABEL_OF[11] & ~things)),
        (7, 0, where(~LABEL_OF[11] & ~things & ~CAMERA)),
        (24, 1, where(LABEL_OF[24])),
        *((26, 0, where(mask)) for mask in INSTANCE_OF.values()),
    }
    for prepared in ("cityscapes", "cityscapes_panoptic"):
        for split, names in stems.items():
            found = read_written(tmp_path / "datasets" / prepared, split)
            files = {f"{stem.split('_')[0]}/{stem}_leftImg8bit.png" for stem in names}
            assert found.keys() == files
            assert all(set(segments) == expected for segments in found.values())
        losses = train_a_step(tmp_path, "cityscapes/leftImg8bit/train", prepared)
        assert {"loss_ce", "loss_mask"} <= losses.keys() and np.isfinite([*losses.values()]).all()
