"""Hugging Face's independent DETR and ours give the same, from the same weights.

Models are small but whole; weights and images are random. `test_full_size` has the real sizes.
Seen: relative errors of at most 7e-15 in float64, 3e-6 in float32.
"""

import pytest
import torch
from detectron2.structures import ImageList
from small_models import BOXES, PANOPTIC, STANDARD_WIDTHS, randomise, small_model

from detr_d2.checkpoint import Checkpointer, convert

transformers = pytest.importorskip(
    "transformers", minversion="5.0", reason="parity is against transformers 5, not installed"
)
safetensors = pytest.importorskip("safetensors.torch", reason="comes with transformers")

# Relative to the largest value.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
DEPTHS = {"R50": (3, 4, 6, 3), "R101": (3, 4, 23, 3)}


def their_config(depths, **changes):
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[32, 64, 128, 256],
        depths=list(depths),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        **{
            "d_model": 128,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "num_queries": 7,
            "id2label": {row: f"LABEL_{row}" for row in range(133)},
            **changes,
        },
    )


def dilate_last_stage(backbone):
    """DC5 of the paper, on transformers' ResNet, which has no switch for it.

    The first block loses its stride, the others are dilated twofold.
    """
    first, *others = backbone.encoder.stages[3].layers
    first.layer[1].convolution.stride = first.shortcut.convolution.stride = (1, 1)
    for block in others:
        block.layer[1].convolution.dilation = block.layer[1].convolution.padding = (2, 2)


def load_ours(folder, config_file, changes):
    ours, cfg = small_model(config_file, changes)
    Checkpointer.from_config(cfg, ours).load(str(folder))
    return ours


def image_list(sizes, dtype):
    """Padded at the right and the bottom with zeros, as `DETR.preprocess` does."""
    return ImageList.from_tensors([torch.randn(3, *size, dtype=dtype) for size in sizes])


def pixel_mask(images):
    mask = torch.zeros(len(images), *images.tensor.shape[-2:], dtype=torch.long)
    for row, (height, width) in zip(mask, images.image_sizes):
        row[:height, :width] = 1
    return mask


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < TOLERANCE[theirs.dtype], f"relative error {error:.1e}"
    # Numbers that hardly differ among themselves would be alike for any reason.
    assert theirs.std() > 1e-3 * theirs.abs().max()


def compare(ours, theirs, images):
    """Logits, boxes, and where there are any, attention maps and masks of all queries."""
    maps = []
    if hasattr(theirs, "bbox_attention"):
        theirs.bbox_attention.register_forward_hook(lambda *args: maps.append(args[-1]))
    with torch.no_grad():
        expected = theirs(pixel_values=images.tensor, pixel_mask=pixel_mask(images))
        predictions = ours.predict(images, all_layers=False)
        logits, boxes = predictions.logits[-1], predictions.boxes[-1]
        if maps:
            queries = [torch.arange(logits.shape[1])] * len(images)
            embeddings = [predictions.hs[-1][b] for b in range(len(images))]
            our_maps = ours.bbox_attention(embeddings, predictions.memory, predictions.padding_mask)
            assert_same(our_maps, maps[0].flatten(0, 1))
            assert_same(ours.masks(predictions, queries), expected.pred_masks.flatten(0, 1))
    assert_same(logits, expected.logits)
    assert_same(boxes, expected.pred_boxes)


SIZES = {
    "padded": [(96, 75), (61, 130)],
    "unpadded": [(97, 71)],
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=("float64", "float32"))
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(
    ("depth", "dc5"), [("R50", False), ("R50", True), ("R101", False)], ids=("R50", "DC5", "R101")
)
def test_panoptic(tmp_path, depth, dc5, sizes, dtype):
    theirs = transformers.DetrForSegmentation(their_config(DEPTHS[depth]))
    theirs = randomise(theirs.eval())
    theirs.save_pretrained(tmp_path)
    if dc5:
        dilate_last_stage(theirs.detr.model.backbone.model)
    changes = {"MODEL.RESNETS.DEPTH": int(depth[1:]), "MODEL.RESNETS.RES5_DILATION": 1 + dc5}
    ours = load_ours(tmp_path, PANOPTIC, {**changes, "MODEL.DETR.NUM_CLASSES": 133})
    compare(ours.to(dtype), theirs.to(dtype), image_list(sizes, dtype))


