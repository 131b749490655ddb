"""An ONNX model in a page: one HTML file that runs it in a browser, without a server or a network.

The page holds the model, onnxruntime-web and its WebAssembly, packed, and pictures to begin with.
"""

import base64
import gzip
import io
import json
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from ..errors import UserError
from ..pages import render

# Of onnxruntime-web, from the folder of its npm package: what calls the WebAssembly, and that.
RUNTIME, WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
VERSION = "1.30.0"  # that was tried


def require_onnxruntime_web(folder: Path) -> None:
    """A `UserError` where the folder has no onnxruntime-web."""
    missing = [name for name in (RUNTIME, WASM) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--format web needs onnxruntime-web, and {folder / missing[0]} does not exist: run "
            f"`npm install --no-save onnxruntime-web@{VERSION}`, or give the folder of the package "
            "with --onnxruntime-web."
        )


def page_of(
    model: bytes, metadata: dict, examples: list[np.ndarray], longest: int, onnxruntime_web: Path
) -> str:
    """
    Args:
        model: an ONNX file of a panoptic model, for single pictures of any size.
        metadata: see `metadata_of`.
        examples: (height, width, 3) uint8, RGB, pictures to begin with.
        longest: pixels; longer pictures are made smaller before the model sees them.
        onnxruntime_web: folder of the npm package.

    Returns:
        HTML.
    """
    about = {**metadata, "longest": longest, "examples": [_data_url(e) for e in examples]}
    return render(
        __package__,
        "web_page.html",
        # It stands in a script element, which no text must end.
        metadata=Markup(json.dumps(about, separators=(",", ":")).replace("<", "\\u003c")),
        model=_packed(model),
        runtime=_base64((onnxruntime_web / RUNTIME).read_bytes()),
        wasm=_packed((onnxruntime_web / WASM).read_bytes()),
    )


def _packed(content: bytes) -> Markup:
    return _base64(gzip.compress(content, compresslevel=6, mtime=0))


def _base64(content: bytes) -> Markup:
    return Markup(base64.b64encode(content).decode())


def _data_url(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return f"data:image/png;base64,{_base64(file.getvalue())}"
