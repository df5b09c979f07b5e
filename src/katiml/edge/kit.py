"""What a device needs to choose as the lake would, in one file: settings and a reference.

An `.npz` file, with its settings as JSON text. Nothing in it is ever unpickled, and its size is
checked before it is read.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.edge.journal import sync_folder
from katiml.errors import InvalidInput, TooLarge

__all__ = ["MAX_KIT_BYTES", "Kit", "narrowed", "read_kit", "write_kit"]

MAX_KIT_BYTES = 256 << 20
_FORMAT = 1


@dataclass(frozen=True)
class Kit:
    """The settings of one `Miner`; `reference` is (R, D) or None, `made` says where it is from."""

    strategy: str
    model_name: str | None = None
    size: int | None = None
    threshold: float | None = None
    metric: str = "euclidean"
    neighbors: int = 5
    embeddings_field: str = "embeddings"
    aggregate: str = "sum"
    seed: int = 0
    reference: NDArray[Any] | None = None
    made: dict[str, Any] = field(default_factory=dict)


def write_kit(kit: Kit, path: str | os.PathLike[str]) -> Path:
    """Write a kit; the file is there whole or not at all. The reference is written as float16
    where that loses nothing (the lake's embeddings are float16), otherwise as float32."""
    target = Path(path)
    settings = {name: value for name, value in asdict(kit).items() if name != "reference"}
    text = json.dumps({"format": _FORMAT, **settings}, default=str).encode()
    arrays: dict[str, Any] = {"settings": np.frombuffer(text, np.uint8)}
    if kit.reference is not None:
        arrays["reference"] = narrowed(kit.reference)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers as float16 where that loses nothing, otherwise as float32.

    >>> narrowed(np.array([0.5])).dtype, narrowed(np.array([0.1])).dtype
    (dtype('float16'), dtype('float32'))
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half, values) else values.astype(np.float32)


def read_kit(path: str | os.PathLike[str]) -> Kit:
    """The kit of a file. Raises InvalidInput where it is none, TooLarge over 256 MiB."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_KIT_BYTES:
            raise TooLarge(f"{path} unpacks to {size:,} bytes, over {MAX_KIT_BYTES:,}")
        with np.load(path, allow_pickle=False) as archive:
            settings = json.loads(archive["settings"].tobytes())
            reference = archive.get("reference")
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InvalidInput(
            f"{path} is no file of an edge miner: {error}", hint="katiml edge export writes one"
        ) from None
    if not isinstance(settings, dict) or settings.get("format") != _FORMAT:
        form = settings.get("format") if isinstance(settings, dict) else settings
        raise InvalidInput(
            f"{path} is of format {form!r}, this KatiML reads {_FORMAT}", hint="update the device"
        )
    known = {item.name for item in fields(Kit)} - {"reference"}
    chosen = {name: value for name, value in settings.items() if name in known}
    if not _right_types(chosen) or (reference is not None and reference.dtype.kind != "f"):
        raise InvalidInput(f"{path} is damaged", hint="export it again")
    return Kit(**chosen, reference=reference)


def _right_types(settings: dict[str, Any]) -> bool:
    texts = ("strategy", "metric", "embeddings_field", "aggregate")
    numbers = ("neighbors", "seed")
    maybe = {"model_name": str, "size": int, "threshold": int | float}
    return (
        all(isinstance(settings.get(name), str) for name in texts)
        and all(type(settings.get(name)) is int for name in numbers)
        and all(
            settings.get(name) is None
            or (isinstance(settings[name], kind) and not isinstance(settings[name], bool))
            for name, kind in maybe.items()
        )
        and isinstance(settings.get("made", {}), dict)
    )
