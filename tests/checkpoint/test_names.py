import torch
import torchvision
from small_models import BOXES, PANOPTIC, STANDARD_WIDTHS, same_weights, small_model

from detr_d2.checkpoint import names

X = torch.zeros(1)


def renamed(name, table):
    (new,), unknown = names.rename({name: X}, table)
    return None if unknown else new


def test_official_names():
    """The names of the released files, by hand."""
    for theirs, ours in {
        "backbone.0.body.conv1.weight": "backbone.stem.conv1.weight",
        "backbone.0.body.bn1.running_var": "backbone.stem.conv1.norm.running_var",
        "backbone.0.body.layer1.0.downsample.0.weight": "backbone.res2.0.shortcut.weight",
        "backbone.0.body.layer1.0.downsample.1.bias": "backbone.res2.0.shortcut.norm.bias",
        "backbone.0.body.layer3.22.conv3.weight": "backbone.res4.22.conv3.weight",
        "backbone.0.body.layer4.2.bn2.running_mean": "backbone.res5.2.conv2.norm.running_mean",
        "backbone.1.row_embed.weight": "position_encoding.row_embed.weight",
        "transformer.encoder.layers.5.self_attn.in_proj_weight": None,
        "transformer.decoder.layers.0.multihead_attn.out_proj.bias": None,
        "transformer.decoder.norm.weight": None,
        "input_proj.weight": None,
        "query_embed.weight": None,
        "class_embed.bias": None,
        "bbox_embed.layers.2.weight": None,
        "bbox_attention.q_linear.weight": None,
        "mask_head.lay1.weight": None,
    }.items():
        assert renamed(theirs, names.OFFICIAL) == (ours or theirs)
    assert renamed("backbone.0.body.fc.weight", names.OFFICIAL) is None
    assert renamed("something.class_embed.bias", names.OFFICIAL) is None


def test_huggingface_names():
    """The names of files and, with "mlp" or "o_proj", of transformers 5 in memory, by hand."""
    encoder, decoder = "transformer.encoder.layers.1.", "transformer.decoder.layers.1."
    backbone = "model.backbone.conv_encoder.model."
    for theirs, ours in {
        backbone + "layer2.0.downsample.0.weight": "backbone.res3.0.shortcut.weight",
        backbone + "embedder.embedder.convolution.weight": "backbone.stem.conv1.weight",
        backbone + "encoder.stages.1.layers.3.layer.2.normalization.bias": (
            "backbone.res3.3.conv3.norm.bias"
        ),
        "model.backbone.model.encoder.stages.3.layers.0.shortcut.convolution.weight": (
            "backbone.res5.0.shortcut.weight"
        ),
        "model.encoder.layers.1.self_attn.q_proj.weight": encoder + "self_attn.q_proj.weight",
        "model.encoder.layers.1.self_attn.o_proj.bias": encoder + "self_attn.out_proj.bias",
        "model.encoder.layers.1.self_attn_layer_norm.bias": encoder + "norm1.bias",
        "model.encoder.layers.1.mlp.fc1.weight": encoder + "linear1.weight",
        "model.encoder.layers.1.final_layer_norm.weight": encoder + "norm2.weight",
        "model.decoder.layers.1.encoder_attn.k_proj.bias": decoder + "multihead_attn.k_proj.bias",
        "model.decoder.layers.1.encoder_attn_layer_norm.bias": decoder + "norm2.bias",
        "model.decoder.layers.1.fc2.bias": decoder + "linear2.bias",
        "model.decoder.layers.1.final_layer_norm.bias": decoder + "norm3.bias",
        "model.decoder.layernorm.bias": "transformer.decoder.norm.bias",
        "model.query_position_embeddings.weight": "query_embed.weight",
        "model.input_projection.bias": "input_proj.bias",
        "class_labels_classifier.bias": "class_embed.bias",
        "bbox_predictor.layers.1.bias": "bbox_embed.layers.1.bias",
        "bbox_attention.k_proj.weight": "bbox_attention.k_linear.weight",
        "mask_head.fpn_stages.2.fpn_adapter.weight": "mask_head.adapter3.weight",
        "mask_head.fpn_stages.0.refine.norm.bias": "mask_head.gn3.bias",
        "mask_head.output_conv.bias": "mask_head.out_lay.bias",
        "mask_head.lay4.bias": "mask_head.lay4.bias",
    }.items():
        (name,), _ = names.rename({theirs: X}, names.HUGGINGFACE_IN_MEMORY)
        assert renamed(name, names.HUGGINGFACE_ANY) == ours


def test_torchvision_names_are_complete():
    theirs = torchvision.models.resnet50().state_dict()
    ours, unknown = names.rename(theirs, names.TORCHVISION)
    assert unknown == ["fc.weight", "fc.bias"]
    model, _ = small_model(BOXES, {**STANDARD_WIDTHS, "MODEL.RESNETS.NORM": "BN"})
    shapes = {n: t.shape for n, t in model.state_dict().items() if n.startswith("backbone.")}
    assert {n: t.shape for n, t in ours.items() if n not in unknown} == shapes


def test_all_tables_have_all_names_and_go_both_ways():
    changes = {"MODEL.DETR.POSITION_ENCODING": "PositionEmbeddingLearned"}
    weights = small_model(PANOPTIC, changes)[0].state_dict()
    for table in (names.OFFICIAL, names.HUGGINGFACE, names.HUGGINGFACE_TIMM):
        theirs, unknown = names.rename_back(names.unpack_attention(weights), table)
        assert not unknown
        assert len(theirs) == len(names.unpack_attention(weights))
        ours, unknown = names.rename(theirs, table)
        assert not unknown
        assert same_weights(names.pack_attention(ours), weights)


def test_attention_is_packed_in_the_order_query_key_value():
    name = "transformer.encoder.layers.0.self_attn"
    parts = {f"{name}.{x}_proj.bias": torch.full((2,), i) for i, x in enumerate("qkv")}
    packed = names.pack_attention({"other": X, **parts})
    assert packed.keys() == {"other", f"{name}.in_proj_bias"}
    assert packed[f"{name}.in_proj_bias"].tolist() == [0, 0, 1, 1, 2, 2]
    assert same_weights(names.unpack_attention(packed), {"other": X, **parts})
    del parts[f"{name}.v_proj.bias"]
    assert names.pack_attention(parts) == parts  # left for the table of what does not fit


def test_prefixes():
    weights = {"a.b": X, "mask_head.c": X}
    prefixed = names.add_prefix(weights, "detr.", names.MASK_BRANCH_PREFIXES)
    assert list(prefixed) == ["detr.a.b", "mask_head.c"]
    assert list(names.strip_prefix(prefixed, "detr.")) == list(weights)
