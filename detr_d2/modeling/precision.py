"""Computing in no less than float32."""

from torch import Tensor, float32, promote_types


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 stay as they are."""
    return tensor.to(promote_types(tensor.dtype, float32))
