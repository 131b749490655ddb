"""What is asked of an exported file."""

from dataclasses import dataclass

from ..errors import UserError

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
    """

    format_name: str
    batch_size: int = 1
    size: tuple[int, int] | None = None
    floats: bool = False
    max_masks: int | None = None

    def __post_init__(self):
        if self.format_name == "torch-export" and self.size is None:
            raise UserError(
                "torch.export records a model for pictures of one size: give it, with --size."
            )

    @property
    def masks(self) -> int | None:
        """`max_masks` of `TracingAdapter`."""
        return self.max_masks or (_ALL if self.format_name == "torch-export" else None)
