"""Setting up a configuration, training, and prediction for single images."""

from .defaults import setup_cfg
from .predictor import Predictor
from .trainer import Trainer

__all__ = ["Predictor", "Trainer", "setup_cfg"]
