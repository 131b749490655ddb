"""Frames of a video file or a camera, read while the model works, and a video written of them.

OpenCV does both, since Detectron2's visualizer brings it along anyway; torchvision no longer reads
videos.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..data.files import written_beside
from ..errors import UserError

_USUAL_RATE = 25.0  # frames a second, of a camera that does not say


@dataclass
class Frame:
    """
    Attributes:
        image: (H, W, 3) uint8, BGR, as OpenCV and `Predictor` have it.
        ticks: how many frames of the source it stands for: itself, and those dropped before it.
    """

    image: np.ndarray
    ticks: int = 1


class FrameSource:
    """An open video file or camera; a context manager, which closes it.

    Attributes:
        is_live: a camera, which does not wait.
        rate: frames a second.
        num_frames: of the file; None where it is not known.
    """

    def __init__(self, source: Path | int):
        """
        Args:
            source: a file, or the index of a camera, from 0.

        Raises:
            UserError: where it cannot be opened.
        """
        self.is_live = isinstance(source, int)
        if not isinstance(source, int) and not source.is_file():
            raise UserError(f"{source} does not exist: give a video file.")
        self._name = f"Camera {source}" if self.is_live else str(source)
        opened = source if isinstance(source, int) else str(source)
        self._capture = cv2.VideoCapture(opened)
        if not self._capture.isOpened():
            remedy = "give the index of one that is connected" if self.is_live else "convert it"
            raise UserError(f"{self._name} cannot be opened as a video: {remedy}.")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else _USUAL_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if count > 0 and not self.is_live else None

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._capture.release()

    def images(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8, BGR, to the end of the video.

        Raises:
            UserError: where there is none.
        """
        found, image = self._capture.read()
        if not found:
            raise UserError(f"{self._name} has no frame that can be read: convert the video.")
        while found:
            yield image
            found, image = self._capture.read()

    def batches(self, size: int) -> Generator[list[Frame], None, None]:
        """Up to `size` frames at a time, while the next ones are being read.

        A file gives every frame, and always `size` of them but at its end. A camera gives what has
        come since the last batch, so that a slow model sees fewer frames, but never old ones.
        """
        waiting = _Waiting(size, drop_oldest=self.is_live)
        reader = threading.Thread(target=_read, args=(self.images, waiting), daemon=True)
        reader.start()
        try:
            while batch := waiting.take(least=1 if self.is_live else size):
                yield batch
        finally:
            waiting.close()
            reader.join()


class _Waiting:
    """Frames between the thread that reads them and the one that takes them."""

    def __init__(self, capacity: int, drop_oldest: bool):
        self._frames: deque[Frame] = deque()
        self._capacity = capacity
        self._drop_oldest = drop_oldest
        self._changed = threading.Condition()
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, image: np.ndarray) -> bool:
        """Add a frame, after waiting for room or dropping the oldest; False if nobody wants it."""
        with self._changed:
            if not self._drop_oldest:
                self._changed.wait_for(lambda: self._is_closed or not self._is_full)
            if self._is_closed:
                return False
            dropped = self._frames.popleft().ticks if self._is_full else 0
            self._frames.append(Frame(image))
            self._frames[0].ticks += dropped
            self._changed.notify_all()
            return True

    def take(self, least: int) -> list[Frame]:
        """All that wait, once there are `least` or no more will come; then, nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._frames) >= least)
            frames = list(self._frames)
            self._frames.clear()
            self._changed.notify_all()
            if not frames and self._error:
                raise self._error
            return frames

    def close(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._is_closed = True
            self._error = error
            self._changed.notify_all()

    @property
    def _is_full(self) -> bool:
        return len(self._frames) == self._capacity


def _read(images: Callable[[], Iterator[np.ndarray]], waiting: _Waiting) -> None:
    try:
        for image in images():
            if not waiting.put(image):
                return
    except Exception as error:  # for the thread that takes the frames
        waiting.close(error)
    else:
        waiting.close()


class _VideoFile:
    def __init__(self, path: Path, rate: float):
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, picture: np.ndarray, ticks: int) -> None:
        """Add a picture, (H, W, 3) uint8, RGB, for a number of frames."""
        if self._writer is None:
            self._size = picture.shape[0] & ~1, picture.shape[1] & ~1  # the codec's blocks are even
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate, self._size[::-1])
            if not self._writer.isOpened():
                raise UserError(
                    f"No video can be written into {self._path.parent}: choose another."
                )
        height, width = self._size
        frame = np.ascontiguousarray(picture[:height, :width, ::-1])
        for _ in range(ticks):
            self._writer.write(frame)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


@contextmanager
def written_video(path: Path, rate: float) -> Iterator[_VideoFile]:
    """Give a video to `add` pictures to, which takes its place when it is complete.

    Its size is that of the first picture, less a row or column where that is odd.

    Args:
        path: a .mp4.
        rate: frames a second.
    """
    with written_beside(path) as unfinished:
        video = _VideoFile(unfinished, rate)
        try:
            yield video
        finally:
            video.close()


def annotate(
    source: FrameSource,
    path: Path,
    draw: Callable[[list[np.ndarray]], list[np.ndarray]],
    batch_size: int,
    limit: int | None = None,
) -> int:
    """Draw the frames of a source into a video, with progress; Ctrl-C ends a camera's.

    Args:
        path: of the video, a .mp4.
        draw: from frames, (H, W, 3) uint8, BGR, to pictures, RGB, of one size each.
        batch_size: frames that are drawn together, at most.
        limit: frames to draw; None for all.

    Returns:
        The number of frames drawn.
    """
    drawn = 0
    known = [number for number in (limit, source.num_frames) if number is not None]
    with (
        written_video(path, source.rate) as video,
        tqdm(total=min(known, default=None), desc="Drawing", unit="frame") as progress,
        closing(source.batches(batch_size)) as batches,
    ):
        try:
            for batch in batches:
                batch = batch if limit is None else batch[: limit - drawn]
                pictures = draw([frame.image for frame in batch])
                for frame, picture in zip(batch, pictures):
                    video.add(picture, frame.ticks)
                drawn += len(batch)
                progress.update(len(batch))
                if drawn == limit:
                    break
        except KeyboardInterrupt:
            if not (source.is_live and drawn):
                raise
    return drawn
