from .candidates import Candidate, read_candidates
from .compare import compare

__all__ = ["Candidate", "compare", "read_candidates"]
