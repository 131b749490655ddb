"""Models with other parts than an official one, for tests."""

# Overrides of the configuration.
PARTS = {
    "official": (),
    "regions": ("MODEL.DETR.TRANSFORMER", "RegionTransformer"),
    "proposals": (
        *("MODEL.DETR.TRANSFORMER", "ProposalTransformer"),
        *("MODEL.DETR.MASK_HEAD", "RefinedMaskHead"),
        *("MODEL.DETR.MASK_STRIDE", 1),
        *("MODEL.DETR.SEMANTIC_STRIDE", 2),
    ),
}
