import json
import re

import numpy as np
import pytest
from panoptic_maps import random_pair, write_files
from PIL import Image

from detr_d2.errors import UserError
from detr_d2.evaluation.results_page import write_results_page


def test_worst_first_with_escaped_names_and_pictures_beside(tmp_path):
    rng = np.random.default_rng(2)
    first, second = (random_pair(rng, 40, 60) for _ in range(2))
    perfect = (*second[:2], *second[:2])
    truth_json, _, truth_root, _ = write_files(tmp_path, [perfect, first])
    (tmp_path / "found").rename(tmp_path / "panoptic")
    (tmp_path / "found.json").rename(tmp_path / "predictions.json")
    content = json.loads((tmp_path / "truth.json").read_text())
    content["images"][1]["file_name"] = "<b>&1.png"
    (tmp_path / "truth.json").write_text(json.dumps(content))
    for image in content["images"]:
        Image.new("RGB", (60, 40)).save(tmp_path / image["file_name"], format="PNG")

    out = tmp_path / "out"
    drawn = write_results_page(str(tmp_path), truth_root, truth_json, str(tmp_path), str(out), 5)

    page = (out / "index.html").read_text()
    assert drawn == 2
    assert re.findall("<h2>(.*?)</h2>", page) == ["&lt;b&gt;&amp;1.png", "0.jpg"]
    assert "<b>" not in page and "<!--" not in page
    assert "PQ 100.0, SQ 100.0, RQ 100.0" in page
    assert len(re.findall("missed \\(0\\)", page)) == 1
    sources = re.findall('<img src="(.*?)" loading="lazy"', page)
    assert len(sources) == 8
    for source in sources:
        with Image.open(out / source) as picture:
            picture.verify()


def test_a_json_of_another_kind_is_named(tmp_path):
    for name, content in (("truth", {"categories": []}), ("list", []), ("images", {"images": []})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"{name}.json has no list"):
            write_results_page(str(tmp_path), str(tmp_path), str(path), str(tmp_path), "out", 5)
