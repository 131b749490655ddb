"""Setting up a configuration, training, and prediction for single images."""

from ..requirements import require_training

require_training()

from .defaults import setup_cfg  # noqa: E402  (after the check, so that it speaks first)
from .predictor import Predictor  # noqa: E402
from .trainer import Trainer  # noqa: E402

__all__ = ["Predictor", "Trainer", "setup_cfg"]
