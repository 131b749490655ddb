"""Categories are found without reading all of a long JSON, or by reading it."""

import json

import pytest

from detr_d2.data import coco_json
from detr_d2.data.coco_json import read_categories, read_coco
from detr_d2.errors import UserError

MANY = [{"id": f"{n}", "name": f"Stra\u00dfe {n}", "isthing": n % 2} for n in range(3000)]
FEW = [{"id": 3.0, "name": 'a "quoted" ] name', "isthing": "1"}]


def written(file, text, encoding="utf-8"):
    file.write_text(text, encoding=encoding)
    return file


@pytest.mark.parametrize("categories", [MANY, FEW, []])
@pytest.mark.parametrize("names", [("categories", "images"), ("images", "categories")])
@pytest.mark.parametrize("indent", [None, 1])
def test_they_are_those_of_the_whole(tmp_path, monkeypatch, categories, names, indent):
    content = {name: categories if name == "categories" else [{"id": 1}] for name in names}
    for ensure_ascii in (True, False):
        text = json.dumps(content, indent=indent, ensure_ascii=ensure_ascii)
        file = written(tmp_path / "a.json", text)
        with monkeypatch.context() as patch:
            patch.setattr(coco_json, "read_json_object", None)  # is not asked
            patch.setattr(coco_json, "_FIRST_BYTES", 7)  # ends within a letter
            found = read_categories(file)
        assert found == read_coco(file)["categories"]


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"categories": [1]}], "categories": [{"id": "4"}]}',  # twice
        '{"images": ["categories"]}',
        '{"images": [{"file_name": "categories"}], "c": 1}',
        '{"\\u0063ategories": [{"id": 1.0}]}',  # written in another way
        '{"categories": {"id": 1}}',
        '{"categories": null}',
        "{}",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_where_it_is_not_plain_all_is_read(tmp_path, text, encoding):
    file = written(tmp_path / "a.json", text, encoding)
    assert read_categories(file) == read_coco(file).get("categories")


@pytest.mark.parametrize("text", ['{"categories": [{"id": 1}', '{"categories" 3', "[]", ""])
def test_what_is_no_json_is_said(tmp_path, text):
    with pytest.raises(UserError, match=r"a\.json"):
        read_categories(written(tmp_path / "a.json", text))


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_categories(tmp_path / "a.json")
