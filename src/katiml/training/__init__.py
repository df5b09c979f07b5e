"""What training sets of every framework are made of: rows, targets, files and their cache."""

from __future__ import annotations
