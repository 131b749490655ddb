"""What an exported file says of its model, for whoever has the file alone."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.colormap import colormap

from .. import __version__
from ..classes import first_dataset, things_and_stuff
from .options import Options


def metadata_of(cfg: CfgNode, options: Options) -> dict:
    """See `OnnxPredictor.metadata`."""
    known = MetadataCatalog.get(first_dataset(cfg))
    names = known.get("thing_classes") or [str(c) for c in range(cfg.MODEL.DETR.NUM_CLASSES)]
    palette = colormap(rgb=True, maximum=255).astype(int).tolist()
    colors = known.get("thing_colors") or [palette[i % len(palette)] for i in range(len(names))]
    things = set(things_and_stuff(cfg).things)
    return {
        "written_by": f"detr_d2 {__version__}",
        "model": cfg.MODEL.META_ARCHITECTURE,
        "classes": [
            {"name": name, "color": list(color), "isthing": label in things}
            for label, (name, color) in enumerate(zip(names, colors))
        ],
        "input_format": cfg.INPUT.FORMAT,
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
        "batch_size": options.batch_size,
        "dtype": "float32" if options.floats else "uint8",
        "size": None if options.size is None else list(options.size),
        "max_masks": options.max_masks,
        "precision": options.precision,
    }
