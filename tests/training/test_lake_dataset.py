"""`LakeDataset`, `LakeIterableDataset`, `to_tf_dataset`: a lake as training data."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from katiml.errors import InvalidInput, NotFound

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from katiml.torch import LakeDataset, LakeIterableDataset, collate  # noqa: E402

COUNT = 23


@pytest.fixture
def filled(lake: Any, tmp_path: Path) -> Any:
    """A lake of images whose pixels, class and number agree."""
    records = []
    for number in range(COUNT):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((2, 3), number, np.uint8)).save(path)
        records.append(
            {
                "type": "IMAGE",
                "metadata": {"uri": str(path), "number": number},
                "tags": {"split": "train" if number < 20 else "test"},
                "groundtruths": [
                    {"task_type": "CLASSIFICATION", "class_name": f"c{number}"},
                    {"task_type": "COMPLETION", "completions": [{"text": f"t{number}"}]},
                ],
            }
        )
    lake.ingest(records)
    return lake


def number_of(item: dict[str, Any]) -> int:
    """The number of an item, in which all its parts agree."""
    number = item["metadata"]["number"]
    assert np.asarray(item["image"])[0, 0] == number
    assert item.get("class_name", f"c{number}") == f"c{number}"
    assert item.get("completions", [{"text": f"t{number}"}]) == [{"text": f"t{number}"}]
    return int(number)


def test_items_by_number(filled: Any) -> None:
    train = [{"left": "tags.value", "op": "=", "right": "train"}]
    dataset = LakeDataset(filled, train, order_by="metadata.number", desc=True, limit=10)
    assert [number_of(dataset[index]) for index in range(10)] == list(range(19, 9, -1))
    assert len(dataset) == 10 and number_of(dataset[-1]) == 10
    assert set(dataset[0]) == {
        "id",
        "type",
        "metadata",
        "text",
        "image",
        "class_name",
        "completions",
    }
    with pytest.raises(IndexError):
        dataset[10]
    chosen = dataset.datapoint_ids[3:1:-1]
    some = LakeDataset(filled, ids=chosen, task_types=["CLASSIFICATION"], transform=number_of)
    assert [some[0], some[1]] == [16, 17] and some.datapoint_ids == chosen
    assert "class_name" not in LakeDataset(filled, limit=1, task_types=[])[0]
    assert len(LakeDataset(filled, {"left": "type", "op": "=", "right": "TEXT"})) == 0
    assert len(list(DataLoader(LakeDataset(filled, transform=number_of), batch_size=5))) == 5


def test_workers_see_the_same_rows(filled: Any) -> None:
    dataset = LakeDataset(filled, transform=number_of)
    loader = DataLoader(dataset, batch_size=4, num_workers=2)
    assert torch.cat(list(loader)).tolist() == list(range(COUNT))
    copy = pickle.loads(pickle.dumps(LakeDataset(filled)))
    assert number_of(copy[7]) == 7


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_batches_do_not_depend_on_workers(filled: Any, workers: int) -> None:
    dataset = LakeIterableDataset(filled, transform=number_of, batch_size=4, page=5)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers)
    assert torch.cat(list(loader)).tolist() == list(range(COUNT))
    assert len(dataset) == COUNT


def test_shuffled_epochs_cover_everything_and_are_reproducible(filled: Any) -> None:
    def epoch(number: int, seed: int = 1) -> list[int]:
        dataset = LakeIterableDataset(filled, transform=number_of, shuffle=True, seed=seed)
        dataset.set_epoch(number)
        return list(dataset)

    assert epoch(0) == epoch(0) and sorted(epoch(0)) == list(range(COUNT))
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, seed=2)


@pytest.mark.parametrize(("uneven", "each"), [("pad", 8), ("drop", 7), ("keep", None)])
def test_ranks_share_the_data(filled: Any, uneven: str, each: int | None) -> None:
    shares = [
        list(
            LakeIterableDataset(
                filled, transform=number_of, shuffle=True, rank=rank, world_size=3, uneven=uneven
            )
        )
        for rank in range(3)
    ]
    seen = [number for share in shares for number in share]
    if each is None:
        assert sorted(seen) == list(range(COUNT))
    else:
        assert [len(share) for share in shares] == [each] * 3
        assert len(set(seen)) == (COUNT if uneven == "pad" else 21)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_resumed_where_it_stopped(filled: Any, workers: int) -> None:
    def dataset() -> LakeIterableDataset:
        return LakeIterableDataset(filled, transform=number_of, shuffle=True, batch_size=4, page=10)

    def loader(data: LakeIterableDataset) -> Any:
        return DataLoader(data, batch_size=4, num_workers=workers)

    whole = [batch.tolist() for batch in loader(dataset())]
    again = dataset()
    again.load_state_dict({"epoch": 0, "samples": 8})
    assert len(again) == COUNT - 8
    assert [batch.tolist() for batch in loader(again)] == whole[2:]
    again.set_epoch(0)
    assert [batch.tolist() for batch in loader(again)] == whole


def test_state_counts_what_was_given(filled: Any) -> None:
    dataset = LakeIterableDataset(filled, transform=number_of, shuffle=True)
    items = iter(dataset)
    first = [next(items) for _ in range(9)]
    state = dataset.state_dict()
    assert state == {"epoch": 0, "samples": 9}
    rest = LakeIterableDataset(filled, transform=number_of, shuffle=True)
    rest.load_state_dict(state)
    assert sorted(first + list(rest)) == list(range(COUNT))


def test_a_broken_image_in_the_middle(filled: Any, tmp_path: Path) -> None:
    (tmp_path / "5.png").write_bytes(b"no image")
    (tmp_path / "6.png").unlink()
    with pytest.raises(NotFound, match=r"6\.png"):
        LakeDataset(filled)[6]
    with pytest.warns(UserWarning, match="is left out"):
        streamed = list(LakeIterableDataset(filled, transform=number_of, on_error="skip"))
    assert streamed == [number for number in range(COUNT) if number not in (5, 6)]
    dataset = LakeDataset(filled, transform=number_of, on_error="skip")
    with pytest.warns(UserWarning, match="is left out"):
        batches = list(DataLoader(dataset, batch_size=4, collate_fn=collate))
    assert torch.cat(batches).tolist() == streamed


def test_the_lakes_own_objects(lake: Any, tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3), 9, np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    stored = lake.scope.store.objects.put(lake.organization_id, content)
    lake.ingest([{"type": "IMAGE", "metadata": {"uri": f"object://{stored}"}}])
    dataset = LakeDataset(lake, transform=lambda item: np.asarray(item["image"])[0, 0])
    assert dataset[0] == 9
    assert list(DataLoader(dataset, batch_size=None, num_workers=1)) == [9]


def test_workers_that_are_spawned_open_the_lake_themselves(tmp_path: Path) -> None:
    script = """
        import sys
        import katiml
        from torch.utils.data import DataLoader
        from katiml.torch import LakeIterableDataset

        def text(item):
            return item["text"]

        if __name__ == "__main__":
            with katiml.connect(sys.argv[1]) as lake:
                lake.ingest([{"type": "TEXT", "text": str(n)} for n in range(7)])
                data = LakeIterableDataset(lake, transform=text)
                loader = DataLoader(
                    data, batch_size=None, num_workers=1, multiprocessing_context="spawn"
                )
                print(",".join(loader))
    """
    path = tmp_path / "spawned.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "0,1,2,3,4,5,6", done.stderr


def test_wrong_arguments(filled: Any) -> None:
    for options, error in (
        ({"on_error": "hide"}, "on_error is 'hide'"),
        ({"ids": ["a"], "limit": 3}, "ids are given"),
        ({"uneven": "x"}, "uneven is 'x'"),
        ({"page": 0}, "page 0"),
        ({"rank": 3, "world_size": 2}, "rank 3 of world_size 2"),
    ):
        with pytest.raises(InvalidInput, match=error):
            LakeIterableDataset(filled, **options)


@pytest.mark.xdist_group("tensorflow")
def test_a_tf_dataset(filled: Any, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    from katiml.tf import to_tf_dataset

    def arrays(item: dict[str, Any]) -> Any:
        return np.asarray(item["image"]), number_of(item)

    signature = (tf.TensorSpec((2, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = to_tf_dataset(filled, transform=arrays, output_signature=signature)
    assert len(dataset) == COUNT
    pairs = [(image.numpy(), int(number)) for image, number in dataset]
    assert [number for _, number in pairs] == list(range(COUNT))
    assert all((image == number).all() for image, number in pairs)
    (tmp_path / "5.png").unlink()
    skipping = to_tf_dataset(
        filled, transform=arrays, output_signature=signature, on_error="skip", workers=0
    )
    with pytest.warns(UserWarning, match="left out"):
        assert len(list(skipping)) == COUNT - 1


def test_other_libraries(filled: Any) -> None:
    table = filled.datapoints.to_arrow(fields=["id", "metadata.uri", "metadata.number"])
    assert [str(field.type) for field in table.schema] == ["string", "string", "int64"]
    assert table["metadata.number"].to_pylist() == list(range(COUNT))
    pytest.importorskip("polars")
    frame = filled.datapoints.to_polars(fields=["metadata.number", "tags.*"], limit=5)
    assert frame["metadata.number"].to_list() == list(range(5))
    assert frame["tags"][0][0]["value"] == "train"
    pytest.importorskip("datasets")
    dataset = filled.datapoints.to_hf(fields=["id", "metadata.uri", "metadata.number"], limit=5)
    assert np.asarray(dataset[3]["image"])[0, 0] == 3 == dataset[3]["metadata.number"]
