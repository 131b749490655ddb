import pytest

from detr_d2.data.validation import Dataset


@pytest.fixture
def dataset(tiny_dataset):
    """The folder and the JSON of the tiny dataset, and a function that changes it."""
    folder, write = tiny_dataset
    content = write()

    def rewrite(ids=None, image_size=None, **changes):
        write(ids, image_size, **{**content, **changes})
        return Dataset(*(str(folder / x) for x in ("images", "panoptic", "panoptic.json")))

    return folder, content, rewrite