def test_boxes_from_raw_rows(tmp_path):
    """The official 92 rows, by raw COCO id: ours are those of the 80 ids that categories have."""
    from detectron2.data import MetadataCatalog

    config = their_config(DEPTHS["R50"], id2label={row: f"LABEL_{row}" for row in range(91)})
    theirs = randomise(transformers.DetrForObjectDetection(config).eval())
    theirs.save_pretrained(tmp_path)
    ours = load_ours(tmp_path, BOXES, {}).double()
    row_of = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id
    rows = [*row_of, 91]
    assert list(row_of.values()) == list(range(80))

    images = image_list(SIZES["padded"], torch.float64)
    with torch.no_grad():
        expected = theirs.double()(pixel_values=images.tensor, pixel_mask=pixel_mask(images))
        predictions = ours.predict(images, all_layers=False)
        logits, boxes = predictions.logits[-1], predictions.boxes[-1]
    assert_same(logits, expected.logits[..., rows])
    assert_same(boxes, expected.pred_boxes)


def test_learned_positions(tmp_path):
    config = their_config(DEPTHS["R50"], position_embedding_type="learned")
    theirs = randomise(transformers.DetrForSegmentation(config).eval())
    theirs.save_pretrained(tmp_path)
    changes = {"MODEL.DETR.POSITION_ENCODING": "PositionEmbeddingLearned"}
    ours = load_ours(tmp_path, PANOPTIC, changes)
    compare(ours.double(), theirs.double(), image_list(SIZES["padded"], torch.float64))


@pytest.mark.parametrize("names", ["of files", "in memory"])
def test_pytorch_bin(tmp_path, names):
    """Older folders have a .bin; a state dict that a person saved has the names of memory."""
    theirs = randomise(transformers.DetrForSegmentation(their_config(DEPTHS["R50"])).eval())
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = safetensors.load_file(file) if names == "of files" else theirs.state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    file.unlink()
    ours = load_ours(tmp_path, PANOPTIC, {})
    compare(ours.double(), theirs.double(), image_list(SIZES["padded"], torch.float64))


def from_pretrained(folder):
    """The model that transformers loads, which has to find all that it looks for."""
    architecture = transformers.AutoConfig.from_pretrained(folder).architectures[0]
    theirs, info = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info.values()), info
    return theirs.eval()


@pytest.mark.parametrize("depth", [18, 101])
@pytest.mark.parametrize(
    ("config_file", "d_model", "num_heads"), [(BOXES, 64, 4), (PANOPTIC, 256, 16)]
)
def test_converted(tmp_path, config_file, d_model, num_heads, depth):
    changes = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.DETR.HIDDEN_DIM": d_model,
        "MODEL.DETR.NHEADS": num_heads,
        "MODEL.DETR.DEC_LAYERS": 3,
    }
    ours, cfg = small_model(config_file, changes)
    Checkpointer.from_config(cfg, ours, str(tmp_path)).save("model")
    convert(str(tmp_path / "model.pth"), str(tmp_path / "theirs"), "huggingface")
    theirs = from_pretrained(tmp_path / "theirs")
    compare(ours.double(), theirs.double(), image_list(SIZES["padded"], torch.float64))
    assert theirs.config.id2label[2] == "car"


def test_converted_dc5(tmp_path):
    """transformers has DC5 with timm's backbone alone."""
    pytest.importorskip("timm", reason="transformers' DC5 needs timm, which is not installed")
    changes = {"MODEL.RESNETS.RES5_DILATION": 2, **STANDARD_WIDTHS}
    ours, cfg = small_model(PANOPTIC, changes)
    Checkpointer.from_config(cfg, ours, str(tmp_path)).save("model")
    convert(str(tmp_path / "model.pth"), str(tmp_path / "theirs"), "huggingface")
    theirs = from_pretrained(tmp_path / "theirs")
    compare(ours.double(), theirs.double(), image_list(SIZES["padded"], torch.float64))
    ours.load_state_dict(small_model(PANOPTIC, changes)[0].state_dict())
    Checkpointer.from_config(cfg, ours).load(str(tmp_path / "theirs"))
    compare(ours.double(), theirs.double(), image_list(SIZES["unpadded"], torch.float64))


def test_full_size(tmp_path):
    """R50, d = 256, six layers each, 100 queries."""
    full_size = {
        **STANDARD_WIDTHS,
        "MODEL.DETR.HIDDEN_DIM": 256,
        "MODEL.DETR.DIM_FEEDFORWARD": 2048,
        "MODEL.DETR.ENC_LAYERS": 6,
        "MODEL.DETR.DEC_LAYERS": 6,
        "MODEL.DETR.NUM_OBJECT_QUERIES": 100,
    }
    ours, cfg = small_model(PANOPTIC, full_size)
    Checkpointer.from_config(cfg, ours, str(tmp_path)).save("model")
    convert(str(tmp_path / "model.pth"), str(tmp_path / "theirs"), "huggingface")
    theirs = from_pretrained(tmp_path / "theirs")
    images = image_list([(128, 97)], torch.float32)
    compare(ours, theirs, images)
    compare(ours.double(), theirs.double(), ImageList(images.tensor.double(), images.image_sizes))
