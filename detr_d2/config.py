"""Every configuration key that the project adds to Detectron2's.

Sources: [DETR] is Carion et al., arXiv:2005.12872; [official] is the authors' implementation.
Names that the official Detectron2 wrapper has are kept.
"""

from detectron2.config import CfgNode


def add_detr_config(cfg: CfgNode) -> None:
    """Add `MODEL.DETR`, and DETR's keys of `DATASETS`, `INPUT`, `SOLVER` and `TEST`, to `cfg`."""
    _add_model(cfg)
    _add_backbones(cfg)
    _add_learning_fast(cfg)
    _add_panoptic(cfg)
    _add_criterion(cfg)
    _add_data(cfg)
    _add_solver(cfg)


def _add_model(cfg: CfgNode) -> None:
    cfg.MODEL.DETR = CfgNode()
    detr = cfg.MODEL.DETR

    # Classes, no-object not counted: things and stuff for panoptic models.
    # Checked against the dataset's metadata before training.
    detr.NUM_CLASSES = 80
    # N, the most objects that can be found in one image. [DETR 4]
    detr.NUM_OBJECT_QUERIES = 100

    # The backbone's levels that the model reads, whatever they are called, the coarsest last; it
    # alone is needed where there are no masks. DETR's parts know them as Res2 to Res5.
    # Empty: those of strides 4, 8, 16 and 32, and the coarsest of a DC5.
    detr.IN_FEATURES = []

    # The parts, by their names in the registries of detr_d2.modeling.
    detr.POSITION_ENCODING = "PositionEmbeddingSine"  # or PositionEmbeddingLearned
    # Or ProposalTransformer, whose queries the image gives, for training from a backbone; or
    # RegionTransformer, for going on from official weights (docs/learning_fast.md).
    detr.TRANSFORMER = "Transformer"
    detr.ATTENTION_MAP = "MHAttentionMap"
    detr.MASK_HEAD = "MaskHeadSmallConv"  # or RefinedMaskHead, with either of these two
    detr.CRITERION = "SetCriterion"  # matching and losses

    # Transformer. [DETR 4 and A.4]
    detr.HIDDEN_DIM = 256  # d, channels
    detr.NHEADS = 8  # M, of the transformer and of the attention maps alike
    detr.ENC_LAYERS = 6
    detr.DEC_LAYERS = 6
    detr.DIM_FEEDFORWARD = 2048  # channels between the two linear layers of a block
    detr.DROPOUT = 0.1  # probability
    detr.PRE_NORM = False  # True: LayerNorm before attention and feed-forward, not after


