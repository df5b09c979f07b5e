"""The demo: it runs, twice, says what is true, and leaves a lake that can be asked."""

from __future__ import annotations

import builtins
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import katiml
from katiml.cli import main
from katiml.demo import digits, picture, run
from katiml.demo.digits import accuracy


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a lake in which the demo ran twice, and what it printed the second time."""
    folder = tmp_path_factory.mktemp("demo") / "lake"
    printed = ""
    for _ in range(2):
        console = Console(width=120, record=True, file=io.StringIO())
        run(str(folder), console=console)
        printed = console.export_text()
    return folder, printed


def test_every_digit_is_in_the_lake_once(demo: tuple[Path, str]) -> None:
    with katiml.connect(demo[0]) as lake:
        assert lake.datapoints.count() == 1797
        assert lake.groundtruths.count() == 150
        assert lake.predictions.count() == 1797
        assert lake.tags.distinct("value") == ["katiml-demo", "pool", "test", "train"]
        assert (
            lake.feature_vectors.count({"left": "type", "op": "=", "right": "EMBEDDINGS"}) == 1797
        )


def test_uris_are_png_files(demo: tuple[Path, str]) -> None:
    from PIL import Image

    with katiml.connect(demo[0]) as lake:
        uris = lake.datapoints.select(fields=["metadata.uri"])["metadata.uri"]
    with Image.open(uris[0]) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
        pixels = np.asarray(image)[::8, ::8]
    assert np.array_equal(pixels, (digits().images[0] * (255 / 16)).astype(np.uint8))


def test_what_it_says_about_the_doubts_is_so(demo: tuple[Path, str]) -> None:
    data = digits()
    shifted = np.exp(data.logits - data.logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    pool = data.split == "pool"
    right = (data.logits.argmax(axis=1) == data.labels)[pool]
    order = np.argsort(-entropy[pool])
    said = re.search(r"right on (\d+)% of the 50 .* on (\d+)% of the", demo[1], re.DOTALL)
    assert said is not None
    assert int(said[1]) == pytest.approx(100 * right[order[:50]].mean(), abs=1)
    assert int(said[2]) == pytest.approx(100 * right[order[50:]].mean(), abs=1)


def test_a_round_of_active_learning_is_kept_as_versions(demo: tuple[Path, str]) -> None:
    with katiml.connect(demo[0]) as lake:
        (dataset,) = lake.datasets.list()
        second, first = dataset.versions()
        assert (first.size, second.size, second.added) == (100, 150, 50)
        assert first.groundtruths.count() == 100
        assert second.groundtruths.count() == 150
        labelled = second.diff(first).removed["id"].tolist()
        chosen = lake.datapoints.select(
            {"left": "id", "op": "in", "right": labelled}, ["id", "tags.*"]
        )
    assert all(
        {"train"} == {t["value"] for t in own if t["name"] == "split"} for own in chosen["tags"]
    )


def test_what_it_says_about_the_miners_is_so(demo: tuple[Path, str]) -> None:
    data = digits()
    said = dict(re.findall(r"^(the first 100|and 50 .*?) +([\d.]+)% *$", demo[1], re.MULTILINE))
    assert float(said["the first 100"]) == pytest.approx(100 * accuracy(data, []), abs=0.06)
    ordered = np.sort(np.exp(data.logits) / np.exp(data.logits).sum(axis=1, keepdims=True))
    pool = np.flatnonzero(data.split == "pool")
    margins = (ordered[:, -1] - ordered[:, -2])[pool]
    # Logits are kept as float16, which may exchange neighbours at the border.
    mine = 100 * accuracy(data, pool[np.argsort(margins)[:50]].tolist())
    assert float(said["and 50 chosen by MARGIN"]) == pytest.approx(mine, abs=1)


def test_the_commands_it_proposes_work(
    demo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    proposed = re.findall(r"^  (?:katiml|\S+ -m katiml) (.*)$", demo[1], re.MULTILINE)
    assert len(proposed) == 6
    for line in proposed:
        arguments = shlex.split(line)
        if arguments[0] != "serve":
            with pytest.raises(SystemExit) as left:
                main(arguments)
            assert left.value.code in (0, None), line
    assert len((tmp_path / "unsure.csv").read_text().splitlines()) == 1798


def test_it_leaves_other_records_alone(tmp_path: Path) -> None:
    with katiml.connect(tmp_path) as lake:
        lake.ingest([{"type": "TEXT", "text": "mine", "tags": {"source": "me"}}])
    run(str(tmp_path), console=Console(quiet=True))
    run(str(tmp_path), console=Console(quiet=True))
    with katiml.connect(tmp_path) as lake:
        assert lake.datapoints.count() == 1798
        assert lake.datapoints.count({"left": "text", "op": "=", "right": "mine"}) == 1


def test_by_default_it_works_in_a_lake_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "mine"))
    run(console=Console(quiet=True))
    assert not (tmp_path / "mine").exists()
    with katiml.connect(tmp_path / ".katiml-demo") as lake:
        assert lake.datapoints.count() == 1797


def test_without_scikit_learn_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Callable[..., Any] = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SystemExit) as left:
        main(["demo", "--lake", str(tmp_path)])
    assert left.value.code == 1
    assert "pip install 'katiml[demo]'" in capsys.readouterr().err


def test_pictures_show_bright_and_dark() -> None:
    image = np.array([[0, 255], [255, 0]], np.uint8)
    assert picture(image, colour=False).plain.splitlines() == [" █", "█ "]
    assert str(picture(image).spans[0].style) == "rgb(0,0,0) on rgb(255,255,255)"
