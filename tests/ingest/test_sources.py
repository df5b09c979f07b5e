"""Every format, compression and line ending gives the same records, in blocks of any size."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from katiml.errors import InvalidSource
from katiml.ingest import sources
from katiml.ingest.sources import Block, read_blocks

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
RECORDS = [{"number": number, "text": "é" * (number % 31)} for number in range(60)]


def records_of(blocks: list[Block]) -> list[object]:
    lines = [line for block in blocks for line in block.text.split(b"\n") if line.strip()]
    return [json.loads(line) for line in lines]


def read(data: bytes, **options: int) -> list[Block]:
    blocks = list(read_blocks(io.BytesIO(data), **options))
    following = 1
    for block in blocks:
        assert block.first == following
        following = block.after
    return blocks


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block_bytes", [1, 64, 1_000, 1 << 20])
def test_lines(compression: str, separator: str, block_bytes: int) -> None:
    for end in ("", separator):
        data = (separator.join(map(json.dumps, RECORDS)) + end).encode()
        blocks = read(COMPRESSIONS[compression](data), block_bytes=block_bytes)
        assert records_of(blocks) == RECORDS


@given(
    st.lists(st.sampled_from([b"{}", b"", b"[1]", b"x"]), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.integers(1, 12),
)
def test_line_numbers_do_not_depend_on_where_blocks_end(
    lines: list[bytes], separator: bytes, chunk: int
) -> None:
    data = b"{}" + separator + separator.join(lines)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(sources, "_READ_BYTES", chunk)
    try:
        numbered = [
            (block.first + offset, line)
            for block in read(data, block_bytes=1)
            for offset, line in enumerate(block.text.split(b"\n")[:-1])
        ]
    finally:
        monkeypatch.undo()
    expected = [b"{}", *lines]
    while expected and not expected[-1]:
        expected.pop()
    assert [line for _, line in numbered][: len(expected)] == expected
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_json_array(indent: int | None, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_READ_BYTES", 37)
    data = json.dumps(RECORDS, indent=indent).encode()
    assert records_of(read(data, block_bytes=block_bytes)) == RECORDS


def test_concatenated_gzip_members() -> None:
    data = b"".join(gzip.compress(json.dumps(record).encode() + b"\n") for record in RECORDS)
    assert records_of(read(data)) == RECORDS


def test_parquet_leaves_nulls_out_and_reads_json_text(tmp_path: object) -> None:
    table = pa.table(
        {
            "type": ["IMAGE", "TEXT"],
            "text": [None, "hello"],
            "metadata": ['{"uri": "s3://a"}', None],
            "tags": pa.array([[("split", "train")], None], type=pa.map_(pa.string(), pa.string())),
            "groundtruths": [[{"task_type": "CLASSIFICATION", "class_name": None}], None],
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    (block,) = read_blocks(io.BytesIO(file.getvalue()))
    assert block.items == [
        {
            "type": "IMAGE",
            "metadata": {"uri": "s3://a"},
            "tags": {"split": "train"},
            "groundtruths": [{"task_type": "CLASSIFICATION"}],
        },
        {"type": "TEXT", "text": "hello"},
    ]


def test_a_line_that_is_too_long_is_dropped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_READ_BYTES", 100)
    data = b'{"a": 1}\n"' + b"x" * 5_000 + b'"\n{"b": 2}\n' + b"y" * 3_000
    blocks = read(data, block_bytes=10, max_line_bytes=1_000)
    assert records_of(blocks) == [{"a": 1}, {"b": 2}]
    assert [number for block in blocks for number, _ in block.dropped] == [2, 4]


@pytest.mark.parametrize("data", [b"[1, 2", b"[1, }", b"[1]x", b"[", b"[5 6]"])
def test_a_broken_array_says_so(data: bytes) -> None:
    with pytest.raises(InvalidSource, match="array is broken"):
        read(data)


@pytest.mark.parametrize("name", ["gzip", "bz2", "zstd"])
def test_a_truncated_stream_says_so(name: str) -> None:
    data = COMPRESSIONS[name](json.dumps(RECORDS * 50).encode())
    with pytest.raises(InvalidSource, match=f"{name} stream is broken"):
        read(data[:-30])


def test_a_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_BOMB_BYTES", 1 << 20)
    with pytest.raises(InvalidSource, match="bomb"):
        read(gzip.compress(b" " * (8 << 20)))


def test_broken_parquet() -> None:
    with pytest.raises(InvalidSource, match="Parquet"):
        read(b"PAR1 this is not what it says")


@given(st.binary(max_size=200))
def test_any_bytes_are_blocks_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(InvalidSource):
        read(data, block_bytes=16)
