"""What each format calls the weights: tables of names, and renaming by them.

A table lists pairs (their name, our name), read in either direction. `{x}` stands for any text
without a dot, `{rest}` for any text; both names of a pair have the same placeholders.
Ours are the names of `DETR` and `PanopticDETR`, whose backbone is Detectron2's ResNet.
"""

import re
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Table = tuple[tuple[str, str], ...]


def rename(weights: Weights, table: Table) -> tuple[Weights, list[str]]:
    """Rename from their names to ours.

    Returns:
        The weights, and the names that the table does not know, which stay as they are.
    """
    return _rename(weights, table)


def rename_back(weights: Weights, table: Table) -> tuple[Weights, list[str]]:
    """Rename from our names to theirs; returns as `rename` does."""
    return _rename(weights, tuple((ours, theirs) for theirs, ours in table))


def _rename(weights: Weights, pairs: Table) -> tuple[Weights, list[str]]:
    renamed, unknown = {}, []
    for name, tensor in weights.items():
        new = next((n for pair in pairs if (n := _translate(name, *pair)) is not None), None)
        if new is None:
            unknown.append(name)
        renamed[name if new is None else new] = tensor
    return renamed, unknown


def _translate(name: str, template: str, new_template: str) -> str | None:
    match = _pattern(template).fullmatch(name)
    return new_template.format(**match.groupdict()) if match else None


@cache
def _pattern(template: str) -> re.Pattern:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    escaped = escaped.replace("{rest}", "(?P<rest>.+)")
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^.]+)", escaped))


