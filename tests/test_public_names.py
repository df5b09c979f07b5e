"""What is public: `__all__` is right in every module, and every public name says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import katiml


def _modules() -> list[str]:
    """Every module of the package that is not private."""
    found = ["katiml"]
    for module in pkgutil.walk_packages(katiml.__path__, "katiml."):
        private = any(part.startswith("_") for part in module.name.split("."))
        if not private:
            found.append(module.name)
    return found


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


@pytest.mark.parametrize("name", _modules())
def test_all_names_exist_once_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    assert hasattr(module, "__all__") or not _defines_public_names(module), f"{name}: no __all__"
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert [public for public in names if not hasattr(module, public)] == []
    assert [public for public in names if public.startswith("_") and public != "__version__"] == []


@pytest.mark.parametrize("name", _modules())
def test_what_a_module_defines_is_private_or_in_all(name: str) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        return
    left_out = {
        attribute
        for attribute, value in vars(module).items()
        if not attribute.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    } - set(module.__all__)
    assert left_out == set(), f"{name}: neither private nor in __all__"


@pytest.mark.parametrize("name", _modules())
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    bare = [public for public, value in _public(module) if not inspect.getdoc(value)]
    for public, value in _public(module):
        if inspect.isclass(value) and value.__module__ == name:
            bare += [
                f"{public}.{method}"
                for method, function in vars(value).items()
                if not method.startswith("_")
                and (inspect.isfunction(function) or isinstance(function, property))
                and not inspect.getdoc(function)
            ]
    assert bare == [], f"{name}: public names without a docstring"


def test_the_package_offers_what_the_readme_uses() -> None:
    assert set(katiml.__all__) == {"KatiMLError", "Lake", "__version__", "connect"}
    assert set(katiml.__all__) <= set(dir(katiml))


def _defines_public_names(module: ModuleType) -> bool:
    return any(
        not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        for name, value in vars(module).items()
    )