def _add_backbones(cfg: CfgNode) -> None:
    """Of backbones other than a ResNet, whose keys Detectron2 has. `MODEL.BACKBONE.FREEZE_AT` 0
    trains all of each, 1 all but what makes the image patches or H/4."""
    # Of build_fpn_backbone: what it is put over, in Detectron2's registry.
    cfg.MODEL.FPN.BOTTOM_UP = ""

    # build_swin_backbone, Swin-T here; FREEZE_AT n > 1: the first n - 1 stages, too.
    # [Liu et al., arXiv:2103.14030, table 7]
    cfg.MODEL.SWIN = CfgNode()
    # Levels that it gives, all of them trained; DETR without masks reads the last alone.
    cfg.MODEL.SWIN.OUT_FEATURES = ["p0", "p1", "p2", "p3"]
    cfg.MODEL.SWIN.EMBED_DIM = 96  # channels at H/4, doubled from stage to stage
    cfg.MODEL.SWIN.DEPTHS = [2, 2, 6, 2]  # blocks of the stages
    cfg.MODEL.SWIN.NUM_HEADS = [3, 6, 12, 24]
    cfg.MODEL.SWIN.WINDOW_SIZE = 7  # cells
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.2  # probability, of the last block; above 0 timm is needed

    # build_vit_pyramid_backbone, ViTDet's, ViT-B here, which needs timm; FREEZE_AT n > 1: the first
    # n - 1 blocks, too. [Li et al., arXiv:2203.16527]
    cfg.MODEL.VIT = CfgNode()
    cfg.MODEL.VIT.OUT_FEATURES = ["p2", "p3", "p4", "p5"]  # as MODEL.SWIN's
    cfg.MODEL.VIT.IMG_SIZE = 1024  # pixels, of the square that relative positions are made for
    # True: every image is padded to this square, as ViTDet was trained; False: to multiples of 32.
    cfg.MODEL.VIT.SQUARE = True
    cfg.MODEL.VIT.PATCH_SIZE = 16  # pixels
    cfg.MODEL.VIT.EMBED_DIM = 768
    cfg.MODEL.VIT.DEPTH = 12  # blocks
    cfg.MODEL.VIT.NUM_HEADS = 12
    cfg.MODEL.VIT.WINDOW_SIZE = 14  # cells
    cfg.MODEL.VIT.GLOBAL_BLOCKS = [2, 5, 8, 11]  # those that attend beyond windows, from 0
    cfg.MODEL.VIT.DROP_PATH_RATE = 0.1  # probability, of the last block
    cfg.MODEL.VIT.OUT_CHANNELS = 256  # of the pyramid

    # build_timm_backbone: any of timm's models that gives feature maps (`features_only`);
    # FREEZE_AT n > 1: up to the level of stride 2^n. pip install "detr_d2[timm]"
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""
    # True: begin with the weights that timm has of it, from the network, where MODEL.WEIGHTS is "".
    cfg.MODEL.TIMM.PRETRAINED = False
    cfg.MODEL.TIMM.ARGUMENTS = []  # further ones of the model, as [["drop_path_rate", 0.1]]
    # BatchNorm keeps the statistics and weights that it has, as in DETR; False, it is trained.
    cfg.MODEL.TIMM.FREEZE_NORMS = True
    # Images are padded to multiples of as many pixels; those of a model of one size, to its size.
    cfg.MODEL.TIMM.SIZE_DIVISIBILITY = 32


def _add_learning_fast(cfg: CfgNode) -> None:
    """What the transformers with regions and proposals and `RefinedMaskHead` have beside DETR's;
    docs/learning_fast.md."""
    detr = cfg.MODEL.DETR
    detr.PYRAMID_CHANNELS = 64  # p, of the pyramid's maps and of what reads them; a multiple of 8
    detr.REGION_RESOLUTION = 7  # points along a box's side, at which a decoder layer sees it

    detr.PROPOSALS = CfgNode()
    # The IoU from which on two proposed boxes are taken for one.
    detr.PROPOSALS.NMS_THRESHOLD = 0.7
    # Further queries an image in training, each from a cell of a thing, one-to-many, and how many
    # of them are trained on a mask.
    detr.PROPOSALS.FURTHER_QUERIES = 16
    detr.PROPOSALS.FURTHER_MASKS = 4

    detr.WINDOW_RESOLUTION = 14  # points along the side of a thing's window
    # True: a thing's mask is made in its window alone, of 1.2 times its box, where it ends; the
    # attention maps and convolutions of the mask head are for stuff. False: also for things.
    detr.THINGS_IN_WINDOWS = True
    # Pixels of the network's input a mask logit at inference: 1, 2 or 4.
    detr.MASK_STRIDE = 4
    # Pixels a logit of the semantic map: 4, or 2 or 1 where outlines count and classes are few.
    detr.SEMANTIC_STRIDE = 4
    # Of the losses of the semantic map: cross-entropy of pixels, and dice of classes in an image,
    # which is for few steps and stuff of few pixels.
    detr.SEMANTIC_WEIGHT = 1.0
    detr.SEMANTIC_DICE_WEIGHT = 0.0
    # Its log-odds are multiplied by this, and added to masks; learned from there on.
    detr.SEMANTIC_GAIN = 1.0


