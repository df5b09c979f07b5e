"""`katiml demo`: KatiML's main job on real input, without a server, a key or a download.

Handwritten digits become PNG files; a small classifier learns from a hundred of them; all of them
go into a lake with their tags, ground truths, logits and embeddings. The lake says which images the
classifier is least sure of, miners choose fifty to label next, a dataset keeps what was trained on
as versions, and the classifier learns again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import katiml
from katiml.demo.digits import MODEL, Digits, digits, pixels, records, write_images, write_records
from katiml.demo.learning import DATASET, learn
from katiml.demo.questions import ask, doubts, upload
from katiml.demo.showing import picture, step

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "DEMO_LAKE",
    "Digits",
    "digits",
    "picture",
    "pixels",
    "records",
    "run",
    "write_images",
    "write_records",
]

DEMO_LAKE = "~/.katiml-demo"


def run(lake_url: str | None = None, *, console: Console | None = None) -> None:
    """Run the demo and print what happens. It can be run again: it replaces what it left.

    Raises
    ------
    MissingExtra
        scikit-learn, which brings the digits and the classifier, is not installed.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    folder = _folder(lake_url)
    url = lake_url or str(folder)
    console.print(f"[bold]KatiML {katiml.__version__}[/], an ML data lake. This one: {url}\n")
    with step(console, "train a classifier on 100 of 1,797 handwritten digits"):
        data = digits()
    with step(console, f"write the digits as PNG files to {folder / 'digits'}"):
        uris = write_images(data, folder / "digits")
        written = write_records(data, uris, folder / "digits" / "records.ndjson")
    with katiml.connect(url) as lake:
        earlier = [
            {"left": "tags.name", "op": "=", "right": "source"},
            {"left": "tags.value", "op": "=", "right": "katiml-demo"},
        ]
        if lake.datapoints.count(earlier):
            with step(console, "remove what an earlier demo left"):
                lake.datapoints.delete(earlier)
                for dataset in lake.datasets.list():
                    if dataset.name == DATASET:
                        dataset.delete()
        console.print()
        upload(console, lake, written)
        ask(console, lake)
        doubts(console, lake, dict(zip(uris, data.labels.tolist(), strict=True)))
        learn(console, lake, data, uris)
    _what_next(console, url)


def _folder(lake_url: str | None) -> Path:
    """Where the PNG files go: into the folder of the lake if it has one, else the demo's own."""
    local = lake_url is not None and ":" not in lake_url
    folder = Path(lake_url if lake_url and local else DEMO_LAKE).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _what_next(console: Console, url: str) -> None:
    url = shlex.quote(url)
    python = os.path.relpath(sys.executable)
    # After `make demo` the command is in the project's own environment, which is not activated.
    program = "katiml" if shutil.which("katiml") else f"{python} -m katiml"
    console.print("[bold]Type next[/]")
    for rest in (
        f"status --lake {url}",
        f'select --lake {url} --filter "tags.name = split" --filter "tags.value = train"',
        f"select predictions --lake {url} --order-by metrics.entropy --desc -o unsure.csv",
        f"dataset log {DATASET} --lake {url}",
        f"mine TYPICLUST --size 10 --lake {url} --model {MODEL}:pca",
        f"serve --lake {url}",
    ):
        console.print(f"  {program} {rest}", style="cyan", markup=False, soft_wrap=True)
