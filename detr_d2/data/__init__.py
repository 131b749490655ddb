from .dataset_mapper import PanopticDatasetMapper
from .registration import register_from_config, register_panoptic_dataset
from .shapes import register_shapes

register_shapes()

__all__ = ["PanopticDatasetMapper", "register_from_config", "register_panoptic_dataset"]
