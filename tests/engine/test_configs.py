"""Every YAML of configs/ builds the model that it names."""

from pathlib import Path

import pytest
import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from detr_d2 import add_detr_config
from detr_d2.checkpoint.classes import Classes
from detr_d2.checkpoint.formats import About, record
from detr_d2.classes import panoptic_classes
from detr_d2.data import register_panoptic_dataset
from detr_d2.engine import setup_cfg
from detr_d2.engine.defaults import number_classes_like_weights
from detr_d2.errors import UserError
from detr_d2.modeling import UnifiedPanopticFPN

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))


@pytest.fixture
def forget_datasets():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def read(file):
    """A configuration, for the CPU; those of the photographs want them to be at hand."""
    path = str(CONFIGS / file)
    overrides = ["MODEL.DEVICE", "cpu"]
    photographs = CONFIGS.parents[1] / "shared" / "data"
    if file.startswith(("CamVid", "COCO-Sample")):
        if not photographs.is_dir():
            pytest.skip("the real photographs are not here (../shared/data)")
        overrides += ["DATASETS.ROOT", str(photographs)]
    return setup_cfg(path, overrides)


@pytest.mark.parametrize("file", FILES)
def test_builds(file, forget_datasets):
    cfg = read(file)
    if "timm" in file or "ViT" in file:
        pytest.importorskip("timm")
    # Layers repeat themselves: one of each shows that all can be built.
    cfg.defrost()
    cfg.MODEL.DETR.ENC_LAYERS = cfg.MODEL.DETR.DEC_LAYERS = 1
    cfg.MODEL.VIT.DEPTH = 2
    cfg.MODEL.TIMM.PRETRAINED = False  # there is no network here
    model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    if isinstance(model, UnifiedPanopticFPN):
        assert model.sem_seg_head.predictor.out_channels == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    else:
        assert model.class_embed.out_features == cfg.MODEL.DETR.NUM_CLASSES + 1


@pytest.mark.parametrize("file", FILES)
def test_has_at_most_three_bases_and_restates_nothing(file):
    chain = [CONFIGS / file]
    while "_BASE_" in (content := yaml.safe_load(chain[-1].read_text())):
        chain.append((chain[-1].parent / content["_BASE_"]).resolve())
    assert len(chain) <= 4
    if len(chain) == 1:
        return  # the bases state what is official, also where Detectron2 has the same

    base = get_cfg()
    add_detr_config(base)
    base.merge_from_file(str(chain[1]))
    own = yaml.safe_load(chain[0].read_text())
    own.pop("_BASE_", None)
    restated = [key for key, value in leaves(own) if value_at(base, key) == value]
    assert restated == []


def leaves(node, prefix=()):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def value_at(cfg, key):
    for part in key:
        if part not in cfg:
            return None
        cfg = cfg[part]
    return str(cfg) if isinstance(cfg, tuple) else cfg


def test_the_official_hyper_parameters():
    cfg = setup_cfg(str(CONFIGS / "COCO-PanopticSegmentation/panoptic_detr_R_50_joint.yaml"))
    detr, solver = cfg.MODEL.DETR, cfg.SOLVER
    assert (detr.HIDDEN_DIM, detr.NHEADS, detr.ENC_LAYERS, detr.DEC_LAYERS) == (256, 8, 6, 6)
    assert (detr.DIM_FEEDFORWARD, detr.DROPOUT, detr.NUM_OBJECT_QUERIES) == (2048, 0.1, 100)
    assert (detr.COST_CLASS, detr.COST_L1, detr.COST_GIOU) == (1, 5, 2)
    assert (detr.CLASS_WEIGHT, detr.L1_WEIGHT, detr.GIOU_WEIGHT) == (1, 5, 2)
    assert (detr.MASK_WEIGHT, detr.DICE_WEIGHT, detr.NO_OBJECT_WEIGHT) == (1, 1, 0.1)
    assert (solver.BASE_LR, solver.BACKBONE_MULTIPLIER, solver.WEIGHT_DECAY) == (1e-4, 0.1, 1e-4)
    assert (solver.CLIP_GRADIENTS.CLIP_VALUE, solver.IMS_PER_BATCH) == (0.1, 64)
    assert pytest.approx(300 * 118287 / 64, rel=1e-3) == solver.MAX_ITER
    assert pytest.approx((200 * 118287 / 64,), rel=1e-3) == solver.STEPS


