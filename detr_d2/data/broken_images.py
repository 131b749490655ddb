"""Images of a training that cannot be read: `DATALOADER.BROKEN_IMAGES`."""

import logging
from pathlib import Path

from ..errors import UserError

# Of images and annotation that are not as they should be, in our reading and Detectron2's.
READING_ERRORS = (OSError, ValueError, SyntaxError)

logger = logging.getLogger(__name__)


class BrokenImages:
    """They end the training, or are passed over, named in the log and in a file of OUTPUT_DIR.

    The file is what processes that read have in common: each adds its lines.
    """

    def __init__(self, policy: str, greatest_share: float, output_dir: str):
        """
        Args:
            policy: "raise" or "skip".
            greatest_share: of the training's images; with more, it ends.
            output_dir: of "broken_images.txt".
        """
        if policy not in ("raise", "skip"):
            raise UserError(f"DATALOADER.BROKEN_IMAGES is {policy}: set raise or skip.")
        self.policy, self.greatest_share = policy, greatest_share
        self.file = Path(output_dir, "broken_images.txt")

    def meet(self, image: dict, error: Exception, total: int) -> None:
        """
        Args:
            image: its dict.
            error: why it cannot be trained on.
            total: images of the training.

        Raises:
            UserError: where the training ends.
        """
        why = " ".join(str(error).split())
        if self.policy == "raise":
            if isinstance(error, UserError):
                raise error
            raise UserError(
                f"{image['file_name']} cannot be trained on: {why}. Mend it or take it out, or "
                "pass over such images with DATALOADER.BROKEN_IMAGES skip."
            ) from error
        known = self.file.read_text().splitlines() if self.file.is_file() else []
        line = f"{image['file_name']}\t{why}"
        if line not in known:
            self._write(line)
            known.append(line)
            logger.warning(
                "%s cannot be trained on and is passed over (%s): see %s.",
                *(image["file_name"], why, self.file),
            )
        broken = len({line.split("\t")[0] for line in known})
        if broken > self.greatest_share * total:
            raise UserError(
                f"{broken} of {total} images cannot be trained on, more than the share of "
                f"{self.greatest_share:g} that DATALOADER.BROKEN_IMAGES_SHARE allows: they are in "
                f"{self.file}."
            )

    def _write(self, line: str) -> None:
        try:
            with open(self.file, "a") as file:
                file.write(f"{line}\n")
        except OSError as error:  # a full disk: it is named when it is met again
            logger.error("%s cannot be written (%s): make room for it.", self.file, error)
