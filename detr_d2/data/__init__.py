"""Registered datasets, and mappers from what they hold to what the models are given."""

from .dataset_mapper import InferenceDatasetMapper, PanopticDatasetMapper
from .panoptic_fpn_mapper import PanopticFPNDatasetMapper
from .registration import register_from_config, register_panoptic_dataset
from .shapes import register_shapes

register_shapes()

__all__ = [
    "InferenceDatasetMapper",
    "PanopticDatasetMapper",
    "PanopticFPNDatasetMapper",
    "register_from_config",
    "register_panoptic_dataset",
]
