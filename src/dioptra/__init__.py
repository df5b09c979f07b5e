"""The SDK under the names that existing code uses: `from dioptra.lake.utils import …`.

It is a thin client of KatiML: of an embedded lake, or of a server where `DIOPTRA_APP_ENDPOINT`
names one.
"""

from __future__ import annotations
