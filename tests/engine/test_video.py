"""Videos and cameras: all frames in order, live ones dropped with their time kept, safe files."""

import cv2
import numpy as np
import pytest

from detr_d2.engine import video
from detr_d2.engine.video import FrameSource, annotate
from detr_d2.errors import UserError

NUM_FRAMES = 10


def gray(number) -> np.ndarray:
    return np.full((32, 48, 3), 20 * number, np.uint8)


def numbers_of(images) -> list[int]:
    return [round(image.mean() / 20) for image in images]


def frames_of(path) -> list[int]:
    with FrameSource(path) as source:
        return numbers_of(source.images())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gray.mp4"
    with video.written_video(path, 10.0) as written:
        for number in range(NUM_FRAMES):
            written.add(gray(number), 1)
    return path


class Camera:
    """What OpenCV gives for a camera, which is unplugged after some frames."""

    num_frames = NUM_FRAMES

    def __init__(self, index):
        self.index, self.next, self.is_released = index, 0, False

    def isOpened(self):
        return self.index == 0

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}[key]

    def read(self):
        if self.next == self.num_frames:
            return False, None
        self.next += 1
        return True, gray(self.next - 1)

    def release(self):
        self.is_released = True


@pytest.fixture
def camera(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    return Camera


def test_a_file_gives_every_frame_in_full_batches(file):
    with FrameSource(file) as source:
        assert (source.rate, source.num_frames, source.is_live) == (10, NUM_FRAMES, False)
        batches = list(source.batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    frames = [frame for batch in batches for frame in batch]
    assert numbers_of(frame.image for frame in frames) == list(range(NUM_FRAMES))
    assert {frame.ticks for frame in frames} == {1}


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        FrameSource(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4 cannot be opened as a video: convert it"):
        FrameSource(tmp_path / "text.mp4")


def test_a_camera_that_is_not_there_is_said(camera):
    with pytest.raises(UserError, match=r"Camera 1 cannot be opened.*connected"):
        FrameSource(1)


def test_a_video_without_frames_is_said(camera, monkeypatch):
    monkeypatch.setattr(camera, "num_frames", 0)
    with FrameSource(0) as source, pytest.raises(UserError, match="Camera 0 has no frame"):
        next(source.batches(2))


def test_a_camera_is_closed_and_has_a_usual_rate(camera):
    with FrameSource(0) as source:
        assert (source.rate, source.num_frames, source.is_live) == (25, None, True)
    assert source._capture.is_released


def test_frames_that_nobody_took_are_dropped_the_oldest_first():
    waiting = video._Waiting(4, drop_oldest=True)
    for number in range(NUM_FRAMES):
        assert waiting.put(gray(number))
    frames = waiting.take(least=1)
    assert numbers_of(frame.image for frame in frames) == [6, 7, 8, 9]
    assert [frame.ticks for frame in frames] == [7, 1, 1, 1]
    waiting.close()
    assert waiting.take(least=1) == [] and not waiting.put(gray(0))


def test_with_room_for_one_frame_the_newest_is_given():
    waiting = video._Waiting(1, drop_oldest=True)
    for number in range(3):
        waiting.put(gray(number))
    (frame,) = waiting.take(least=1)
    assert (numbers_of([frame.image]), frame.ticks) == ([2], 3)


def test_a_camera_loses_frames_but_no_time(camera):
    with FrameSource(0) as source:
        frames = [frame for batch in source.batches(3) for frame in batch]
    numbers = numbers_of(frame.image for frame in frames)
    assert numbers == sorted(set(numbers)) and numbers[-1] == NUM_FRAMES - 1
    assert sum(frame.ticks for frame in frames) == NUM_FRAMES


def negative(images):
    return [255 - image for image in images]


def test_a_drawn_video_has_the_frames_and_the_rate_of_its_source(file, tmp_path):
    with FrameSource(file) as source:
        assert annotate(source, tmp_path / "out" / "a.mp4", negative, 4) == NUM_FRAMES
    with FrameSource(tmp_path / "out" / "a.mp4") as drawn:
        assert drawn.rate == 10
        levels = [image.mean() for image in drawn.images()]
    assert levels == pytest.approx([255 - 20 * n for n in range(NUM_FRAMES)], abs=4)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_odd_sizes_lose_a_row_or_column(tmp_path):
    with video.written_video(tmp_path / "odd.mp4", 5.0) as written:
        written.add(np.zeros((33, 47, 3), np.uint8), ticks=3)
    with FrameSource(tmp_path / "odd.mp4") as source:
        assert [image.shape for image in source.images()] == [(32, 46, 3)] * 3


def test_colours_are_red_green_and_blue(tmp_path):
    with video.written_video(tmp_path / "red.mp4", 5.0) as written:
        written.add(np.full((32, 32, 3), (255, 0, 0), np.uint8), ticks=1)
    with FrameSource(tmp_path / "red.mp4") as source:
        blue, _, red = next(source.images()).mean((0, 1))
    assert red > 200 and blue < 50


def test_a_limit_counts_frames(file, tmp_path):
    with FrameSource(file) as source:
        assert annotate(source, tmp_path / "a.mp4", list, 4, limit=6) == 6
    assert frames_of(tmp_path / "a.mp4") == [0, 1, 2, 3, 4, 5]


def stopped_after(batches):
    """Draws some batches and then is as if Ctrl-C had been pressed."""
    left = iter(range(batches))

    def draw(images):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return images

    return draw


def test_a_stopped_file_leaves_no_video(file, tmp_path):
    with FrameSource(file) as source, pytest.raises(KeyboardInterrupt):
        annotate(source, tmp_path / "out" / "a.mp4", stopped_after(1), 4)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stopped_camera_leaves_what_was_drawn(camera, tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "num_frames", 10**9)
    with FrameSource(0) as source:
        drawn = annotate(source, tmp_path / "a.mp4", stopped_after(1), 4)
    monkeypatch.undo()
    assert 1 <= drawn <= 4 and len(frames_of(tmp_path / "a.mp4")) >= drawn


def test_a_camera_that_is_stopped_before_its_first_frame_leaves_nothing(camera, tmp_path):
    with FrameSource(0) as source, pytest.raises(KeyboardInterrupt):
        annotate(source, tmp_path / "out" / "a.mp4", stopped_after(0), 4)
    assert list((tmp_path / "out").iterdir()) == []
