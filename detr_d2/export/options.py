"""What is asked of an exported file."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .web_page import require_onnxruntime_web

PRECISIONS = ("float32", "float16", "int8")

_ALL = 2**31  # more masks than queries


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        format_name: of `SUFFIXES`.
        batch_size: pictures of one call.
        size: (height, width) of all pictures; None for any.
        floats: pictures are float32, 0 to 255, and not uint8.
        max_masks: the most masks that are computed; None for as many as are kept, or for all
            queries' where the format cannot ask how many these are.
        precision: of `PRECISIONS`. float16 is how weights are stored; int8 how linear layers are
            computed, by onnxruntime's dynamic quantisation.
        onnxruntime_web: the folder of that package, for a page.
    """

    format_name: str
    batch_size: int = 1
    size: tuple[int, int] | None = None
    floats: bool = False
    max_masks: int | None = None
    precision: str = "float32"
    onnxruntime_web: Path = Path("node_modules/onnxruntime-web")

    def __post_init__(self):
        if self.format_name == "torch-export" and self.size is None:
            raise UserError(
                "torch.export records a model for pictures of one size: give it, with --size."
            )
        if self.precision != "float32" and not self.is_onnx:
            raise UserError(f"--precision {self.precision} is of ONNX alone: give --format onnx.")
        if self.format_name == "web":
            if self.size is not None or self.batch_size > 1:
                raise UserError(
                    "A page takes one picture of any size: leave --size and --batch-size out."
                )
            require_onnxruntime_web(self.onnxruntime_web)

    @property
    def is_onnx(self) -> bool:
        """Whether the model is written as ONNX, by itself or in a page."""
        return self.format_name in ("onnx", "web")

    @property
    def masks(self) -> int | None:
        """`max_masks` of `TracingAdapter`."""
        return self.max_masks or (_ALL if self.format_name == "torch-export" else None)
