"""What is measured, and at which size."""

from dataclasses import dataclass

from detr_d2.data.augmentation import official_size

from .variants import Variant

# A model of all parts that runs in a blink: for the check in float64, and for `--quick`.
REDUCED = (
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.STEM_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.WIDTH_PER_GROUP", "16"),
    *("MODEL.DETR.HIDDEN_DIM", "128", "MODEL.DETR.DIM_FEEDFORWARD", "64"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2"),
    *("MODEL.DETR.NUM_OBJECT_QUERIES", "20"),
)
REDUCED_FPN = (
    *("MODEL.FPN.OUT_CHANNELS", "32", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "32"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "50"),
)


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        config_file: of a `PanopticDETR`, trained jointly.
        overrides: keys and values in turn, for that configuration.
        fpn_overrides: the same for Panoptic FPN's.
        variants, works: what is measured, in this order.
        device: "cpu" or "cuda".
        threads: of PyTorch on the CPU.
        image_size: (height, width) of the image on disk and of the results, pixels.
        length: of the shorter side of the model's input, pixels.
        batch_sizes: images that are inferred together.
        kept: queries that pass the score test, of each image.
        segments: of each image.
        evaluated: images of the evaluation.
        shapes: images that the trained model of the shapes is compared on.
        seconds: each work is repeated for as long, all its variants together,
        least_rounds, most_rounds: but as often at least and at most.
        peak_on_cpu: measure the CPU's peak memory too, in a fresh process for each variant.
    """

    config_file: str
    variants: tuple[Variant, ...]
    works: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    fpn_overrides: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 2
    image_size: tuple[int, int] = (480, 640)
    length: int = 800
    batch_sizes: tuple[int, ...] = (1,)
    kept: int = 15
    segments: int = 11
    evaluated: int = 20
    shapes: int = 50
    seconds: float = 30.0
    least_rounds: int = 3
    most_rounds: int = 20
    peak_on_cpu: bool = True

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the model's input, pixels."""
        return official_size(*self.image_size, self.length, None)


def quick(**settings) -> Settings:
    """Everything in miniature: seconds instead of minutes, and times that say nothing."""
    small = {
        "overrides": REDUCED,
        "fpn_overrides": REDUCED_FPN,
        "image_size": (72, 96),
        "length": 80,
        "kept": 5,
        "segments": 4,
        "evaluated": 2,
        "shapes": 4,
        "seconds": 0.0,
        "least_rounds": 2,
    }
    return Settings(**{**small, **settings})
