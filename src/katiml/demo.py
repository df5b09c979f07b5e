"""`katiml demo`: KatiML's main job on real input, without a server, a key or a download.

Handwritten digits become PNG files; a small classifier learns from a hundred of them; all of them
go into a lake with their tags, ground truths, logits and embeddings; and the lake says which
images the classifier is least sure of, the ones worth labelling next.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

import katiml
from katiml.errors import InvalidSource, MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType
    from rich.text import Text

    from katiml.lake import Lake

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
_MODEL = "logistic-regression"
_NAMES = [str(digit) for digit in range(10)]
_LABELLED = 100  # digits whose label the model may see; the others are the pool
_DOUBTS = 50  # the most uncertain ones, compared with the rest
_PICTURES = 8  # of them, this many are drawn
_SHADES = " ░▒▓█"
_SCALE = 8  # pixels of a PNG file for each of the 8 x 8 pixels of a digit


def _tag(name: str, value: str) -> list[dict[str, str]]:
    return [
        {"left": "tags.name", "op": "=", "right": name},
        {"left": "tags.value", "op": "=", "right": value},
    ]


@dataclass(frozen=True)
class Digits:
    """1,797 digits, and what a classifier that saw some of them makes of all.

    `images` (n, 8, 8) in 0…16, `labels` (n,) int, `labelled` (n,) bool: whether it was trained on,
    `logits` (n, 10) float64, `embeddings` (n, 16) float32.
    """

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    labelled: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]
    embeddings: np.ndarray[Any, Any]


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
    with _step(console, f"train a classifier on {_LABELLED} of 1,797 handwritten digits"):
        data = digits()
    with _step(console, f"write the digits as PNG files to {folder / 'digits'}"):
        uris = write_images(data, folder / "digits")
        written = write_records(data, uris, folder / "digits" / "records.ndjson")
    with katiml.connect(url) as lake:
        earlier = _tag("source", "katiml-demo")
        if lake.datapoints.count(earlier):
            with _step(console, "remove what an earlier demo left"):
                lake.datapoints.delete(earlier)
        console.print()
        _upload(console, lake, written)
        _ask(console, lake)
        _doubts(console, lake, dict(zip(uris, data.labels.tolist(), strict=True)))
    _what_next(console, url)


def digits() -> Digits:
    """Scikit-learn's digits and a logistic regression trained on the first hundred of them.

    >>> digits().logits.shape
    (1797, 10)
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.decomposition import PCA
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise MissingExtra(
            "the demo needs scikit-learn, which is not installed",
            hint="pip install 'katiml[demo]'",
        ) from None
    loaded = load_digits()
    features = loaded.data / 16.0
    labelled = np.arange(len(features)) < _LABELLED
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(features[labelled], loaded.target[labelled])
    embeddings = PCA(16, random_state=0).fit(features[labelled]).transform(features)
    return Digits(
        images=loaded.images,
        labels=loaded.target,
        labelled=labelled,
        logits=model.decision_function(features),
        embeddings=embeddings.astype(np.float32),
    )


def pixels(data: Digits) -> np.ndarray[Any, Any]:
    """The images as (n, 64, 64) uint8, large enough to look at."""
    grey = (data.images * (255 / 16)).astype(np.uint8)
    return grey.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)


def write_images(data: Digits, folder: Path) -> list[str]:
    """One PNG file of 64 x 64 pixels for each digit; their paths, which become `metadata.uri`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for index, image in enumerate(pixels(data)):
        path = folder / f"{index:04d}.png"
        Image.fromarray(image).save(path)
        uris.append(str(path.resolve()))
    return uris


def write_records(data: Digits, uris: list[str], path: Path) -> Path:
    """The records as a file of one JSON object a line, as a training job would write them."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    with path.open("wb") as file:
        for record in records(data, uris):
            file.write(orjson.dumps(record, option=options))
    return path


def records(data: Digits, uris: list[str]) -> Iterator[dict[str, Any]]:
    """One record for each digit, whose image is at its `uri`."""
    return (_record(data, index, uri) for index, uri in enumerate(uris))


def _record(data: Digits, index: int, uri: str) -> dict[str, Any]:
    size = data.images.shape[1] * _SCALE
    labelled = bool(data.labelled[index])
    record: dict[str, Any] = {
        "type": "IMAGE",
        "metadata": {"uri": uri, "width": size, "height": size},
        "tags": {"source": "katiml-demo", "split": "train" if labelled else "pool"},
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": _MODEL,
                "class_names": _NAMES,
                "logits": data.logits[index],
                "embeddings": {"pca": data.embeddings[index]},
            }
        ],
    }
    if labelled:
        name = _NAMES[data.labels[index]]
        record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": name}]
    return record


def _folder(lake_url: str | None) -> Path:
    """Where the PNG files go: into the folder of the lake if it has one, else the demo's own."""
    local = lake_url is not None and ":" not in lake_url
    folder = Path(lake_url if lake_url and local else DEMO_LAKE).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# -- what the demo asks: each question is shown as the code that is then run ----------------

