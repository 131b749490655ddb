"""The registries of DETR's parts; `MODEL.DETR.*` names one entry of each."""

from detectron2.utils.registry import Registry

POSITION_ENCODING_REGISTRY = Registry("POSITION_ENCODING")
POSITION_ENCODING_REGISTRY.__doc__ = """
Modules `(padding_mask (B, h, w) bool, dtype) -> positions (B, d, h, w)`, built as `entry(cfg)`.
B is 1 where no image of the batch is padded.
"""

TRANSFORMER_REGISTRY = Registry("TRANSFORMER")
TRANSFORMER_REGISTRY.__doc__ = """
Modules with the methods of `detr_d2.modeling.transformer.Transformer`, the official one, built as
`entry(cfg, backbone_shape)`, where `backbone_shape` is the backbone's `output_shape()`:

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
"""

ATTENTION_MAP_REGISTRY = Registry("ATTENTION_MAP")
ATTENTION_MAP_REGISTRY.__doc__ = """
Modules with the call of `detr_d2.modeling.mask_head.MHAttentionMap`, built as `entry(cfg)`.
"""

MASK_HEAD_REGISTRY = Registry("MASK_HEAD")
MASK_HEAD_REGISTRY.__doc__ = """
Modules with the methods of the official one, `detr_d2.modeling.mask_head.MaskHeadSmallConv`, built
as `entry(cfg, backbone_shape)`, where `backbone_shape` is the backbone's `output_shape()`:

* `forward(projected, maps, counts, features, queries)` gives mask logits (K, h, w) of K packed
  queries at any h x w that shows the whole padded batch; `queries` is a `MaskQueries`.
* `losses(arguments, targets, matches, criterion, size)`: weighted losses of the masks of matched
  queries, by name; `arguments` are those of `forward`.
"""