def _add_panoptic(cfg: CfgNode) -> None:
    detr = cfg.MODEL.DETR
    # The mask head's initial weights for the attention maps are this many times Kaiming's.
    # The maps of a query sum to 1, so that their entries are about 1 / (M H/32 W/32): with 1 (as
    # official), masks trained from random weights are the same for all queries for thousands of
    # iterations. Some times M H/32 W/32 lets them differ from the start.
    detr.MAPS_INIT_GAIN = 1.0
    # True: everything but the mask branch is frozen and in eval mode, and the mask branch is
    # trained alone: the second step of [DETR 4.4]. The rest comes from MODEL.WEIGHTS.
    detr.FREEZE_DETR = False

    # Inference. [DETR 4.4]
    detr.PANOPTIC = CfgNode()
    # Queries below this probability take no part in the panoptic result.
    detr.PANOPTIC.SCORE_THRESHOLD = 0.85
    # Who has a pixel, see docs/panoptic_merging.md. "official": the query with the highest mask
    # logit; masks go to the size of the image by nearest neighbour. "scores": the one with the
    # highest product of class score and mask probability, bilinearly all the way; it wants a
    # SCORE_THRESHOLD of about 0.5. [Cheng et al., arXiv:2112.01527]
    detr.PANOPTIC.MERGE = "official"
    # Of "scores" alone: a query that wins less than this share of its own mask's pixels is dropped.
    # [ibid., whose code has 0.8; here 0.5 to 0.8 were seen to differ little, and 0.9 to be worse]
    detr.PANOPTIC.LEAST_SHARE = 0.7
    # Segments of at most this many pixels (of the output image) are removed. [official]
    detr.PANOPTIC.SMALL_SEGMENT_AREA = 4
    # Of "official" alone. True: several queries of one stuff class are merged as the official code
    # does it, which keeps the first and gives the pixels of the others away.
    detr.PANOPTIC.OFFICIAL_STUFF_RULE = False

    # The `instances` of PanopticDETR hold its thing queries above this probability; 0 keeps them
    # all, which box and mask AP want. [official]
    detr.INSTANCES = CfgNode()
    detr.INSTANCES.SCORE_THRESHOLD = 0.0
    # True: `instances` has `pred_masks`. The mask head then runs on all of these queries, not
    # only on those of the panoptic result.
    detr.INSTANCES.MASKS_ON = False

    # Inference computes this many masks (of one batch) at a time: what bounds its memory. The
    # largest maps of one take 3.3 MiB each at 800 x 1066 pixels in float32.
    detr.MASKS_PER_CHUNK = 32
    # Training compares this many masks at a time, at the size of the images: one needs the least
    # memory and suits a CPU; more keep a GPU busy.
    detr.LOSS_MASKS_PER_CHUNK = 1


def _add_criterion(cfg: CfgNode) -> None:
    detr = cfg.MODEL.DETR
    # True: every decoder layer is trained, not the last alone (auxiliary losses). [DETR 3.2]
    detr.DEEP_SUPERVISION = True

    # Weights of the losses. [DETR A.4; masks: official]
    detr.CLASS_WEIGHT = 1.0
    detr.L1_WEIGHT = 5.0
    detr.GIOU_WEIGHT = 2.0
    detr.MASK_WEIGHT = 1.0  # focal loss
    detr.DICE_WEIGHT = 1.0
    # Weight of the no-object class in the cross-entropy, against class imbalance. [DETR 3.1]
    detr.NO_OBJECT_WEIGHT = 0.1
    # Focal loss of the masks. [Lin et al., arXiv:1708.02002]
    detr.FOCAL_ALPHA = 0.25
    detr.FOCAL_GAMMA = 2.0

    # Weights of the matching cost. [DETR 3.1 and A.2]
    detr.COST_CLASS = 1.0
    detr.COST_L1 = 5.0
    detr.COST_GIOU = 2.0


