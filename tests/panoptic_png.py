"""COCO's coding of segment ids as colours, digit by digit: id = R + 256 G + 65536 B."""

import numpy as np


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3) uint8."""
    return np.stack([ids // 256**digit % 256 for digit in range(3)], -1).astype(np.uint8)


def rgb2id(colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W) int64."""
    return sum(colours[..., digit].astype(np.int64) * 256**digit for digit in range(3))
