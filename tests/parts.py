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

# Of `SetCriterion`; all different, so that none stands for another.
LOSS_WEIGHTS = {
    "no_object_weight": 0.125,  # exact in float32
    "class_weight": 1.5,
    "l1_weight": 5.0,
    "giou_weight": 2.0,
    "mask_weight": 0.7,
    "dice_weight": 0.3,
    "focal_alpha": 0.25,
    "focal_gamma": 2.0,
}

# A small Panoptic FPN of the shapes' classes.
PANOPTIC_FPN = (
    *("MODEL.BACKBONE.NAME", "build_detr_resnet_fpn_backbone"),
    *("MODEL.MASK_ON", True),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32]]),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3"]),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 50),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3"]),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 4),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"),
    *("MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
)
