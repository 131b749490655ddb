"""Hugging Face's panoptic results and ours are the same, once its rules are made DETR's.

Its rules differ in four ways from [DETR 4.4] and from the official code. They are made alike:
- it weighs masks by their scores: here, all scores are 1, since the classes are so sure;
- it resizes probabilities, not logits: here, it gets logits that have the size of the image;
- it drops segments by their overlap, not by their area: here, neither drops any;
- it may give the same id twice after it has united stuff: here, the test unites.
"""

import pytest
import torch
import torch.nn.functional as F
from small_models import PANOPTIC, randomise
from test_huggingface_parity import DEPTHS, load_ours, their_config

transformers = pytest.importorskip(
    "transformers", minversion="5.0", reason="parity is against transformers 5, not installed"
)

QUERIES = 30
LABELS = [0, 0, 17, 90, 90, 119, 133]  # things, stuff, and no-object


@torch.no_grad()
def be_sure(ours, theirs, images):
    """A class head that says of each query one of `LABELS` for these images, beyond doubt."""
    hs = ours.predict(images, all_layers=False).hs[-1, 0]
    wanted = torch.zeros(134, QUERIES, dtype=hs.dtype)
    wanted[torch.tensor(LABELS)[torch.randint(len(LABELS), (QUERIES,))], range(QUERIES)] = 100
    weight = wanted @ torch.linalg.pinv(hs.T - hs.mean(0)[:, None])
    for head in (ours.class_embed, theirs.detr.class_labels_classifier):
        head.weight.copy_(weight)
        head.bias.copy_(-weight @ hs.mean(0))


def segments_of_theirs(outputs, size, is_thing):
    """{(class, its pixels as bytes)}, the stuff of one class united."""
    outputs.pred_masks = F.interpolate(outputs.pred_masks, size, mode="bilinear")
    (result,) = transformers.DetrImageProcessor().post_process_panoptic_segmentation(
        outputs, threshold=0.85, mask_threshold=0, overlap_mask_area_threshold=0
    )
    assert {info["score"] for info in result["segments_info"]} == {1.0}
    things, stuff = [], {}
    for info in result["segments_info"]:
        label, pixels = info["label_id"], result["segmentation"] == info["id"]
        if is_thing[label]:
            things.append((label, pixels))
        else:
            stuff[label] = stuff.get(label, False) | pixels
    # There is something of all kinds to compare.
    assert things and stuff and len(things) + len(stuff) < len(result["segments_info"])
    return {(label, pixels.numpy().tobytes()) for label, pixels in (*things, *stuff.items())}


@pytest.mark.parametrize("size", [(96, 75), (61, 130)])
def test_panoptic_result(tmp_path, size):
    """From the image to its segments, in float64, so that no rounding moves a pixel."""
    config = their_config(DEPTHS["R50"], num_queries=QUERIES)
    theirs = randomise(transformers.DetrForSegmentation(config).eval())
    with torch.no_grad():  # let masks differ much from query to query
        theirs.mask_head.conv1.conv.weight[:, config.d_model :] *= 100
    theirs.save_pretrained(tmp_path)
    changes = {
        "MODEL.DETR.NUM_OBJECT_QUERIES": QUERIES,
        "MODEL.DETR.PANOPTIC.SMALL_SEGMENT_AREA": 0,
    }
    ours, theirs = load_ours(tmp_path, PANOPTIC, changes).double(), theirs.double()

    inputs = [{"image": torch.randint(256, (3, *size))}]
    images = ours.preprocess(inputs)
    be_sure(ours, theirs, images)
    with torch.no_grad():
        outputs = theirs(pixel_values=images.tensor)
    segment_map, infos = ours(inputs)[0]["panoptic_seg"]
    found = {(i["category_id"], (segment_map == i["id"]).numpy().tobytes()) for i in infos}
    assert found == segments_of_theirs(outputs, size, ours.is_thing)
