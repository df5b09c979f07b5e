"""Drives the Dataset class of the original client, unmodified; prints JSON. Knows no KatiML."""

from __future__ import annotations

import json
import sys
from typing import Any

import requests

from dioptra.lake import datasets, utils
from dioptra.lake.datasets import Dataset


def failing(call: Any) -> str:
    try:
        call()
    except requests.HTTPError as error:
        return str(error.response.status_code)
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def main() -> dict[str, Any]:
    texts = [{"type": "TEXT", "text": f"t{number}"} for number in range(6)]
    utils.wait_for_upload(utils.upload_to_lake(texts)["id"])
    ids = list(utils.select_datapoints([], order_by="text")["id"])
    found: dict[str, Any] = {"ids": ids}

    dataset = Dataset()
    found["absent"] = failing(lambda: dataset.get_from_name("pets"))
    dataset.get_or_create("pets")
    found["made"] = [dataset.dataset_id, dataset.dataset_name, str(dataset)]
    again = Dataset()
    again.get_or_create("pets")
    found["again"] = again.dataset_id
    again.get_from_uuid(dataset.dataset_id)
    found["from_uuid"] = again.dataset_name
    found["no_uuid"] = failing(lambda: Dataset().get_from_uuid("nonsense"))
    other = Dataset()
    other.create("other")

    dataset.add_datapoints(ids[:4])
    dataset.remove_datapoints(ids[3:4])
    found["downloaded"] = sorted(dataset.download_datapoints()["text"])
    found["first"] = dataset.commit("first")
    found["empty_commit"] = dataset.commit("nothing new")
    dataset.add_datapoints(ids[4:5])
    found["second"] = dataset.commit("second")
    dataset.add_datapoints(ids[5:6])
    found["history"] = dataset.history()
    found["checkout"] = dataset.checkout(found["first"])
    found["checked_out"] = sorted(dataset.download_datapoints()["text"])
    found["unknown"] = failing(lambda: dataset.add_datapoints(["nonsense"]))
    found["foreign"] = failing(lambda: other.checkout(found["first"]))
    found["listed"] = [[one.dataset_id, one.dataset_name] for one in datasets.list_datasets()]
    other.delete()
    found["after_delete"] = [one.dataset_name for one in datasets.list_datasets()]
    return found


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump(main(), file)