@pytest.mark.parametrize("name", ["R_50_1x", "R_50_3x", "R_101_3x"])
def test_panoptic_fpn_on_coco_is_detectron2s(name):
    """All that decides the model and its training; the datasets are the standard ones here."""
    own = setup_cfg(str(CONFIGS / f"COCO-PanopticSegmentation/panoptic_fpn_{name}.yaml"))
    upstream = model_zoo.get_config(f"COCO-PanopticSegmentation/panoptic_fpn_{name}.yaml")
    for part in ("MODEL", "INPUT", "SOLVER", "TEST", "DATALOADER"):
        differing = {
            ".".join(key)
            for key, value in leaves(upstream[part], (part,))
            if value_at(own, key) != (str(value) if isinstance(value, tuple) else value)
        }
        assert differing <= {"MODEL.META_ARCHITECTURE"}


@pytest.mark.parametrize(
    "detr, fpn",
    [
        ("Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml", "R_18_narrow"),
        ("CamVid-PanopticSegmentation/panoptic_detr_R_18.yaml", "R_18"),
    ],
)
def test_panoptic_fpn_sees_what_detr_sees(detr, fpn, forget_datasets):
    detr = Path(detr)
    one, other = read(str(detr)), read(str(detr.with_name(f"panoptic_fpn_{fpn}.yaml")))
    assert one.INPUT == other.INPUT and one.DATASETS == other.DATASETS
    assert one.MODEL.PIXEL_MEAN == other.MODEL.PIXEL_MEAN
    assert {**one.MODEL.RESNETS, "RES5_DILATION": 1} == other.MODEL.RESNETS
    for key in ("IMS_PER_BATCH", "OPTIMIZER", "BASE_LR", "BACKBONE_MULTIPLIER", "WEIGHT_DECAY"):
        assert one.SOLVER[key] == other.SOLVER[key]


def test_panoptic_fpn_names_the_numbers_of_classes_that_do_not_fit():
    path = str(CONFIGS / "Shapes-PanopticSegmentation/panoptic_fpn_R_18_narrow.yaml")
    with pytest.raises(UserError, match=r"4 things and 4 stuff.*SEM_SEG_HEAD\.NUM_CLASSES 5"):
        setup_cfg(path, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "54"])
    with pytest.raises(UserError, match=r"ROI_HEADS\.NUM_CLASSES 4"):
        setup_cfg(path, ["MODEL.ROI_HEADS.NUM_CLASSES", "80"])


def test_panoptic_fpn_says_that_it_needs_things(tiny_dataset, forget_datasets):
    folder, write = tiny_dataset
    write(categories=[{"id": 9, "name": "road", "isthing": 0}])
    paths = [str(folder / x) for x in ("images", "panoptic", "panoptic.json")]
    register_panoptic_dataset("stuff_only", *paths)
    path = str(CONFIGS / "Shapes-PanopticSegmentation/panoptic_fpn_R_18_narrow.yaml")
    with pytest.raises(UserError, match=r"Dataset stuff_only has no things.*PanopticDETR"):
        setup_cfg(path, ["DATASETS.TRAIN", "('stuff_only',)"])


def test_a_wrong_number_of_classes_is_said_before_anything_is_built():
    path = str(CONFIGS / "COCO-Detection/detr_R_50.yaml")
    with pytest.raises(UserError, match=r"coco_2017_train has 80 classes.*NUM_CLASSES 80"):
        setup_cfg(path, ["MODEL.DETR.NUM_CLASSES", "91"])


def test_an_unknown_dataset_is_named():
    path = str(CONFIGS / "COCO-Detection/detr_R_50.yaml")
    with pytest.raises(UserError, match="There is no dataset coco_2018_train"):
        setup_cfg(path, ["DATASETS.TRAIN", "('coco_2018_train',)"])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["MODEL.WIGHTS", "model.pth"], "MODEL.WIGHTS"),
        (["MODEL.WEIGHTS"], "odd length"),
        (["SOLVER.MAX_ITER", "many"], "ype mismatch.*SOLVER.MAX_ITER"),
    ],
)
def test_a_wrong_override_is_one_sentence(overrides, reason):
    path = str(CONFIGS / "COCO-Detection/detr_R_50.yaml")
    with pytest.raises(UserError, match=f"detr_R_50.yaml: .*{reason}.* Correct the key"):
        setup_cfg(path, overrides)


def test_a_wrong_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"There is no configuration nowhere\.yaml"):
        setup_cfg("nowhere.yaml")
    (tmp_path / "a.yaml").write_text("MODEL:\n  WIGHTS: ''\n")
    with pytest.raises(UserError, match=r"a.yaml: .*MODEL.WIGHTS"):
        setup_cfg(str(tmp_path / "a.yaml"))


def test_missing_data_says_where_it_was_looked_for(tmp_path):
    path = str(CONFIGS / "CamVid-PanopticSegmentation/panoptic_detr_R_18.yaml")
    with pytest.raises(UserError, match=r"panoptic_train\.json.*DATASETS\.ROOT"):
        setup_cfg(path, ["DATASETS.ROOT", str(tmp_path)])


