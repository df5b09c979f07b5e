"""Datasets: collections of datapoints with versions, as bitmaps over their row numbers.

`lake.datasets` is the way in. A version holds the hash of a member set, a moment of the lake and
its parents; nothing in it ever changes.
"""

from katiml.datasets.dataset import Dataset
from katiml.datasets.datasets import Datasets
from katiml.datasets.diff import Diff
from katiml.datasets.merging import Merge
from katiml.datasets.status import Status
from katiml.datasets.version import Version

__all__ = ["Dataset", "Datasets", "Diff", "Merge", "Status", "Version"]
