"""The registries of DETR's parts; `MODEL.DETR.*` names one entry of each."""

from ..part_registry import PartRegistry

POSITION_ENCODING_REGISTRY = PartRegistry(
    "POSITION_ENCODING",
    key="MODEL.DETR.POSITION_ENCODING",
    needs=("forward",),
    contract="""
Modules `(padding_mask (B, h, w) bool, dtype) -> positions (B, d, h, w)`, built as `entry(cfg)`.
B is 1 where no image of the batch is padded.
""",
)

TRANSFORMER_REGISTRY = PartRegistry(
    "TRANSFORMER",
    key="MODEL.DETR.TRANSFORMER",
    needs=("forward", "read", "losses", "num_learned", "fixed_classes"),
    contract="""
Modules with the methods of `detr_d2.modeling.transformer.Transformer`, the official one, built as
`entry(cfg, backbone_shape)`, where `backbone_shape` has the channels and
strides of the backbone's levels as DETR names them, "res5" the coarsest (`levels_of`):

* `forward(projected, padding_mask, query_embed, positions, all_layers, context)` gives a `Decoded`,
  or a subclass with more in it. `context` holds the image, all levels of the backbone, the sizes of
  the images, the model's layer for boxes, and in training the targets.
* `read(logits, deltas, decoded)` says what the outputs of the model's layers for classes and boxes
  mean; what a box is relative to (its reference) is in `decoded`.
* `losses(logits, boxes, decoded, context, criterion)`: weighted losses of what it has beside DETR's
  queries, by name.
* `num_learned`: how many query embeddings the model learns for it.
* `fixed_classes`: the classes that have a query of their own, the first ones; the matcher leaves
  them together. `fixed_classes_of(cfg)`, of the class, tells them before a model is built.
* `pyramid_outputs`, of the class: the maps of `decoded.levels`, a `Levels`, by the backbone's
  names, the coarsest first; () where there are none. `RefinedMaskHead` needs some.

A `Decoded` says with `own` which queries are matched and give results, with `with_further` which
pairs are trained on masks, and gives with `of_images` the same for some images.
""",
)

ATTENTION_MAP_REGISTRY = PartRegistry(
    "ATTENTION_MAP",
    key="MODEL.DETR.ATTENTION_MAP",
    needs=("forward",),
    contract="""
Modules with the call of `detr_d2.modeling.mask_head.MHAttentionMap`, built as `entry(cfg)`.
""",
)

MASK_HEAD_REGISTRY = PartRegistry(
    "MASK_HEAD",
    key="MODEL.DETR.MASK_HEAD",
    needs=("forward", "losses"),
    contract="""
Modules with the methods of the official one, `detr_d2.modeling.mask_head.MaskHeadSmallConv`, built
as `entry(cfg, backbone_shape)`, where `backbone_shape` is as for a transformer:

* `forward(projected, maps, counts, features, queries)` gives mask logits (K, h, w) of K packed
  queries at any h x w that shows the whole padded batch; `queries` is a `MaskQueries`.
* `losses(arguments, targets, matches, criterion, size)`: weighted losses of the masks of matched
  queries, by name; `arguments` are those of `forward`.
""",
)

CRITERION_REGISTRY = PartRegistry(
    "CRITERION",
    key="MODEL.DETR.CRITERION",
    needs=("matcher", "set_losses", "mask_losses", "diagnostics"),
    contract="""
Modules with the methods of `detr_d2.modeling.criterion.SetCriterion`, built as
`entry(**entry.arguments_from(cfg.MODEL.DETR, fixed_classes))`, where `fixed_classes` are the
transformer's:

* `matcher(logits (L, B, N, C + 1), boxes (L, B, N, 4), targets)` gives the `Matches`.
* `set_losses(logits, boxes, targets, matches)`: weighted losses of classes and boxes, by name.
* `mask_losses(logits (K, h, w), targets, matches, (H, W))`: those of masks.
* `diagnostics(logits (B, N, C + 1), targets, matches)`: numbers to be logged, by name.
""",
)
