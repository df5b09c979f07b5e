"""Uploaded files: stored whole, found by their organization alone."""

from __future__ import annotations

import io

import pytest

from katiml.errors import InvalidInput, NotFound
from katiml.store import Store


def test_bytes_and_streams_come_back(store: Store) -> None:
    for content in (b"", b"three", bytes(3_000_000)):
        for given in (content, io.BytesIO(content)):
            name = store.objects.put("default", given)
            assert store.objects.size("default", name) == len(content)
            with store.objects.open("default", name) as file:
                assert file.read() == content


def test_other_organizations_find_nothing(store: Store) -> None:
    name = store.objects.put("ours", b"x")
    for ask in (store.objects.open, store.objects.size):
        with pytest.raises(NotFound, match=name):
            ask("theirs", name)
    store.objects.delete("theirs", name)
    assert store.objects.size("ours", name) == 1


def test_deleted_objects_are_gone(store: Store) -> None:
    name = store.objects.put("default", b"x")
    store.objects.delete("default", name)
    store.objects.delete("default", name)
    with pytest.raises(NotFound):
        store.objects.open("default", name)


@pytest.mark.parametrize("name", ["../default/x", "..", "", "a/b", "a\\0", "/etc/hostname"])
def test_names_cannot_leave_the_folder(store: Store, name: str) -> None:
    with pytest.raises(NotFound):
        store.objects.open("default", name)
    with pytest.raises(InvalidInput):
        store.objects.put(name, b"x")


def test_a_stream_that_fails_leaves_nothing(store: Store) -> None:
    class Broken(io.RawIOBase):
        def readinto(self, _: object) -> int:
            raise ValueError("cut off")

        def readable(self) -> bool:
            return True

    with pytest.raises(ValueError, match="cut off"):
        store.objects.put("default", io.BufferedReader(Broken()))
    from pathlib import Path

    assert not list(Path(store.objects.root).rglob("*.unfinished"))
