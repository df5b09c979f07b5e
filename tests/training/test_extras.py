"""Without an optional package, what needs it names the extra to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("dioptra.inference.torch.torch_runner", "torch", "torch"),
        ("dioptra.inference.tf.tf_runner", "keras", "tensorflow"),
        ("dioptra.lake.torch.object_store_datasets", "torch", "torch"),
        ("katiml.torch", "torch", "torch"),
    ],
)
def test_an_integration_without_its_package_names_the_extra(
    module: str, missing: str, extra: str
) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from katiml.errors import MissingExtra\n"
        f"try:\n    import {module}\n"
        "except MissingExtra as error:\n    print(error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == f"pip install 'katiml[{extra}]'"
