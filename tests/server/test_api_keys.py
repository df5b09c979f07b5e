"""API keys: shown once, stored hashed, one organization each."""

from __future__ import annotations

import pytest

from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.keys import Keys, any_key, verify
from katiml.store import Store


def stored_hashes(store: Store) -> list[str]:
    return store.query("SELECT hash FROM lake.api_keys")["hash"].to_pylist()


def test_create__verifies_to_its_organization(store: Store) -> None:
    first = Keys(store, "default").create("laptop")
    second = Keys(store, "other").create("laptop")
    assert verify(store, first.secret) == "default"
    assert verify(store, second.secret) == "other"
    assert first.secret.startswith("katiml_") and len(first.secret) > 40
    assert first.secret != second.secret


def test_create__secret_is_not_in_the_lake_nor_in_the_repr(store: Store) -> None:
    key = Keys(store, "default").create("laptop")
    assert key.secret not in repr(key)
    rows = store.query("SELECT * FROM lake.api_keys").to_pylist()
    assert key.secret not in repr(rows)
    assert rows[0]["prefix"] == key.secret[:11]


@pytest.mark.parametrize(
    "wrong", ["", "x", "katiml_", "katiml_' OR 1=1 --", "é" * 30, "\ud800", "a" * 10_000, "\0"]
)
def test_verify__wrong(store: Store, wrong: str) -> None:
    Keys(store, "default").create("laptop")
    assert verify(store, wrong) is None


def test_list_and_delete__own_organization_only(store: Store) -> None:
    mine, theirs = Keys(store, "default"), Keys(store, "other")
    key = mine.create("a")
    kept = mine.create("b")
    assert [row["name"] for row in mine.list()] == ["a", "b"]
    assert set(mine.list()[0]) == {"id", "name", "prefix", "created_at"}
    assert theirs.list() == []
    with pytest.raises(NotFound):
        theirs.delete(key.id)
    mine.delete(key.id)
    assert verify(store, key.secret) is None
    assert verify(store, kept.secret) == "default"
    for gone in (key.id, "no such id", "' OR ''='"):
        with pytest.raises(NotFound):
            mine.delete(gone)


def test_preset__short_is_argon2_and_long_is_sha256(store: Store) -> None:
    keys = Keys(store, "default")
    keys.preset("my_api_key", name="short")
    keys.preset("x" * 40, name="long")
    hashes = stored_hashes(store)
    assert sum(text.startswith("$argon2id$") for text in hashes) == 1
    assert sum(text.startswith("sha256:") for text in hashes) == 1
    assert verify(store, "my_api_key") == "default"
    assert verify(store, "x" * 40) == "default"
    assert verify(store, "my_api_kez") is None


def test_preset__again_is_the_same_key_and_another_replaces_it(store: Store) -> None:
    keys = Keys(store, "default")
    made = keys.create("preset")
    first = keys.preset("my_api_key")
    assert keys.preset("my_api_key") == first
    second = keys.preset("my_other_key")
    assert second != first
    assert verify(store, "my_api_key") is None
    assert verify(store, "my_other_key") == "default"
    assert verify(store, made.secret) == "default"


@pytest.mark.parametrize("bad", ["", "short", "x" * 513, "with space in it", "umläuteumläute"])
def test_preset__refused(store: Store, bad: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Keys(store, "default").preset(bad)
    assert "token_urlsafe" in (caught.value.hint or "")
    assert not any_key(store)


def test_preset__of_another_organization(store: Store) -> None:
    Keys(store, "other").preset("my_api_key")
    with pytest.raises(Conflict):
        Keys(store, "default").preset("my_api_key")


def test_verified_argon2_is_remembered_but_not_past_its_deletion(store: Store) -> None:
    keys = Keys(store, "default")
    key_id = keys.preset("my_api_key")
    assert verify(store, "my_api_key") == "default"
    keys.delete(key_id)
    assert verify(store, "my_api_key") is None
