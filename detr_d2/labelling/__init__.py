"""Labels from a model: what no person has annotated is filled with a model's segments."""

from .box_masks import BoxedImages, BoxMasks
from .check_page import write_check_page
from .class_map import (
    ClassMap,
    choose,
    map_classes,
    model_classes,
    parse_classes,
    proposal,
    read_class_file,
)
from .filling import Filling
from .model_labels import ModelLabels, SecondOpinion, check_model

__all__ = [
    "BoxMasks",
    "BoxedImages",
    "ClassMap",
    "Filling",
    "ModelLabels",
    "SecondOpinion",
    "check_model",
    "choose",
    "map_classes",
    "model_classes",
    "parse_classes",
    "proposal",
    "read_class_file",
    "write_check_page",
]
