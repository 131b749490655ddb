"""Files of other names, sizes and depths than the JSON, or anyone, expects."""

import json

import numpy as np
import pytest
from PIL import Image

from detr_d2.data.depth import GreyLevels
from detr_d2.data.validation import fix, validate


def with_image(content, **changes):
    return {"images": [{**content["images"][0], **changes}]}


@pytest.mark.parametrize("listed", ["A.PNG", "../a.png", "sub\\\\a.png", "/elsewhere/a.png"])
def test_files_of_another_name_are_found_and_fixed(dataset, listed):
    folder, content, rewrite = dataset
    changed = rewrite(**with_image(content, file_name=listed))
    report = validate(changed, None, 1)
    assert [(p.kind, p.can_be_fixed) for p in report.problems] == [("File names", True)]
    assert f"{listed} does not exist in" in report.problems[0].sentence
    fix(report)
    assert json.loads((folder / "panoptic.json").read_text()) == content
    assert validate(changed, None, 1).problems == []


def test_names_of_pngs_are_found_too(dataset):
    _, content, rewrite = dataset
    annotation = {**content["annotations"][0], "file_name": "A.png"}
    report = validate(rewrite(annotations=[annotation]), None, 1)
    assert [(p.kind, p.can_be_fixed) for p in report.problems] == [("File names", True)]


@pytest.mark.parametrize("sizes", [(4, 6), (6, 4)])
def test_maps_of_photographs_as_stored_say_so(dataset, sizes):
    """Whether the JSON has the sides of the file or of the upright image."""
    folder, content, rewrite = dataset
    changed = rewrite(**with_image(content, height=sizes[0], width=sizes[1]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(folder / "images/a.png", exif=exif)
    (problem,) = validate(changed, None, 1).problems
    assert problem.kind == "Sizes"
    assert "before its EXIF orientation turns it" in problem.sentence
    assert problem.sentence.endswith("--annotated-as-stored.")


def test_sizes_that_are_missing_are_those_of_the_image(dataset):
    folder, content, rewrite = dataset
    image = {k: v for k, v in content["images"][0].items() if k not in ("height", "width")}
    report = validate(rewrite(images=[image]), None, 1)
    assert [(p.kind, p.can_be_fixed) for p in report.problems] == [("Sizes", True)]
    fix(report)
    assert json.loads((folder / "panoptic.json").read_text()) == content


def test_dark_images_of_sixteen_bits_are_doubted(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    values = np.full((4, 6), 4000, dtype=np.uint16)
    values[0, 0] = 0
    Image.fromarray(values).save(folder / "images/a.png")
    report = validate(changed, None, 1)
    ((kind, sentence, wrong),) = [(p.kind, p.sentence, p.wrong) for p in report.problems]
    assert (kind, wrong) == ("Doubtful", False)
    assert "1 images have 16 bits a channel and values from 0 to 4000 alone" in sentence
    assert "INPUT.WHITE, to 4095" in sentence
    report = validate(changed, None, 1, GreyLevels(white=4095))
    assert report.problems == []
    assert "INPUT:\n  WHITE: 4095\n" in report.text(5) and "\nINPUT.WHITE 4095 " in report.text(5)


def test_images_of_sixteen_bits_that_are_nearly_of_one_grey_are_doubted(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    values = np.full((4, 6), 32768, dtype=np.uint16)
    values[0, 0] = 36000
    Image.fromarray(values).save(folder / "images/a.png")
    (problem,) = validate(changed, None, 1).problems
    assert "values from 32768 to 36000 alone" in problem.sentence
    assert "set INPUT.BLACK and INPUT.WHITE, to 32768 and 36000 perhaps" in problem.sentence
    report = validate(changed, None, 1, GreyLevels(32768, 36000))
    assert report.problems == []
    assert "INPUT:\n  BLACK: 32768\n  WHITE: 36000\n" in report.text(5)
    assert "\nINPUT.BLACK 32768 INPUT.WHITE 36000 " in report.text(5)


def test_overlap_is_found_whatever_is_black_and_white(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100
    Image.fromarray(values).save(folder / "images/a.png")
    against = (str(folder / "images"), changed.panoptic_json)
    kinds = {p.kind for p in validate(changed, against, 1, GreyLevels(white=4095)).problems}
    assert kinds == {"Overlap"}


def test_maps_that_cannot_be_used_are_not_counted(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    Image.fromarray(np.ones((4, 6), np.uint16)).save(folder / "panoptic/a.png")
    report = validate(changed, None, 1)
    assert [p.kind for p in report.problems] == ["Ids of another form"]
    text = report.text(5)
    assert "No PNG of the 1 images could be used, so that nothing is counted." in text
    assert "0 segments" not in text