def strip_prefix(weights: Weights, prefix: str) -> Weights:
    """Take `prefix` off the names that have it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def add_prefix(weights: Weights, prefix: str, but_not: Iterable[str]) -> Weights:
    """Put `prefix` before all names but those that start with one of `but_not`."""
    but_not = tuple(but_not)
    return {n if n.startswith(but_not) else prefix + n: tensor for n, tensor in weights.items()}


# Where a backbone that is made of another one has it: pyramids over a ResNet or Swin, and ViTDet's.
_WITHIN = ("backbone.bottom_up.", "backbone.net.")


def within_the_backbone(weights: Weights, model: Iterable[str]) -> Weights:
    """Rename a plain backbone's weights to where the model has them within its own backbone.

    Args:
        model: the names of the model's weights.
    """
    names = set(model)

    def place(name: str) -> str:
        rest = name.removeprefix("backbone.")
        if name == rest or name in names:
            return name
        return next((within + rest for within in _WITHIN if within + rest in names), name)

    return {place(name): tensor for name, tensor in weights.items()}


def _prefixed(table: Table, theirs: str, ours: str) -> Table:
    return tuple((theirs + a, ours + b) for a, b in table)


def _same(*names: str) -> Table:
    return tuple((name, name) for name in names)


# The ResNet as torchvision, and timm, name it.
_TORCHVISION_STAGES = tuple(
    (f"layer{stage}.{{block}}.{theirs}", f"res{stage + 1}.{{block}}.{ours}")
    for stage in range(1, 5)
    for theirs, ours in (
        ("conv{i}.weight", "conv{i}.weight"),
        ("bn{i}.{stat}", "conv{i}.norm.{stat}"),
        ("downsample.0.weight", "shortcut.weight"),
        ("downsample.1.{stat}", "shortcut.norm.{stat}"),
    )
)
_TORCHVISION = (
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.{stat}", "stem.conv1.norm.{stat}"),
    *_TORCHVISION_STAGES,
)
TORCHVISION = _prefixed(_TORCHVISION, "", "backbone.")

# The ResNet as transformers names it.
_TRANSFORMERS_LAYERS = tuple(
    (
        f"encoder.stages.{stage}.layers.{{block}}.{theirs}.",
        f"res{stage + 2}.{{block}}.{ours}.",
    )
    for stage in range(4)
    for theirs, ours in (
        ("layer.0", "conv1"),
        ("layer.1", "conv2"),
        ("layer.2", "conv3"),
        ("shortcut", "shortcut"),
    )
)
_TRANSFORMERS_RESNET = tuple(
    (theirs + suffix, ours + our_suffix)
    for theirs, ours in (("embedder.embedder.", "stem.conv1."), *_TRANSFORMERS_LAYERS)
    for suffix, our_suffix in (
        ("convolution.weight", "weight"),
        ("normalization.{stat}", "norm.{stat}"),
    )
)

_MASK_BRANCH = _same("bbox_attention.{layer}.{p}", "mask_head.{layer}.{p}")
# Modules that the official panoptic model has beside its `detr`.
MASK_BRANCH_PREFIXES = ("bbox_attention.", "mask_head.")

OFFICIAL = (
    *_prefixed(_TORCHVISION, "backbone.0.body.", "backbone."),
    ("backbone.1.{axis}_embed.weight", "position_encoding.{axis}_embed.weight"),
    *_same(
        "transformer.encoder.{rest}",
        "transformer.decoder.{rest}",
        "query_embed.weight",
        "input_proj.{p}",
        "class_embed.{p}",
        "bbox_embed.layers.{i}.{p}",
    ),
    *_MASK_BRANCH,
)

_HF_ENCODER = _prefixed(
    (
        ("self_attn.{rest}", "self_attn.{rest}"),
        ("self_attn_layer_norm.{p}", "norm1.{p}"),
        ("fc1.{p}", "linear1.{p}"),
        ("fc2.{p}", "linear2.{p}"),
        ("final_layer_norm.{p}", "norm2.{p}"),
    ),
    "model.encoder.layers.{layer}.",
    "transformer.encoder.layers.{layer}.",
)
_HF_DECODER = _prefixed(
    (
        ("self_attn.{rest}", "self_attn.{rest}"),
        ("self_attn_layer_norm.{p}", "norm1.{p}"),
        ("encoder_attn.{rest}", "multihead_attn.{rest}"),
        ("encoder_attn_layer_norm.{p}", "norm2.{p}"),
        ("fc1.{p}", "linear1.{p}"),
        ("fc2.{p}", "linear2.{p}"),
        ("final_layer_norm.{p}", "norm3.{p}"),
    ),
    "model.decoder.layers.{layer}.",
    "transformer.decoder.layers.{layer}.",
)
_HF_COMMON = (
    ("model.position_embedding.row_embeddings.weight", "position_encoding.row_embed.weight"),
    ("model.position_embedding.column_embeddings.weight", "position_encoding.col_embed.weight"),
    ("model.query_position_embeddings.weight", "query_embed.weight"),
    ("model.input_projection.{p}", "input_proj.{p}"),
    *_HF_ENCODER,
    *_HF_DECODER,
    ("model.decoder.layernorm.{p}", "transformer.decoder.norm.{p}"),
    ("class_labels_classifier.{p}", "class_embed.{p}"),
    ("bbox_predictor.layers.{i}.{p}", "bbox_embed.layers.{i}.{p}"),
    *_MASK_BRANCH,
)
_HF_BACKBONE = "model.backbone.conv_encoder.model."
# What is written, with a backbone of timm's or of transformers'.
HUGGINGFACE_TIMM = (*_prefixed(_TORCHVISION, _HF_BACKBONE, "backbone."), *_HF_COMMON)
HUGGINGFACE = (*_prefixed(_TRANSFORMERS_RESNET, _HF_BACKBONE, "backbone."), *_HF_COMMON)
# What is read.
HUGGINGFACE_ANY = (*_prefixed(_TORCHVISION, _HF_BACKBONE, "backbone."), *HUGGINGFACE)
# transformers 5 has other names in memory than in its files, where it restores those of 4; a
# state dict that a person saved has them. From these names to those of the files.
HUGGINGFACE_IN_MEMORY = (
    ("model.backbone.model.{rest}", _HF_BACKBONE + "{rest}"),
    ("model.backbone.position_embedding.{rest}", "model.position_embedding.{rest}"),  # of 4
    ("model.{coder}.layers.{layer}.mlp.{rest}", "model.{coder}.layers.{layer}.{rest}"),
    (
        "model.{coder}.layers.{layer}.{attention}.o_proj.{p}",
        "model.{coder}.layers.{layer}.{attention}.out_proj.{p}",
    ),
    ("bbox_attention.{x}_proj.{p}", "bbox_attention.{x}_linear.{p}"),
    *(
        (f"mask_head.{theirs}.{{p}}", f"mask_head.{ours}.{{p}}")
        for theirs, ours in (
            ("conv1.conv", "lay1"),
            ("conv1.norm", "gn1"),
            ("conv2.conv", "lay2"),
            ("conv2.norm", "gn2"),
            *((f"fpn_stages.{i}.fpn_adapter", f"adapter{i + 1}") for i in range(3)),
            *((f"fpn_stages.{i}.refine.conv", f"lay{i + 3}") for i in range(3)),
            *((f"fpn_stages.{i}.refine.norm", f"gn{i + 3}") for i in range(3)),
            ("output_conv", "out_lay"),
        )
    ),
)

_PROJECTION = re.compile(r"(transformer\..*attn)\.([qkv])_proj\.(weight|bias)")
_PACKED = re.compile(r"(transformer\..*attn)\.in_proj_(weight|bias)")


def pack_attention(weights: Weights) -> Weights:
    """Join q_proj, k_proj, v_proj, (d, d) each, as in_proj (3 d, d), which PyTorch has."""
    packed = dict(weights)
    for name in weights:
        match = _PROJECTION.fullmatch(name)
        if not match or match[2] != "q":
            continue
        names = [f"{match[1]}.{x}_proj.{match[3]}" for x in "qkv"]
        if all(n in weights for n in names):
            packed[f"{match[1]}.in_proj_{match[3]}"] = torch.cat([packed.pop(n) for n in names])
    return packed


def unpack_attention(weights: Weights) -> Weights:
    """The inverse of `pack_attention`."""
    unpacked = dict(weights)
    for name in weights:
        if match := _PACKED.fullmatch(name):
            for x, tensor in zip("qkv", unpacked.pop(name).chunk(3)):
                unpacked[f"{match[1]}.{x}_proj.{match[2]}"] = tensor
    return unpacked
