"""Files as annotation tools write them, where they are at hand (../shared/cases)."""

import runpy
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from detr_d2.data import depth
from detr_d2.engine import Trainer, setup_cfg
from detr_d2.engine.sources import find_images
from detr_d2.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = REPOSITORY.parent / "shared" / "cases"
CONFIG = str(REPOSITORY / "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml")
PARTS = ("images", "panoptic", "panoptic.json")
INSTANCES = "instances --image-root images --background bg --instances-json"
CVAT = (
    "labels --image-root JPEGImages --label-root SegmentationClass --labelmap labelmap.txt "
    "--instance-root SegmentationObject"
)
# Of each: the arguments of prepare_dataset.py, and a part of what it says.
CONVERTED = {
    "cvat_segmentation_mask_1_1": (CVAT, "Wrote 6 images, 4 classes"),
    "json_with_bom": (f"{INSTANCES} instances.json", "Wrote 6 images, 5 classes"),
    "label_studio_brush_png": (
        "masks --image-root images --mask-root masks",
        "They are taken in order, task 1 for 000000.jpg to task 3 for 000002.jpg",
    ),
    "label_studio_media_path": (
        f"{INSTANCES} result.json",
        "6 of 6 images are found under other names, such as 000000.jpg for ../../label-studio",
    ),
    "label_studio_windows": (
        "instances --image-root . --background bg --instances-json result.json",
        r"such as images/000000.jpg for images\000000.jpg",
    ),
    "labelme_raw": ("labelme --image-root images --background bg", "Wrote 6 images, 5 classes"),
    "mac_zip_leftovers": (
        "labels --image-root images --label-root labels --categories categories.json "
        "--connected-things 5",
        "Wrote 3 images",
    ),
    "pandas_float_ids": (f"{INSTANCES} instances.json", "Wrote 6 images, 5 classes"),
    "via3_flat_polygon": (f"{INSTANCES} coco.json", "Wrote 6 images, 5 classes"),
    "roboflow_root_category": (
        "instances --image-root train --instances-json train/_annotations.coco.json",
        "left out.",
    ),
    "cvat_mixed_rectangles": (
        "instances --image-root images/default --skip-bad "
        "--instances-json annotations/instances_default.json",
        "4 annotations without a mask: left out.",
    ),
    "cvat_brush_iscrowd": (
        "instances --image-root images/default --instances-json annotations/instances_default.json",
        "warning: All objects are crowd",
    ),
    "datumaro_panoptic_all_stuff": (
        "panoptic --image-root images/default --panoptic-root annotations/panoptic_default "
        "--panoptic-json annotations/panoptic_default.json",
        "3 times a class of stuff has several segments in an image: united.\nwarning: No class",
    ),
    "file_name_case": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "found under other names, such as 000000.JPG for 000000.jpg",
    ),
    "polygons_with_stuff_classes": (
        f"{INSTANCES} instances.json",
        "  11  stripes   stuff",
    ),
    "roboflow_root_same_name": (
        "instances --image-root train --instances-json train/_annotations.coco.json",
        "No object is a circle (id 0): left out.",
    ),
    "train_12bit_in_16bit_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "Wrote 6 images, 8 classes",
    ),
}
REFUSED = {
    "cvat_mixed_rectangles": (
        "instances --image-root images/default --instances-json annotations/instances_default.json",
        "4 without a mask: these annotations cannot be converted. --skip-bad leaves them out.",
    ),
    "boxes_only_no_key": (
        f"{INSTANCES} instances.json",
        "not one of its 13 annotations has a segmentation, and a box says nothing of its pixels",
    ),
    "label_studio_rectangles": (
        "instances --image-root . --instances-json result.json --skip-bad",
        "export polygons or masks",
    ),
    "segmentation_null_lbl": (f"{INSTANCES} instances.json", "export polygons or masks"),
    "panoptic_grey16_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "--ids value",
    ),
    "polygons_of_resized_images": (f"{INSTANCES} instances.json", "and its annotations are for"),
    "panoptic_grey_png": (
        "panoptic --image-root images --panoptic-root panoptic --panoptic-json panoptic.json",
        "--ids value",
    ),
}


PANOPTIC = "--image-root images --panoptic-root panoptic --panoptic-json panoptic.json"
# Of each: the arguments of validate_dataset.py, its exit code, and a part of what it says.
VALIDATED = {
    "category_ids_sparse_from_zero": (PANOPTIC, 0, "70000  dots      stuff"),
    "datumaro_panoptic_all_stuff": (
        "--image-root images/default --panoptic-root annotations/panoptic_default "
        "--panoptic-json annotations/panoptic_default.json",
        1,
        "No class is a thing, though 3 images have several segments of a class",
    ),
    "file_name_case": (PANOPTIC, 1, "File names: 6; --fix puts 6 right"),
    "panoptic_grey16_png": (PANOPTIC, 1, "Ids of another form: 6"),
    "panoptic_grey_png": (PANOPTIC, 1, "No PNG of the 6 images could be used"),
    "things_only": (PANOPTIC, 0, "Nothing is wrong."),
    "train_12bit_in_16bit_png": (PANOPTIC, 0, "set INPUT.WHITE, to 4095 perhaps."),
}


