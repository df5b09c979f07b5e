"""The documentation is true: its code runs, its commands exist, and nothing public is left out.

Blocks marked ```python and ```bash are executed, top to bottom, file by file, in a fresh lake.
In a bash block the lines that start with `katiml ` are. `no-run` after the language
leaves a block out (a server that stays up, an address that is not ours); it is still parsed.
"""

from __future__ import annotations

import ast
import doctest
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

import katiml
from katiml.cli import main
from katiml.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(
    r"^```(?P<language>python|bash)(?P<marks>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
_LONG_RUNNING = {"serve", "demo"}


@dataclass(frozen=True)
class Block:
    """One fenced block: where it starts, and whether it is executed."""

    page: Path
    line: int
    language: str
    run: bool
    code: str

    @property
    def commands(self) -> Iterator[list[str]]:
        """The `katiml` commands of a bash block, as arguments."""
        for line in self.code.replace("\\\n", " ").splitlines():
            if line.startswith("katiml "):
                yield shlex.split(line, comments=True)[1:]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("code")) + 1,
            language=match["language"],
            run="no-run" not in match["marks"],
            code=match["code"],
        )
        for match in _FENCE.finditer(text)
    ]


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    for name in ("DIOPTRA_APP_ENDPOINT", "DIOPTRA_API_ENDPOINT", "DIOPTRA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in blocks(page):
            if block.run:
                (_run_python if block.language == "python" else _run_bash)(block, namespace, capsys)
    finally:
        for value in namespace.values():
            if isinstance(value, katiml.Lake):
                value.close()


def _run_python(block: Block, namespace: dict[str, Any], _capsys: object) -> None:
    name = f"{block.page.name}:{block.line}"
    if ">>> " in block.code:
        test = doctest.DocTestParser().get_doctest(
            block.code, namespace, name, str(block.page), block.line - 1
        )
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
        namespace.update(test.globs)
        assert results.failed == 0, f"{name}: an example printed something else"
    else:
        # Empty lines before the code make a traceback name the line of the page.
        exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), namespace)


def _run_bash(block: Block, _namespace: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in block.commands:
        if arguments[0] in _LONG_RUNNING:
            continue
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsys.readouterr()
        where = f"{block.page.name}:{block.line}: katiml {shlex.join(arguments)}"
        assert left.value.code in (0, None), f"{where}\n{said.out}{said.err}"


@pytest.mark.parametrize(
    "block",
    [block for block in ALL_BLOCKS if block.language == "python"],
    ids=lambda block: f"{block.page.name}:{block.line}",
)
def test_python_is_valid_even_where_it_is_not_run(block: Block) -> None:
    if ">>> " not in block.code:
        ast.parse(block.code)


@pytest.mark.parametrize(
    "block",
    [block for block in ALL_BLOCKS if block.language == "bash"],
    ids=lambda block: f"{block.page.name}:{block.line}",
)
def test_commands_and_options_in_the_documentation_exist(block: Block) -> None:
    for arguments in block.commands:
        command: Any = typer.main.get_command(app)
        known = set(_options(command))
        for word in arguments:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
                known |= set(_options(command))
        used = {word.split("=")[0] for word in arguments if word.startswith("--")}
        assert used <= known | {"--help"}, f"katiml {shlex.join(arguments)}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--"):
                yield option


def _commands(command: Any, path: str = "katiml") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(_commands(typer.main.get_command(app))), ids=str)
def test_every_command_and_option_is_documented(path: str, command: Any) -> None:
    documented = (ROOT / "docs" / "cli.md").read_text()
    assert f"`{path}" in documented or f"## {path}" in documented, path
    missing = [option for option in _options(command) if f"`{option}" not in documented]
    assert missing == [], f"{path}: options missing from docs/cli.md"


@pytest.mark.parametrize(
    ("_path", "command"), list(_commands(typer.main.get_command(app))), ids=str
)
def test_every_command_explains_itself(_path: str, command: Any) -> None:
    assert command.help
    assert [p.name for p in command.params if not (p.help or "").strip()] in ([], ["help"])


def _public_names() -> list[str]:
    from katiml import errors
    from katiml.backtest import Backtest
    from katiml.edge import Miner, Spool
    from katiml.evaluation import Comparison, Evaluation
    from katiml.ingest import Upload
    from katiml.keys import Keys
    from katiml.lake import Uploads
    from katiml.query import Collection

    names = [f"errors.{name}" for name in errors.__all__]
    for kind in (
        katiml.Lake,
        Collection,
        Upload,
        Uploads,
        Keys,
        Evaluation,
        Comparison,
        Miner,
        Spool,
    ):
        names += [f"{kind.__name__}.{name}" for name in dir(kind) if not name.startswith("_")]
    return names


def test_every_public_name_is_documented() -> None:
    documented = "\n".join(page.read_text() for page in PAGES)
    missing = [name for name in katiml.__all__ if f"katiml.{name}" not in documented]
    missing += [
        name
        for name in _public_names()
        if not re.search(rf"\b{re.escape(name.split('.')[1])}\b", documented)
    ]
    assert missing == []
