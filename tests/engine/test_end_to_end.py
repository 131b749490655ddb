"""The command lines, on a handful of shapes: train, resume, evaluate, draw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import detr_d2  # noqa: F401  (registers the shapes)

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
SHIPPED = "configs/Shapes-PanopticSegmentation/checkpoint/panoptic_detr_R_18_narrow_dc5.pth"
FPN_CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_fpn_R_18_narrow.yaml"
TINY = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "()"),
    *("DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0", "MODEL.WEIGHTS", ""),
]


def run(tool, *arguments, code=0):
    command = [sys.executable, "-W", "ignore", f"tools/{tool}.py", *map(str, arguments)]
    finished = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def train_net(output, *arguments, **expected):
    arguments = ("--config-file", CONFIG, *arguments, "OUTPUT_DIR", output, *TINY)
    return run("train_net", *arguments, **expected)


def metrics_of(output) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    train_net(output, "SOLVER.MAX_ITER", "20", "SOLVER.CHECKPOINT_PERIOD", "10")
    return output


def test_training_reports_what_it_optimises(trained):
    first = metrics_of(trained)[0]
    names = [f"loss_{x}{layer}" for layer in ("", "_0") for x in ("ce", "bbox", "giou")]
    names += ["loss_mask", "loss_dice"]
    assert {key for key in first if key.startswith("loss_")} == set(names)
    assert first["total_loss"] == pytest.approx(sum(first[n] for n in names), rel=0.2)
    assert {"class_error", "cardinality_error", "matching_cost"} <= first.keys()


def test_training_ends_with_an_evaluation(trained):
    last = metrics_of(trained)[-1]
    for key in ("panoptic_seg/PQ", "panoptic_seg/PQ_th", "panoptic_seg/PQ-star", "bbox/AP"):
        assert 0 <= last[key] <= 100
    assert list(trained.glob("events.out.tfevents*"))


def test_tensorboard_shows_sample_pictures_of_the_evaluation(trained):
    events = EventAccumulator(str(trained)).Reload()
    names = events.Tags()["images"]
    assert names == [f"shapes_panoptic_val/{image_id}" for image_id in (1, 2, 3, 4)]
    (picture,) = events.Images(names[0])
    assert picture.width == 4 * 480  # image, ground truth, panoptic, boxes


def test_checkpoints_have_the_optimiser(trained):
    checkpoint = torch.load(trained / "model_0000009.pth", weights_only=True)
    assert checkpoint["iteration"] == 9
    assert checkpoint["trainer"]["_trainer"]["optimizer"]["state"]


def test_stages_of_a_training_are_drawn(trained, tmp_path):
    run(
        *("draw_stages", "--config-file", CONFIG, "--training", trained, "--limit", 2),
        *("--dataset", "shapes_panoptic_val", "--output", tmp_path / "a.png", *TINY),
    )
    picture = Image.open(tmp_path / "a.png")
    assert picture.width > 4 * 200  # images, ground truth, and two stages
    assert picture.height > 2 * 100


def test_checkpoints_name_their_classes(trained):
    checkpoint = torch.load(trained / "model_0000009.pth", weights_only=True)
    expected = MetadataCatalog.get("shapes_panoptic_train").thing_classes
    assert checkpoint["detr_d2"]["class_names"] == expected
    categories = checkpoint["detr_d2"]["categories"]
    assert [c["name"] for c in categories] == expected
    assert [c["isthing"] for c in categories] == [1] * 4 + [0] * 4
    assert all(len(c["color"]) == 3 for c in categories)


def test_resuming_goes_on_where_it_stopped(trained):
    log = train_net(trained, "--resume", "SOLVER.MAX_ITER", "24")
    assert "Starting training from iteration 20" in log
    checkpoint = torch.load(trained / "model_final.pth", weights_only=True)
    steps = {
        int(s["step"]) for s in checkpoint["trainer"]["_trainer"]["optimizer"]["state"].values()
    }
    assert (checkpoint["iteration"], steps) == (23, {24})


def test_a_training_that_is_over_says_so(trained):
    log = train_net(trained, "--resume", "SOLVER.MAX_ITER", "8")
    assert "is over: its checkpoint has all of the" in log
    assert "Traceback" not in log


def test_a_training_is_not_resumed_with_other_classes(trained, tiny_dataset):
    folder, _ = tiny_dataset
    before = sorted(trained.glob("model_*.pth"))
    tiny = f"['{folder}/images', '{folder}/panoptic', '{folder}/panoptic.json']"
    log = train_net(
        *(trained, "--resume", "DATASETS.REGISTER.tiny", tiny, "DATASETS.TRAIN", "('tiny',)"),
        *("DATASETS.TEST", "('tiny',)", "MODEL.DETR.NUM_CLASSES", "2"),
        *("SOLVER.MAX_ITER", "30"),
        code=1,
    )
    last = log.strip().splitlines()[-1]
    assert last.startswith("error: The training in") and "Traceback" not in log
    assert "its checkpoint is of 8 classes (circle, square" in last
    assert "dataset tiny has 2 classes (car, road). Start another" in last
    assert sorted(trained.glob("model_*.pth")) == before


def test_more_gpus_than_there_are_is_one_sentence(tmp_path):
    log = train_net(tmp_path, "--num-gpus", "99", code=1)
    # Where there is CUDA and no GPU, PyTorch says so before.
    assert log.strip().splitlines()[-1].startswith("error: --num-gpus 99, but PyTorch finds")
    assert "Traceback" not in log


def test_evaluating_alone_gives_the_result_of_the_training(trained, tmp_path):
    by_name = CONFIG.removeprefix("configs/")  # found among those that are shipped
    expected = [x for x in metrics_of(trained) if "panoptic_seg/PQ" in x][-1]
    weights = sorted(trained.glob("model_*.pth"))[-1]
    log = run(
        *("train_net", "--config-file", by_name, "--eval-only", "OUTPUT_DIR", tmp_path, *TINY),
        *("MODEL.WEIGHTS", weights),
    )
    assert f"{expected['bbox/AP']:.4f}" in log
    assert "PQ,SQ,RQ,PQ_th" in log


def test_frozen_training_leaves_the_rest_to_the_last_bit(trained, tmp_path):
    run(
        *("train_net", "--config-file", CONFIG, "OUTPUT_DIR", tmp_path, *TINY),
        *("MODEL.WEIGHTS", trained / "model_0000009.pth"),
        *("MODEL.DETR.FREEZE_DETR", "True", "SOLVER.MAX_ITER", "4"),
    )
    before = torch.load(trained / "model_0000009.pth", weights_only=True)["model"]
    after = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    branch = {key for key in before if key.startswith(("mask_head.", "bbox_attention."))}
    # The bias of the keys adds the same to all scores of a head and so may or may not move.
    assert changed <= branch and len(changed) >= len(branch) - 2
    assert {k for k in metrics_of(tmp_path)[0] if "loss_" in k} == {"loss_mask", "loss_dice"}


def test_demo_draws_files_folders_and_globs(trained, shapes, tmp_path):
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    for name in ("a.png", "deeper/a.jpg"):
        Image.new("RGB", (60, 40), "red").save(images / name)
    log = run(
        *("demo", "--config-file", CONFIG),
        *("--input", images, images / "a.png", f"{shapes}/val/*1.jpg"),
        *("--output", tmp_path / "out", *TINY, "MODEL.WEIGHTS", trained / "model_0000009.pth"),
    )
    assert "3 pictures" in log
    pictures = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.png"))
    assert pictures == ["000001.png", "a.png", "deeper/a.png"]
    assert Image.open(tmp_path / "out/a.png").width == 3 * 480


def test_demo_draws_ground_truth_and_goes_on_after_a_bad_image(trained, shapes, tmp_path):
    weights = ("MODEL.WEIGHTS", trained / "model_0000009.pth")
    run(
        *("demo", "--config-file", CONFIG, "--output", tmp_path / "out", "--limit", 2),
        *("--dataset", "shapes_panoptic_val", *TINY, *weights),
    )
    pictures = sorted(tmp_path.glob("out/*.png"))
    assert len(pictures) == 2 and Image.open(pictures[0]).width == 4 * 480

    (tmp_path / "bad.jpg").write_text("no image")
    Image.new("RGB", (60, 40)).save(tmp_path / "good.jpg")
    log = run(
        *("demo", "--config-file", CONFIG, "--input", tmp_path / "*.jpg"),
        *("--output", tmp_path / "more", *TINY, *weights),
        code=1,
    )
    assert "bad.jpg is not an image" in log and "1 pictures" in log


def test_demo_draws_a_video(trained, shapes, tmp_path):
    images = [cv2.imread(str(path)) for path in sorted((shapes / "val").glob("*.jpg"))]
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    video = cv2.VideoWriter(str(tmp_path / "shapes.mp4"), codec, 5, (96, 80))
    for image in images:
        video.write(cv2.resize(image, (96, 80)))
    video.release()
    weights = ("MODEL.WEIGHTS", trained / "model_0000009.pth")
    log = run(
        *("demo", "--config-file", CONFIG, "--video", tmp_path / "shapes.mp4"),
        *("--output", tmp_path / "out", *TINY, *weights),
    )
    assert f"{len(images)} frames in" in log
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "shapes-drawn.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == len(images)
    assert drawn.get(cv2.CAP_PROP_FRAME_WIDTH) == 480

    (tmp_path / "bad.mp4").write_text("no video")
    bad = ("--video", tmp_path / "bad.mp4", "--output", tmp_path / "out", *TINY, *weights)
    log = run("demo", "--config-file", CONFIG, *bad, code=1)
    assert log.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in log


@pytest.mark.parametrize("config", [CONFIG, FPN_CONFIG])
def test_visualize_data_draws_what_the_model_is_fed(config, shapes, tmp_path):
    run("visualize_data", "--config-file", config, "--output", tmp_path, "--limit", 2, *TINY)
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 2 and Image.open(pictures[0]).width == 3 * 480


def test_bad_input_is_one_sentence():
    log = run("train_net", "--config-file", CONFIG, "MODEL.DETR.NUM_CLASSES", "9", code=1)
    assert log.strip().splitlines()[-1].startswith("error: Dataset shapes_panoptic_train has 8")
    assert "Traceback" not in log


def test_missing_coco_is_said_before_weights_are_looked_for(tmp_path):
    config = "configs/COCO-PanopticSegmentation/panoptic_detr_R_50.yaml"
    weights = ("MODEL.WEIGHTS", "absent.pth")
    log = run(
        *("train_net", "--eval-only", "--config-file", config, "OUTPUT_DIR", tmp_path, *weights),
        code=1,
    )
    last = log.strip().splitlines()[-1]
    assert last.startswith("error: Dataset coco_2017_val_panoptic is not complete")
    assert "Traceback" not in log


def test_predictor_takes_one_image_or_several(trained, shapes):
    from detr_d2.engine import Predictor, setup_cfg
    from detr_d2.errors import UserError

    weights = ["MODEL.WEIGHTS", str(trained / "model_0000009.pth")]
    predictor = Predictor(setup_cfg(str(REPOSITORY / CONFIG), [*TINY, *weights]))
    image = cv2.imread(str(shapes / "val" / "000000.jpg"))
    small = image[:50, :70]
    alone, (first, second) = predictor(image), predictor([small, image])
    assert alone["panoptic_seg"][0].shape == image.shape[:2]
    assert first["panoptic_seg"][0].shape == small.shape[:2]
    assert torch.equal(alone["panoptic_seg"][0], second["panoptic_seg"][0])
    assert torch.equal(alone["instances"].scores, second["instances"].scores)
    assert predictor([]) == []
    with pytest.raises(UserError, match="float32"):
        predictor(image.astype(np.float32))


def test_an_image_is_explained(shapes, tmp_path):
    arguments = ("--config-file", CONFIG, "--output", tmp_path)
    dataset = ("--dataset", "shapes_panoptic_val", "--index")
    log = run("explain", *arguments, *dataset, 1, "MODEL.WEIGHTS", SHIPPED)
    assert "index.html" in log and "weights of detr_d2" in log
    assert (tmp_path / "index.html").stat().st_size > 50_000
    assert (tmp_path / "figures" / "panoptic.png").exists()
    content = json.loads((tmp_path / "trace.json").read_text())
    assert content["image"] == "000001.jpg"
    assert {"memory", "maps", "panoptic_seg"} <= {row["name"] for row in content["tensors"]}
    assert "give --index 0 to 5" in run("explain", *arguments, *dataset, 6, code=1)
    text = run("explain", "--config-file", FPN_CONFIG, *arguments[2:], *dataset, 1, *TINY, code=1)
    assert "PanopticFPN cannot be traced" in text