def test_a_dataset_of_the_base_may_be_absent_where_it_is_not_used(tiny_dataset, forget_datasets):
    folder, _ = tiny_dataset
    own = [
        *("DATASETS.REGISTER.own", "['images', 'panoptic', 'panoptic.json']"),
        *("DATASETS.TRAIN", "('own',)", "DATASETS.TEST", "('own',)"),
        *("DATASETS.ROOT", str(folder), "MODEL.DETR.NUM_CLASSES", "2"),
    ]
    setup_cfg(str(CONFIGS / "CamVid-PanopticSegmentation/panoptic_detr_R_18.yaml"), own)
    assert "own" in DatasetCatalog.list()
    assert "camvid_panoptic_val" not in DatasetCatalog.list()


def test_without_the_data_classes_are_those_of_the_weights(tmp_path, forget_datasets):
    categories = [
        {"id": 9, "name": "road", "isthing": 0, "color": [1, 2, 3]},
        {"id": 3, "name": "car", "isthing": 1, "color": [4, 5, 6]},
    ]
    about = record(Classes(("road", "car"), (9, 3)), About(categories=categories))
    weights = {"class_embed.weight": torch.zeros(3, 8), "class_embed.bias": torch.zeros(3)}
    torch.save({"model": weights, "detr_d2": about}, tmp_path / "model.pth")
    path = str(CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml")
    overrides = [
        *("DATASETS.REGISTER.gone", "['images', 'panoptic', 'panoptic.json']"),
        *("DATASETS.ROOT", str(tmp_path), "MODEL.DETR.NUM_CLASSES", "2"),
        *("DATASETS.TRAIN", "('gone',)", "DATASETS.TEST", "('gone',)"),
    ]
    with pytest.raises(UserError, match=r"panoptic\.json.*DATASETS\.ROOT"):
        setup_cfg(path, [*overrides, "MODEL.WEIGHTS", str(tmp_path / "absent.pth")])
    cfg = setup_cfg(path, [*overrides, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    metadata = MetadataCatalog.get("gone")
    assert metadata.thing_classes == ["road", "car"]  # as the rows of the weights are
    assert metadata.thing_colors == [(1, 2, 3), (4, 5, 6)]
    assert panoptic_classes(cfg).things == [1]
    with pytest.raises(UserError, match=r"panoptic\.json.*DATASETS\.ROOT"):
        DatasetCatalog.get("gone")


@pytest.mark.parametrize("recorded", [("road", "car"), ("road", "van")])
def test_the_classes_of_weights_give_the_order_where_they_are_the_same(
    tiny_dataset, tmp_path, forget_datasets, recorded
):
    folder, _ = tiny_dataset
    categories = [
        {"id": n, "name": name, "isthing": int(name != "road")} for n, name in enumerate(recorded)
    ]
    about = record(Classes(recorded, (0, 1)), About(categories=categories))
    weights = {"class_embed.weight": torch.zeros(3, 8), "class_embed.bias": torch.zeros(3)}
    torch.save({"model": weights, "detr_d2": about}, tmp_path / "model.pth")
    overrides = [
        *("DATASETS.REGISTER.own", "['images', 'panoptic', 'panoptic.json']"),
        *("DATASETS.ROOT", str(folder), "MODEL.DETR.NUM_CLASSES", "2"),
        *("DATASETS.TRAIN", "('own',)", "DATASETS.TEST", "('own',)"),
        *("MODEL.WEIGHTS", str(tmp_path / "model.pth")),
    ]
    path = str(CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml")
    number_classes_like_weights(setup_cfg(path, overrides))
    expected = ["road", "car"] if recorded == ("road", "car") else ["car", "road"]
    assert MetadataCatalog.get("own").thing_classes == expected
    (only,) = DatasetCatalog.get("own")
    names = [expected[s["category_id"]] for s in only["segments_info"]]
    assert names == ["car", "road"]


def test_a_dataset_is_registered_on_the_command_line(tiny_dataset, forget_datasets):
    folder, _ = tiny_dataset
    path = str(CONFIGS / "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml")
    cfg = setup_cfg(
        path,
        [
            *("DATASETS.REGISTER.own_train", "['images', 'panoptic', 'panoptic.json']"),
            *("DATASETS.REGISTER.own_val", f"['{folder}/images', 'panoptic', 'panoptic.json']"),
            *("DATASETS.ROOT", str(folder)),
            *("DATASETS.TRAIN", "('own_train',)", "DATASETS.TEST", "('own_val',)"),
            *("MODEL.DETR.NUM_CLASSES", "2"),
        ],
    )
    assert cfg.DATASETS.REGISTER.own_train == ["images", "panoptic", "panoptic.json"]
    assert MetadataCatalog.get("own_train").thing_classes == ["car", "road"]
    (only,) = DatasetCatalog.get("own_val")
    assert only["file_name"] == str(folder / "images" / "a.png")
