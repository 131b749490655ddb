"""docs/extending.md: its code runs as it stands there, in one training with all of its parts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"
AUGMENTATIONS = re.search(r'^INPUT\.AUGMENTATIONS "(\[.*?\]\])"$', PAGE, re.M | re.S).group(1)
PARTS = [
    *("MODEL.META_ARCHITECTURE", "Calm", "MODEL.BACKBONE.NAME", "build_patches"),
    *("MODEL.PATCHES.CHANNELS", "24"),
    *("MODEL.DETR.TRANSFORMER", "WithoutEncoder", "MODEL.DETR.MASK_HEAD", "DotProduct"),
    *("MODEL.DETR.CRITERION", "LessSure", "INPUT.DATASET_MAPPER", "NoisyMapper"),
    *("INPUT.AUGMENTATIONS", AUGMENTATIONS),
]
SHORT = [
    *("MODEL.DETR.DEC_LAYERS", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2"),
    *("SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "0"),
    *("DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", ""),
]


def files() -> dict[str, str]:
    blocks = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE, re.M | re.S)
    return dict(blocks)


def train(folder: Path, imports: list[str], *overrides: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "tools/train_net.py", "--config-file", CONFIG]
    for name in imports:
        command += ["--import", str(folder / name)]
    command += [*SHORT, *overrides, "OUTPUT_DIR", str(folder / "out")]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=False
    )


@pytest.fixture
def own(shapes, tmp_path) -> Path:
    for name, code in files().items():
        (tmp_path / name).write_text(code)
    return tmp_path


def test_all_parts_of_the_page_train_and_are_evaluated(own):
    finished = train(own, list(files()), *PARTS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(files()) == 7
    lines = (own / "out" / "metrics.json").read_text().splitlines()
    metrics = {k: v for line in lines for k, v in json.loads(line).items()}
    assert metrics["loss_sureness"] < 0
    assert 0 <= metrics["panoptic_seg/PQ"] <= 100
    written = (own / "out" / "config.yaml").read_text()
    assert "CHANNELS: 24" in written


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["MODEL.DETR.TRANSFORMER", "Nothing"], "MODEL.DETR.TRANSFORMER is Nothing"),
        (["INPUT.DATASET_MAPPER", "Nothing"], "INPUT.DATASET_MAPPER is Nothing"),
        (["INPUT.AUGMENTATIONS", "[['Nothing', {}]]"], "INPUT.AUGMENTATIONS is Nothing"),
        (["INPUT.AUGMENTATIONS", "[['RandomFlip', {'up': 1}]]"], "RandomFlip does not take"),
        (["MODEL.META_ARCHITECTURE", "Nothing"], "MODEL.META_ARCHITECTURE is Nothing"),
        (["MODEL.DETR.IN_FEATURES", "['p3']"], "and not p3"),
        (["DATALOADER.SAMPLER_TRAIN", "Nothing"], "DATALOADER.SAMPLER_TRAIN is Nothing"),
        (["INPUT.RANDOM_FLIP", "up"], "INPUT.RANDOM_FLIP is up"),
        (["IMPORTS", "['nothing.at.all']"], "There is no module nothing.at.all"),
        (["IMPORTS", "['nothing.py']"], "There is no file"),
    ],
)
def test_a_name_that_is_not_there_is_one_sentence(shapes, overrides, sentence):
    from detr_d2.engine import Trainer, setup_cfg
    from detr_d2.errors import UserError

    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        cfg = setup_cfg(str(REPOSITORY / CONFIG), [*SHORT, *overrides])
        Trainer.build_train_loader(cfg)
        Trainer.build_model(cfg)
    assert "\n" not in str(caught.value)


def test_a_file_that_a_configuration_names_is_not_run(tmp_path):
    from detr_d2.engine import setup_cfg
    from detr_d2.errors import UserError

    (tmp_path / "a.py").write_text("raise RuntimeError")
    (tmp_path / "a.yaml").write_text(f'_BASE_: "{REPOSITORY / CONFIG}"\nIMPORTS: ["a.py"]\n')
    with pytest.raises(UserError, match="give files on the command line"):
        setup_cfg(str(tmp_path / "a.yaml"))


def test_a_part_that_lacks_a_method_is_refused():
    from detr_d2.errors import UserError
    from detr_d2.part_registry import PartRegistry

    registry = PartRegistry("PART", key="MODEL.PART", needs=("forward", "losses"), contract="Both.")
    registry.register()(type("Half", (), {"forward": None}))
    with pytest.raises(UserError, match=r"MODEL\.PART Half lacks losses"):
        registry.build("Half")
    assert registry.__doc__ == "Both."


def test_own_keys_of_a_program(shapes):
    from detr_d2.engine import setup_cfg

    def add_config(cfg):
        cfg.MODEL.OWN = 3

    cfg = setup_cfg(str(REPOSITORY / CONFIG), ["MODEL.OWN", "4"], add_config=[add_config])
    assert cfg.MODEL.OWN == 4
