"""The rows of the table: what is done, by each variant, again and again."""

from .data import Evaluation, Loading
from .deployment import BoxDeployment, PanopticDeployment
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

# Asked for by name alone: they compile for minutes, and want packages that nothing else does.
FURTHER_WORKS: dict[str, type[Work]] = {
    work.name: work for work in (BoxDeployment, PanopticDeployment)
}

__all__ = ["FURTHER_WORKS", "WORKS", "Case", "Work"]