def _add_data(cfg: CfgNode) -> None:
    # Modules that are imported before a configuration is merged: they register parts, and may have
    # a function `add_config(cfg)`. docs/extending.md
    cfg.IMPORTS = []

    # Where the relative paths of DATASETS.REGISTER start.
    # Empty: $DETECTRON2_DATASETS, or ./datasets where it is not set.
    cfg.DATASETS.ROOT = ""
    # Datasets in COCO panoptic format, registered before anything is built:
    # {name: [folder of images, folder of panoptic PNGs, panoptic JSON]}
    cfg.DATASETS.REGISTER = CfgNode(new_allowed=True)

    # What two of Detectron2's samplers (DATALOADER.SAMPLER_TRAIN) read, and its defaults lack: the
    # share of images that RandomSubsetTrainingSampler takes, and [name, factor] of datasets, how
    # often the images of each come, of WeightedTrainingSampler and WeightedCategoryTrainingSampler.
    cfg.DATALOADER.setdefault("RANDOM_SUBSET_RATIO", 1.0)
    cfg.DATASETS.setdefault("TRAIN_REPEAT_FACTOR", [])

    # Whether the headers of all images are read before the first step, and before an evaluation, so
    # that a missing file or a wrong size is known at once. Images of a remote dataset never are.
    cfg.DATALOADER.CHECK_IMAGES = True
    # A training's images that cannot be read: "raise" ends with the first; "skip" takes others in
    # their place and names them in OUTPUT_DIR/broken_images.txt, up to a share of all.
    cfg.DATALOADER.BROKEN_IMAGES = "raise"
    cfg.DATALOADER.BROKEN_IMAGES_SHARE = 0.01

    # Whether segments that a model made (`source` in their segments_info, docs/capstone.md) count
    # neither for nor against in evaluations.
    cfg.TEST.IGNORE_MODEL_LABELS = False

    # In DATASET_MAPPER_REGISTRY; empty: the model's own.
    cfg.INPUT.DATASET_MAPPER = ""
    # Augmentations of training, one after the other: [name, {argument: value, ...}] each, the name
    # one of detectron2.data.transforms or of AUGMENTATION_REGISTRY. Empty: the official ones.
    cfg.INPUT.AUGMENTATIONS = []
    # How much segments that a model made (`source`, as above) count in DETR's training: one of
    # weight w as w segments in the losses of class, box and mask, its pixels as w pixels in that of
    # the semantic map. 0: nothing is learned from them, not even that nothing is there.
    cfg.INPUT.MODEL_LABEL_WEIGHT = 1.0
    # The values of black and white in images of 16 bits a channel; 0 and 4095 for 12 bits of a
    # camera.
    cfg.INPUT.BLACK = 0
    cfg.INPUT.WHITE = 65535

    # The official augmentation: with this probability, resize the shorter side to one of
    # RESIZE_BEFORE (pixels) and crop each side to RANGE (least, most pixels), before the
    # resize that every image gets (INPUT.MIN_SIZE_TRAIN). [official]
    cfg.INPUT.DETR_CROP = CfgNode()
    cfg.INPUT.DETR_CROP.PROBABILITY = 0.5
    cfg.INPUT.DETR_CROP.RESIZE_BEFORE = (400, 500, 600)
    cfg.INPUT.DETR_CROP.RANGE = (384, 600)


def _add_solver(cfg: CfgNode) -> None:
    # AdamW; Muon, which learns more with each step (docs/learning_fast.md); or SGD: Detectron2's
    # own optimiser, with all of its keys.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    # The backbone's learning rate is BASE_LR times this. [official: 1e-5 against 1e-4]
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # The images of a step, of each process, go through the model in as many parts, for want of
    # memory. DETR's losses and gradients stay those of all images together.
    cfg.SOLVER.PARTS = 1
    # Whether the backward pass computes once more what is in the backbone and the encoder: less
    # memory for more time.
    cfg.SOLVER.RECOMPUTE = False
    # Numbered checkpoints that stay, the last ones; 0 keeps all. model_best.pth stays beside them.
    cfg.SOLVER.CHECKPOINT_KEEP = 0
    # Of the averaged weights that are evaluated and saved, as 0.999: about the last 1,000 steps
    # count. 0 averages nothing.
    cfg.SOLVER.AVERAGE_DECAY = 0.0
    # Batches one after the other whose loss is no finite number: as many are passed over, one more
    # ends the training.
    cfg.SOLVER.NOT_FINITE_IN_A_ROW = 0

    # What SOLVER.AMP.ENABLED trains in: float16 (on a GPU) or bfloat16 (on a GPU or the CPU).
    # Boxes, matching and losses stay in float32.
    cfg.SOLVER.AMP.PRECISION = "float16"
