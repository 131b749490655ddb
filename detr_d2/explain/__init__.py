"""What happens to an image inside the model: recorded, drawn and told."""

from .image_trace import Attention, ImageTrace
from .trace import trace

__all__ = ["Attention", "ImageTrace", "trace"]
