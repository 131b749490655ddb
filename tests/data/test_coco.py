import pytest
from detectron2.data import MetadataCatalog

from detr_d2.data.coco import require_coco
from detr_d2.errors import UserError


@pytest.mark.parametrize(
    "name, addresses",
    [
        ("coco_2017_val", ["annotations_trainval2017.zip", "zips/val2017.zip"]),
        ("coco_2017_train", ["annotations_trainval2017.zip", "zips/train2017.zip"]),
        (
            "coco_2017_val_panoptic",
            ["panoptic_annotations_trainval2017.zip", "panoptic_val2017.zip", "zips/val2017.zip"],
        ),
    ],
)
def test_what_is_missing_is_named_with_its_address(name, addresses):
    with pytest.raises(UserError) as error:
        require_coco(name)
    for address in addresses:
        assert address in str(error.value)


def test_files_that_are_there_are_not_named(tmp_path, monkeypatch):
    metadata = MetadataCatalog.get("coco_2017_val")
    (tmp_path / "val.json").write_text("{}")
    monkeypatch.setitem(metadata.__dict__, "json_file", str(tmp_path / "val.json"))
    with pytest.raises(UserError) as error:
        require_coco("coco_2017_val")
    assert "val.json" not in str(error.value) and "zips/val2017.zip" in str(error.value)


def test_other_datasets_pass():
    require_coco("shapes_panoptic_val")
