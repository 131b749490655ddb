"""Packages that pip does not bring along, and how to get them."""

from importlib.util import find_spec

from .errors import MissingPackageError

HOW_TO_GET = {
    "detectron2": "run `make env` in the repository for a tested copy, or "
    "`pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2`",
    "cv2": "run `make env` in the repository, or `pip install opencv-python-headless`",
    "submitit": "run `make env` in the repository, or `pip install submitit`",
    "onnx": "run `pip install onnx`",
    "onnxruntime": "run `pip install onnxruntime`",
    "openvino": "run `pip install openvino`",
    "timm": "run `make env` in the repository, or `pip install timm`",
    "panopticapi": "run `make env` in the repository, or "
    "`pip install git+https://github.com/cocodataset/panopticapi`",
}


def require(module: str, why: str = "detr_d2") -> None:
    """Raise a `MissingPackageError` where `module`, one of those above, is not installed.

    Args:
        why: what needs it.
    """
    if find_spec(module) is None:
        raise MissingPackageError(
            f"{why} needs {module}, which is not installed here: {HOW_TO_GET[module]}."
        )


def require_training() -> None:
    """As `require`, of what everything but `detr_d2.deploy` stands on."""
    for module in ("detectron2", "cv2"):  # Detectron2's drawing imports OpenCV and brings none
        require(module)
