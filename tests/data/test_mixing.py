import numpy as np
import pytest

from detr_d2.data.dataset_mapper import PanopticDatasetMapper
from detr_d2.data.mixing import mix_in
from detr_d2.data.registration import load_panoptic_json
from detr_d2.data.segmented_image import SegmentedImage
from detr_d2.data.training_loader import MappedImages, Order, chance_of
from detr_d2.errors import UserError
from tests.data.test_training_loader import RAISE, mapper

STUFF = {2, 3}


def segmented(seed: int, shape: tuple[int, int], classes: list[int]) -> SegmentedImage:
    """Pixels and segments without any order; no two pixels are the same."""
    chance = np.random.default_rng(seed)
    numbers = chance.integers(0, len(classes) + 1, shape).astype(np.uint16)
    pixels = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3) % 251
    return SegmentedImage((pixels + seed).astype(np.uint8), numbers, classes)


def infos_of(classes, crowds=()):
    return [{"category_id": c, "iscrowd": int(t in crowds)} for t, c in enumerate(classes)]


@pytest.mark.parametrize("shapes", [((9, 7), (9, 7)), ((9, 7), (5, 11)), ((4, 4), (9, 6))])
@pytest.mark.parametrize("crowds", [(), (1, 3)])
def test_half_of_the_segments_lie_over_the_image_pixel_by_pixel(shapes, crowds):
    classes, other_classes = [0, 2, 1], [0, 2, 3, 3, 1]
    for seed in range(5):
        before, other = segmented(1, shapes[0], classes), segmented(2, shapes[1], other_classes)
        after = segmented(1, shapes[0], classes)
        with chance_of(seed):
            infos = mix_in(after, infos_of(classes), other, infos_of(other_classes, crowds), STUFF)
        with chance_of(seed):
            chosen = set(np.random.permutation(5)[:3].tolist())
            offsets = [np.random.randint(abs(a - b) + 1) for a, b in zip(*shapes)]
        assert infos[:3] == infos_of(classes)
        added = [t for t in range(5) if t in chosen and (other_classes[t] != 2 or t in crowds)]
        assert len(infos) == 3 + len(added)
        for y in range(shapes[0][0]):
            for x in range(shapes[0][1]):
                # Where this pixel is in the other image.
                place = []
                for at, offset, size, other_size in zip((y, x), offsets, *shapes):
                    place.append(at - offset if size > other_size else at + offset)
                inside = all(0 <= p < size for p, size in zip(place, shapes[1]))
                number = int(other.segment_map[tuple(place)]) if inside else 0
                if number and number - 1 in chosen:
                    assert (after.image[y, x] == other.image[tuple(place)]).all()
                    info = infos[after.segment_map[y, x] - 1]
                    assert info == infos_of(other_classes, crowds)[number - 1]
                    is_united = other_classes[number - 1] == 2 and number - 1 not in crowds
                    assert (after.segment_map[y, x] == 2) == is_united
                else:
                    assert (after.image[y, x] == before.image[y, x]).all()
                    assert after.segment_map[y, x] == before.segment_map[y, x]


def test_no_segments_on_either_side():
    for classes, other_classes in (([], []), ([0], []), ([], [0, 3])):
        image, other = segmented(1, (3, 4), classes), segmented(2, (3, 4), other_classes)
        infos = mix_in(image, infos_of(classes), other, infos_of(other_classes), STUFF)
        assert len(infos) == len(classes) + (len(other_classes) + 1) // 2
        assert image.segment_map.max() <= len(infos)


def tiny_mapper(folder):
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    dicts = load_panoptic_json(*map(str, paths), things={3: 0}, stuff={9: 1})
    return dicts, PanopticDatasetMapper(augmentations=[], image_format="RGB", stuff_classes={1})


def test_an_image_mixed_with_itself_keeps_its_pixels(tiny_dataset):
    folder, _ = tiny_dataset
    dicts, of_panoptic = tiny_mapper(folder)
    plain = MappedImages(dicts, of_panoptic, Order(0, 1, 1), RAISE)[0, 0]
    mixing = MappedImages(dicts, of_panoptic, Order(0, 1, 1), RAISE, mix_probability=1.0)
    seen = set()
    for place in range(10):
        mixed = mixing[place, 0]
        assert (mixed["image"] == plain["image"]).all()
        classes = mixed["instances"].gt_classes.tolist()
        seen.add(tuple(classes))
        # A thing covers itself, and stuff becomes one with itself.
        assert classes in ([0, 1], [1, 0])
        assert mixed["segment_map"].unique().tolist() == [0, 1, 2]
    assert len(seen) == 2
    assert (mixing[3, 0]["segment_map"] == mixing[3, 0]["segment_map"]).all()


def test_an_image_that_cannot_be_mixed_in_is_the_one_that_is_named(tiny_dataset, tmp_path):
    folder, _ = tiny_dataset
    (good,), of_panoptic = tiny_mapper(folder)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    bad = {**good, "file_name": str(tmp_path / "broken.jpg")}
    images = MappedImages([good, bad], of_panoptic, Order(0, 1, 1), RAISE, mix_probability=1.0)
    errors = [error for place in range(10) if isinstance(error := images[place, 0], UserError)]
    assert 0 < len(errors) < 10
    assert all("broken.jpg" in str(error) for error in errors)


def test_a_mapper_that_mixes_nothing_is_refused():
    with pytest.raises(UserError, match="INPUT.MIX_PROBABILITY is 0.5"):
        MappedImages([], mapper, Order(0, 1, 1), RAISE, mix_probability=0.5)
