"""Half of another image's segments over an image: many scenes out of few.

As ClassMix (Olsson et al., arXiv:2007.07936) does with the classes of semantic segmentation, and
Copy-Paste (Ghiasi et al., arXiv:2012.07177) with objects.
"""

import numpy as np

from .segmented_image import SegmentedImage


def mix_in(
    image: SegmentedImage,
    segments_info: list[dict],
    other: SegmentedImage,
    other_segments_info: list[dict],
    stuff_classes: set[int],
) -> list[dict]:
    """Put half of the segments of `other` over `image`, which is changed.

    The segments, half of them rounded up, are drawn at random, and stay where they are where both
    have the same size; otherwise the smaller lies anywhere in the larger, or as far as they
    overlap. Stuff becomes one with the stuff of the same class.

    Args:
        segments_info, other_segments_info: `category_id` (contiguous) and, perhaps, `iscrowd` of
            segment t.
        stuff_classes: contiguous.

    Returns:
        The segments of the image, in the order of their new numbers: first those that it had.
    """
    number_of_stuff = {
        info["category_id"]: number
        for number, info in enumerate(segments_info, 1)
        if info["category_id"] in stuff_classes and not info.get("iscrowd", 0)
    }
    infos = list(segments_info)
    numbers = np.zeros(len(other_segments_info) + 1, dtype=image.segment_map.dtype)
    count = len(other_segments_info)
    for segment in np.random.permutation(count)[: (count + 1) // 2]:
        info = other_segments_info[segment]
        number = None if info.get("iscrowd", 0) else number_of_stuff.get(info["category_id"])
        if number is None:
            infos.append(info)
            number = len(infos)
        numbers[segment + 1] = number

    of_image, of_other = _overlap(image.segment_map.shape, other.segment_map.shape)
    new = numbers[other.segment_map[of_other]]
    is_new = new > 0
    # A transform may have given views of what it was given.
    image.image, image.segment_map = image.image.copy(), image.segment_map.copy()
    image.segment_map[of_image][is_new] = new[is_new]
    image.image[of_image][is_new] = other.image[of_other][is_new]
    return infos


def _overlap(shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[tuple, tuple]:
    """Where two maps of (H, W) lie on each other, as slices of the one and of the other."""
    of_image, of_other = [], []
    for size, other_size in zip(shape, other, strict=True):
        common, beyond = min(size, other_size), abs(size - other_size)
        begin = np.random.randint(beyond + 1)
        whole, part = slice(0, common), slice(begin, begin + common)
        of_image.append(part if size > other_size else whole)
        of_other.append(whole if size > other_size else part)
    return tuple(of_image), tuple(of_other)
