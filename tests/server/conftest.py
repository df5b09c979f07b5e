"""A served lake, and clients of two organizations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import katiml
from katiml.server import Settings, create_app
from tests.serving import client_of


@dataclass
class Api:
    """`client` has a key of the default organization, `stranger` one of another."""

    lake: katiml.Lake
    client: httpx.Client
    stranger: httpx.Client
    anybody: httpx.Client

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """A POST of JSON by the default organization."""
        return self.client.post(path, json=body if body is not None else {}, **options)

    def rows(self, path: str, body: Any = None) -> Any:
        """What such a POST answers."""
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        return response.json()


def serve_lake(lake: katiml.Lake, settings: Settings | None = None) -> Iterator[Api]:
    settings = settings or Settings()
    with client_of(create_app(lake, settings)) as anybody:
        keys = [lake.for_organization(name).keys.create(name) for name in ("default", "other")]
        clients = [
            httpx.Client(base_url=anybody.base_url, headers={"x-api-key": key.secret}, timeout=60)
            for key in keys
        ]
        yield Api(lake, *clients, anybody)
        for client in clients:
            client.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A served lake in a folder."""
    with katiml.connect(tmp_path / "lake") as lake:
        yield from serve_lake(lake)


@pytest.fixture
def api_of_home(lake: katiml.Lake) -> Iterator[Api]:
    """A served lake in each home."""
    yield from serve_lake(lake)


def picture(number: int = 0, **more: Any) -> dict[str, Any]:
    """A record with a bit of everything."""
    return {
        "type": "IMAGE",
        "metadata": {"uri": f"s3://dogs/{number}.jpg", "width": 100 + number},
        "tags": {"source": "dogs", "number": str(number)},
        "groundtruths": [
            {"task_type": "CLASSIFICATION", "class_name": ("pug", "chihuahua")[number % 2]}
        ],
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": "net",
                "class_names": ["chihuahua", "pug"],
                "logits": [0.9, 1.4 - number],
                "embeddings": {"layer": [0.5, 1.0, float(number)]},
                "metrics": {"loss": number / 2},
            },
            {
                "task_type": "OBJECT_DETECTION",
                "model_name": "boxes",
                "bboxes": [
                    {
                        "top": 1,
                        "left": 2,
                        "height": 3,
                        "width": 4,
                        "class_name": "dog",
                        "confidence": 0.5,
                    }
                ],
            },
        ],
        **more,
    }
