"""Who takes part in a comparison, and whether they can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from ..engine import setup_cfg
from ..errors import UserError
from ..model_kind import kind_of

_SEVERAL_STEPS = "+"


@dataclass(frozen=True)
class Candidate:
    """
    Attributes:
        name: the last configuration's file, without suffix.
        files: configurations that are trained one after the other; the last is evaluated.
        overrides: keys and values that change all of them.
        cfgs: of `files`.
    """

    name: str
    files: tuple[str, ...]
    overrides: tuple[str, ...]
    cfgs: tuple[CfgNode, ...]

    @property
    def cfg(self) -> CfgNode:
        """The configuration of the model that is evaluated."""
        return self.cfgs[-1]

    @property
    def dataset(self) -> str:
        """The name of what all candidates are evaluated on."""
        return self.cfg.DATASETS.TEST[0]


def read_candidates(configs: Sequence[str], overrides: Sequence[str]) -> list[Candidate]:
    """
    Args:
        configs: of each candidate a YAML, or several joined by "+".
        overrides: keys and values in turn.

    Raises:
        UserError: where the candidates cannot be told apart, or give no panoptic results of one
            dataset.
    """
    candidates = []
    for files in (tuple(config.split(_SEVERAL_STEPS)) for config in configs):
        cfgs = tuple(setup_cfg(file, overrides) for file in files)
        candidates.append(Candidate(Path(files[-1]).stem, files, tuple(overrides), cfgs))
    _check(candidates)
    return candidates


def _check(candidates: list[Candidate]) -> None:
    names = [candidate.name for candidate in candidates]
    outputs = [cfg.OUTPUT_DIR for candidate in candidates for cfg in candidate.cfgs]
    for what, all_of_them in (("file name", names), ("OUTPUT_DIR", outputs)):
        repeated = [x for x in all_of_them if all_of_them.count(x) > 1]
        if repeated:
            raise UserError(
                f"Two configurations have the {what} {repeated[0]}: give each one of its own."
            )
    for candidate in candidates:
        if not kind_of(candidate.cfg).gives_panoptic:
            kind = candidate.cfg.MODEL.META_ARCHITECTURE
            raise UserError(
                f"{candidate.files[-1]} is a {kind}, which gives no panoptic result: compare "
                "PanopticDETR and UnifiedPanopticFPN."
            )
        if candidate.cfg.DATASETS.TEST != candidates[0].cfg.DATASETS.TEST:
            raise UserError(
                f"{candidate.files[-1]} and {candidates[0].files[-1]} have other DATASETS.TEST: "
                "compare models on one dataset."
            )
