"""The safetensors format: a JSON table of contents, then the tensors' bytes.

Eight bytes (little-endian) hold the length of the JSON; `data_offsets` count from its end.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The reference implementation's limit, so that a damaged length is not taken for a huge one.
_MAX_HEADER_BYTES = 100_000_000


def load_safetensors(path: str) -> dict[str, Tensor]:
    """Read all tensors of a file.

    Raises:
        UserError: where the file is not in the format.
    """
    content = bytearray(Path(path).read_bytes())
    try:
        length = int.from_bytes(content[:8], "little")
        if length > min(_MAX_HEADER_BYTES, len(content) - 8):
            raise ValueError("its header is longer than the file")
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _tensor(content, 8 + length, **entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): get it from its source again."
        ) from error


def _tensor(
    content: bytearray, start: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> Tensor:
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(content) - start:
        raise ValueError("a tensor lies outside the file")
    if begin == end:
        return torch.empty(shape, dtype=_DTYPES[dtype])
    # Copied as bytes first: a tensor need not be aligned in the file.
    flat = torch.frombuffer(content, dtype=torch.uint8, offset=start + begin, count=end - begin)
    return flat.clone().view(_DTYPES[dtype]).reshape(shape)


def save_safetensors(tensors: dict[str, Tensor], path: str) -> None:
    """Write tensors as a file that Hugging Face's libraries load."""
    # transformers asks which framework wrote the file.
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        shape = list(tensor.shape)
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            f.write(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
