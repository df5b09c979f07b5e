"""Files, URLs and streams -> batches of records -> tables, one transaction a batch."""

from __future__ import annotations

from katiml.ingest.state import Source
from katiml.ingest.uploads import Upload, get_upload, ingest, ingest_records, list_uploads
from katiml.ingest.worker import finish_uploads, resume_uploads

__all__ = [
    "Source",
    "Upload",
    "finish_uploads",
    "get_upload",
    "ingest",
    "ingest_records",
    "list_uploads",
    "resume_uploads",
]
