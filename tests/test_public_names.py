"""What is public: `__all__` is right in every module, and every public name says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import dioptra
import katiml
from katiml.errors import MissingExtra


def _modules() -> list[str]:
    """Every module of both packages that is not private."""
    found = []
    for package in (katiml, dioptra):
        found.append(package.__name__)
        found += [
            module.name
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not any(part.startswith("_") for part in module.name.split("."))
        ]
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MissingExtra as error:
        pytest.skip(str(error))


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions in `__all__`."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


@pytest.mark.parametrize("name", _modules())
def test_all_names_exist_once(name: str) -> None:
    module = _import(name)
    assert hasattr(module, "__all__") or not _defines_names(module), f"{name} has no __all__"
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert [public for public in names if not hasattr(module, public)] == []
    private = [public for public in names if public.startswith("_") and public != "__version__"]
    # The old client's users call two helpers that begin with an underscore.
    assert private == [] or name.startswith("dioptra")


@pytest.mark.parametrize("name", _modules())
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = _import(name)
    assert module.__doc__ or not _defines_names(module), f"{name} has no docstring"
    bare = [public for public, value in _public(module) if not inspect.getdoc(value)]
    assert bare == [], f"{name}: public names without a docstring"


@pytest.mark.parametrize("name", [name for name in _modules() if name.count(".") <= 1])
def test_every_public_method_has_a_docstring(name: str) -> None:
    """Of the classes that a package, as its users import it, offers."""
    bare = [
        f"{public}.{method}"
        for public, value in _public(_import(name))
        if inspect.isclass(value)
        for method, function in vars(value).items()
        if not method.startswith("_")
        and (inspect.isfunction(function) or isinstance(function, property))
        and not inspect.getdoc(getattr(value, method))
    ]
    assert bare == [], f"{name}: public methods without a docstring"


def test_the_package_offers_what_the_readme_uses() -> None:
    assert set(katiml.__all__) == {"KatiMLError", "Lake", "__version__", "connect"}
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        katiml.conect  # noqa: B018


def _defines_names(module: ModuleType) -> bool:
    return any(
        not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        for name, value in vars(module).items()
    )
