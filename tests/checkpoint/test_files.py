import json
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
import torch
from safetensors.torch import save_file

from detr_d2.checkpoint.files import read, weights_file
from detr_d2.errors import UserError


def test_safetensors_are_told_by_their_content(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2], dtype=torch.uint8)}
    save_file(tensors, tmp_path / "no_suffix")
    loaded = read(str(tmp_path / "no_suffix"))
    assert loaded.keys() == tensors.keys()
    for name in tensors:
        assert torch.equal(loaded[name], tensors[name])


@pytest.mark.parametrize("offsets, shape", [([0, 3], [3]), ([0, 2], [3])])
def test_broken_safetensors_are_refused(tmp_path, offsets, shape):
    header = json.dumps({"a": {"dtype": "U8", "shape": shape, "data_offsets": offsets}}).encode()
    path = tmp_path / "broken"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\1")
    with pytest.raises(UserError, match="broken is not a whole safetensors file"):
        read(str(path))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("weights")
    with pytest.raises(UserError, match="text is no file of weights that the project knows"):
        read(str(tmp_path / "text"))


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Where a server on this machine serves the folder "served"."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "downloads"))
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_are_downloaded(tmp_path, address):
    save_file({"a": torch.arange(3)}, tmp_path / "served" / "weights.pth")
    file = weights_file(f"{address}/weights.pth")
    assert file.startswith(str(tmp_path / "downloads"))
    assert torch.equal(read(file)["a"], torch.arange(3))


def test_what_cannot_be_downloaded_is_said_in_one_sentence(address):
    with pytest.raises(UserError, match=r"nothing\.pth was not downloaded .*404.* name the file"):
        weights_file(f"{address}/nothing.pth")
    with pytest.raises(UserError, match=r"There is no file nonsense://a\.pth"):
        weights_file("nonsense://a.pth")
