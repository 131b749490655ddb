"""The rows of the table: what is done, by each variant, again and again."""

from .data import Evaluation, Loading
from .inference import BoxInference, MaskInference, PanopticInference
from .merging import MergingAll, MergingAllByScores, MergingByScores, MergingKept
from .quality import QualityInMemory, QualityOfFiles
from .training import JointTraining, MaskTraining
from .work import Case, Work

WORKS: dict[str, type[Work]] = {
    work.name: work
    for work in (
        PanopticInference,
        MaskInference,
        BoxInference,
        MaskTraining,
        JointTraining,
        MergingKept,
        MergingAll,
        MergingByScores,
        MergingAllByScores,
        Loading,
        Evaluation,
        QualityOfFiles,
        QualityInMemory,
    )
}

__all__ = ["WORKS", "Case", "Work"]