@pytest.fixture
def cases() -> Path:
    if not CASES.is_dir():
        pytest.skip("the cases are not here (../shared/cases)")
    return CASES


@pytest.fixture
def run(cases, monkeypatch, capsys):
    def run(tool: str, case: str, *arguments: str) -> tuple[str | int | None, str]:
        monkeypatch.chdir(cases / case)
        monkeypatch.setattr(sys, "argv", [tool, *arguments, "--workers", "1"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(REPOSITORY / "tools" / tool), run_name="__main__")
        return end.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def prepare(run, tmp_path):
    def prepare(case: str, arguments: str) -> tuple[str | int | None, str]:
        output = ("--output", str(tmp_path / "out"))
        return run("prepare_dataset.py", case, *arguments.split(), *output)

    return prepare


@pytest.mark.parametrize("case", CONVERTED)
def test_it_is_converted(prepare, case):
    arguments, said = CONVERTED[case]
    code, text = prepare(case, arguments)
    assert code is None
    assert said in text


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_words_that_help(prepare, tmp_path, case):
    arguments, said = REFUSED[case]
    code, _ = prepare(case, arguments)
    assert str(code).startswith("error: ") and said in code
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("case", VALIDATED)
def test_it_is_validated(run, case):
    arguments, code, said = VALIDATED[case]
    ended, text = run("validate_dataset.py", case, *arguments.split())
    assert ended == code
    assert said in text


def test_images_of_many_kinds_are_read_or_named(cases, caplog):
    depth._warned.clear()
    unread = set()
    sources = find_images([str(cases / "demo_odd_images/images")])
    for source in sources:
        try:
            source.read()
        except UserError:
            unread.add(Path(source.path).name)
    assert unread == {"empty.jpg", "float.tif", "html_saved_as.jpg", "truncated.jpg"}
    dark = {record.args[0].rpartition("/")[2] for record in caplog.records}
    assert dark == {"grey16_12bit.png", "grey16_8bit.tif"}


SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 1, "INPUT.MIN_SIZE_TRAIN", (64,)),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0, "TEST.EVAL_PERIOD", 0),
]


@pytest.fixture
def configure(cases, tmp_path):
    """A function that gives a configuration of a small model, trained on panoptic cases."""
    names = []

    def configure(num_classes: int, train: dict[str, str], *overrides, test=()):
        names.extend(train)
        names.extend(test)
        registered = [
            (f"DATASETS.REGISTER.{name}", [f"{cases / case / part}" for part in PARTS])
            for name, case in {**train, **dict(test)}.items()
        ]
        datasets = ("DATASETS.TRAIN", tuple(train), "DATASETS.TEST", tuple(dict(test)))
        number = ("MODEL.DETR.NUM_CLASSES", num_classes, "OUTPUT_DIR", str(tmp_path))
        given = [*SMALL, *(x for pair in registered for x in pair), *datasets, *number, *overrides]
        return setup_cfg(CONFIG, given)

    yield configure
    for name in {*names} & {*DatasetCatalog.list()}:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_classes_of_another_order_are_matched_by_name(configure, caplog):
    folder = "category_order_differs_between_splits"
    with caplog.at_level("WARNING"):
        configure(4, {"case_train": f"{folder}/train"}, test={"case_val": f"{folder}/val"})
    assert "case_val numbers the classes differently than case_train" in caplog.text
    first, second = (MetadataCatalog.get(name) for name in ("case_train", "case_val"))
    assert first.thing_classes == second.thing_classes
    # The images are the same, and so are their segments.
    for one, other in zip(*(DatasetCatalog.get(n) for n in ("case_train", "case_val"))):
        assert Path(one["file_name"]).name == Path(other["file_name"]).name
        classes = [sorted(s["category_id"] for s in d["segments_info"]) for d in (one, other)]
        assert classes[0] == classes[1]


def test_a_training_is_not_resumed_into_other_classes(configure):
    steps = ("SOLVER.MAX_ITER", 1)
    trainer = Trainer(configure(4, {"case_things": "things_only"}, *steps))
    trainer.train()
    other = Trainer(configure(8, {"case_sparse": "category_ids_sparse_from_zero"}, *steps))
    with pytest.raises(UserError, match=r"its checkpoint is of 4 classes .* has 8 classes"):
        other.resume_or_load(resume=True)


def test_boxes_tell_their_number_of_classes_when_they_are_loaded(cases, configure):
    folder = cases / "boxes_degenerate"
    register_coco_instances("case_boxes", {}, str(folder / "boxes.json"), str(folder / "images"))
    cfg = configure(3, {}, "DATASETS.TRAIN", ("case_boxes",), "MODEL.META_ARCHITECTURE", "DETR")
    with pytest.raises(UserError, match=r"case_boxes has 4 classes.* set .*NUM_CLASSES 4"):
        Trainer(cfg)
    DatasetCatalog.remove("case_boxes")
    MetadataCatalog.remove("case_boxes")
