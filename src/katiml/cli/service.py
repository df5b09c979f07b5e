"""`katiml serve | keys | status | version | demo`."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from katiml.cli import output
from katiml.cli.options import JsonOption, LakeOption, OrganizationOption, open_lake

__all__ = ["demo", "keys", "serve", "status", "version"]

keys = typer.Typer(
    help="Make, list and delete API keys.", no_args_is_help=True, rich_markup_mode=None
)


def demo(lake: LakeOption = None) -> None:
    """Show KatiML at work on real images.

    Handwritten digits and a small classifier's doubts go into a lake and come out. Without
    --lake it works in a lake of its own, ~/.katiml-demo.
    """
    from katiml.demo import run

    run(lake)


def serve(
    context: typer.Context,
    lake: LakeOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port.")] = 4004,
) -> None:
    """Serve the lake over HTTP until Ctrl-C.

    The first API key is $KATIML_API_KEY; without it one is made and printed once. Any address but
    loopback is refused until a key exists.

    Examples:

        katiml serve --lake ./lake --port 4004
    """
    from katiml.server.run import serve as serve_lake

    lake = lake or context.find_root().params.get("lake")
    serve_lake(lake, host, port)


@keys.command("create")
def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Make a key and print it, this once: the lake keeps only its hash.

    Examples:

        katiml keys create ci

        katiml keys create annotators --organization team-b
    """
    made = open_lake(context, lake, organization).keys.create(name)
    if json:
        output.print_json({"id": made.id, "name": name, "key": made.secret})
        return
    output.messages().print("Keep this key now, it is not shown again:", style="dim")
    typer.echo(made.secret)


@keys.command("list")
def list_keys(
    context: typer.Context,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The keys of an organization, without their secrets."""
    found = open_lake(context, lake, organization).keys.list()
    if json:
        output.print_json(found)
    else:
        output.show_rows(found)


@keys.command("delete")
def delete_key(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="Its id, as `katiml keys list` shows it.")],
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Delete a key; whoever uses it is refused from then on."""
    open_lake(context, lake, organization).keys.delete(id)
    output.messages().print(f"deleted key {id}")


def status(
    context: typer.Context,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Where the lake lives and what it holds."""
    found = open_lake(context, lake, organization).status()
    if json:
        output.print_json(found)
    else:
        output.show_values(found)


def version(
    short: Annotated[bool, typer.Option("--short", help="Only KatiML's own.")] = False,
    json: JsonOption = False,
) -> None:
    """The version of KatiML and of what it runs on."""
    import katiml

    if short:
        typer.echo(katiml.__version__)
        return
    import duckdb
    import numpy
    import pyarrow

    versions = {
        "katiml": katiml.__version__,
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "pyarrow": pyarrow.__version__,
        "numpy": numpy.__version__,
    }
    if json:
        output.print_json(versions)
    else:
        output.show_values(versions)