_TRAIN = """train = [
    {"left": "tags.name", "op": "=", "right": "split"},
    {"left": "tags.value", "op": "=", "right": "train"},
]"""
_POOL = _TRAIN.replace("train", "pool")
_EIGHTS = 'eights = [*train, {"left": "groundtruths.class_name", "op": "=", "right": "8"}]'
_SELECT = """lake.datapoints.select(
    eights,
    fields=["metadata.uri", "groundtruths.class_name", "predictions.confidence"],
    limit=3,
)"""
_RANK = """lake.predictions.select(
    pool,
    fields=["datapoint", "class_name", "confidence", "metrics.entropy"],
    order_by="metrics.entropy",
    desc=True,
)"""


def _upload(console: Console, lake: Lake, path: Path) -> None:
    from katiml.cli.progress import follow

    upload = _run(console, {"lake": lake}, f'lake.ingest("{path.as_posix()}")')
    follow(upload, "upload", console)
    if upload.status != "SUCCEEDED" or upload.counts["rejected"]:
        raise InvalidSource(f"the demo's records did not land: {upload.error or upload.counts}")
    landed, duration = upload.counts["landed"], upload.duration
    console.print(f"{upload.status}: {landed:,} records, {landed / duration:,.0f} a second\n")


def _ask(console: Console, lake: Lake) -> None:
    """Filters, counts and distributions."""
    names: dict[str, Any] = {"lake": lake}
    _run(console, names, _TRAIN)
    counts = _run(console, names, "lake.datapoints.count(), lake.datapoints.count(train)")
    console.print(counts, "")
    _run(console, names, _EIGHTS)
    console.print(_table(_run(console, names, _SELECT)), "")
    console.print(_bars(_run(console, names, "lake.predictions.distribution()")), "")
    entropies = _run(console, names, 'lake.predictions.distribution("metrics.entropy")')
    console.print(_bars(entropies), "")


def _doubts(console: Console, lake: Lake, truth: dict[str, int]) -> None:
    """What the model is least sure of in the pool, and whether that is where it is wrong."""
    names: dict[str, Any] = {"lake": lake}
    _run(console, names, _POOL)
    ranked = _run(console, names, _RANK)
    images = lake.datapoints.select(names["pool"], ["id", "metadata.uri"])
    ranked = ranked.merge(images, left_on="datapoint", right_on="id")
    console.print(f"The most uncertain of {len(ranked):,}, and what the model takes them for:\n")
    console.print(_pictures(console, ranked.head(_PICTURES)))
    right = ranked["metadata.uri"].map(truth).astype(str) == ranked["class_name"]
    console.print(
        f"\nThe model is right on [bold]{right[:_DOUBTS].mean():.0%}[/] of the {_DOUBTS} digits it"
        f" is least sure of, and on [bold]{right[_DOUBTS:].mean():.0%}[/] of the others:"
        " label those first.\n"
    )


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
        f"serve --lake {url}",
    ):
        console.print(f"  {program} {rest}", style="cyan", markup=False, soft_wrap=True)


# -- how answers look ------------------------------------------------------------------------


def _run(console: Console, names: dict[str, Any], code: str) -> Any:
    """Show some code, run it, and say how long it took if it asked the lake."""
    for number, line in enumerate(code.splitlines()):
        prompt = "..." if number else ">>>"
        console.print(f"{prompt} {line}", style="cyan", markup=False, soft_wrap=True)
    if "lake." not in code:
        exec(code, names)  # noqa: S102  the texts are those of this module
        return None
    start = time.perf_counter()
    answer = eval(code, names)  # noqa: S307
    console.print(f"{(time.perf_counter() - start) * 1000:.0f} ms", style="dim")
    return answer


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    console.print(f"  {what} [dim]{time.perf_counter() - start:.1f} s[/]", soft_wrap=True)


def _table(rows: pd.DataFrame) -> RenderableType:
    from katiml.cli.output import table_of

    return table_of(
        [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    )


def _bars(counts: pd.DataFrame) -> RenderableType:
    """A distribution as bars, the longest 40 characters."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    most = counts["count"].max()
    for bucket, count in zip(counts["bucket"], counts["count"], strict=True):
        table.add_row(str(bucket), f"[blue]{'█' * round(40 * count / most)}[/] {count:,}")
    return table


def _pictures(console: Console, guesses: pd.DataFrame) -> RenderableType:
    """Images side by side, each above what the model takes it for."""
    from PIL import Image
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    images = []
    for path in guesses["metadata.uri"]:
        with Image.open(path) as image:
            images.append(np.asarray(image)[::_SCALE, ::_SCALE])
    colour = console.color_system is not None
    table.add_row(*(picture(image, colour=colour) for image in images))
    said = zip(guesses["class_name"], guesses["confidence"], strict=True)
    table.add_row(*(f"{name}? {confidence:.0%}" for name, confidence in said))
    return table


def picture(image: np.ndarray[Any, Any], *, colour: bool = True) -> Text:
    """A small grey image as text: half blocks, two pixels a character; without colours, shades.

    >>> picture(np.array([[0, 255], [128, 0]], np.uint8), colour=False).plain.splitlines()
    [' █', '▒ ']
    """
    from rich.text import Text

    if not colour:
        shades = image.astype(int) * (len(_SHADES) - 1) // 255
        return Text("\n".join("".join(_SHADES[shade] for shade in row) for row in shades.tolist()))
    text = Text()
    for upper, lower in zip(image[0::2].tolist(), image[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", style=f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
        text.append("\n")
    return text
