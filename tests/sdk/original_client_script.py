"""Drives the original client, unmodified, in its own virtual environment; prints JSON.

It knows nothing of KatiML: the environment variables are the client's own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from dioptra.lake import utils

TAG = [
    {"left": "tags.name", "op": "=", "right": "source"},
    {"left": "tags.value", "op": "=", "right": "dogs"},
]


def rows(frame: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return found


def picture(number: int) -> dict[str, Any]:
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
                "embeddings": {"layer": [0.5, 1.0, number]},
                "metrics": {"loss": number / 2},
            },
            {
                "task_type": "SEGMENTATION",
                "model_name": "mask",
                "class_names": ["sky", "dog"],
                "segmentation_class_mask": [[0, 1], [1, 1]],
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
    }


def uploads() -> dict[str, Any]:
    found: dict[str, Any] = {}
    answer = utils.upload_to_lake(records=[picture(number) for number in range(4)])
    found["answer"] = answer
    found["waited"] = utils.wait_for_upload(answer)
    unbatched = utils.upload_to_lake([picture(4)], disable_batching=True)
    found["unbatched"] = utils.wait_for_upload(unbatched["id"])
    streamed = utils.stream_to_lake([picture(5)])
    found["streamed"] = streamed
    # Committed when it returns: nothing to wait for.
    found["after_stream"] = len(utils.select_datapoints(TAG))
    found["stream_waited"] = utils.wait_for_upload(streamed)
    stored = utils.upload_to_lake_via_object_store(
        [{**picture(6), "tags": {"source": "dogs", "half": np.float32(0.5)}}],
        custom_path="some/path",
    )
    found["stored"] = utils.wait_for_upload(stored)
    return found


def from_bucket() -> dict[str, Any]:
    import os

    import boto3

    lines = "".join(
        json.dumps({"type": "TEXT", "text": f"line {number}", "tags": {"source": "bucket"}}) + "\n"
        for number in range(10)
    )
    s3 = boto3.client("s3", region_name="us-east-2")
    s3.put_object(Bucket=os.environ["DIOPTRA_UPLOAD_BUCKET"], Key="own.ndjson", Body=lines.encode())
    bucket = os.environ["DIOPTRA_UPLOAD_BUCKET"]
    part = utils.upload_to_lake_from_bucket(
        bucket, "own.ndjson", disable_batching=True, offset=2, limit=5
    )
    utils.wait_for_upload(part)
    source = [{"left": "tags.value", "op": "=", "right": "bucket"}]
    texts = sorted(utils.select_datapoints(source)["text"])
    whole = utils.upload_to_lake_from_bucket(bucket, "own.ndjson")
    state = utils.wait_for_upload(whole)
    return {"part": texts, "whole": state, "count": len(utils.select_datapoints(source))}


OPERATORS: list[tuple[str, str, Any]] = [
    ("metadata.width", "=", 101),
    ("metadata.width", "!=", 101),
    ("metadata.width", ">", 103),
    ("metadata.width", "<", 103),
    ("metadata.width", ">=", 103),
    ("metadata.width", "<=", 103),
    ("metadata.uri", "in", ["s3://dogs/1.jpg", "s3://dogs/2.jpg", "none"]),
    ("metadata.uri", "not in", ["s3://dogs/1.jpg"]),
    ("metadata.uri", "like", "%/1.jpg"),
    ("metadata.uri", "not like", "%/1.jpg"),
    ("type", "=", "IMAGE"),
    ("groundtruths.class_name", "=", "pug"),
    ("predictions.model_name", "in", ["net"]),
    ("predictions.metrics.loss", ">=", 2),
    ("bboxes.class_name", "=", "dog"),
    ("id", "in", []),
    ("id", "not in", []),
]


def selects() -> dict[str, Any]:
    found: dict[str, Any] = {"operators": []}
    for left, op, right in OPERATORS:
        try:
            frame = utils.select_datapoints([*TAG, {"left": left, "op": op, "right": right}])
            uris = (
                sorted(metadata["uri"][10:11] for metadata in frame["metadata"])
                if len(frame)
                else []
            )
            found["operators"].append([left, op, right, "".join(uris)])
        except Exception as error:  # noqa: BLE001  # the test reads it
            found["operators"].append([left, op, right, repr(error)])
    found["datapoints"] = rows(
        utils.select_datapoints(TAG, limit=2, order_by="created_at", desc=True)
    )
    found["page"] = rows(
        utils.select_datapoints(TAG, fields=["id", "metadata.uri"], limit=2, offset=1)
    )
    found["joined"] = rows(
        utils.select_datapoints(
            [*TAG, {"left": "metadata.width", "op": "=", "right": 101}],
            fields=["*", "groundtruths.*", "predictions.model_name", "tags.name"],
        )
    )
    found["predictions"] = rows(
        utils.select_predictions(
            [{"left": "model_name", "op": "=", "right": "net"}], order_by="metrics.entropy"
        )
    )
    found["groundtruths"] = rows(utils.select_groundtruths([], fields=["class_name", "datapoint"]))
    found["bboxes"] = rows(utils.select_bboxes([], limit=1))
    found["none"] = rows(utils.select_datapoints([{"left": "type", "op": "=", "right": "AUDIO"}]))
    try:
        utils.select_datapoints([{"left": "colour", "op": "=", "right": 1}])
    except Exception as error:  # noqa: BLE001
        found["error"] = str(error)
    return found


def counted(group: Any) -> dict[str, Any]:
    # Not a lambda: the client sends it to another process.
    return {"truths": len(group[2]), "guesses": len(group[3])}


def frames() -> dict[str, Any]:
    datapoints = utils.select_datapoints(
        [*TAG, {"left": "metadata.width", "op": "<", "right": 102}]
    )
    ids = [{"left": "datapoint", "op": "in", "right": list(datapoints["id"])}]
    groundtruths = utils.select_groundtruths(ids)
    predictions = utils.select_predictions(ids, fields=["*", "feature_vectors.*", "bboxes.*"])
    joined = utils.join_on_datapoints(datapoints, groundtruths, predictions)
    grouped = utils.group_by_uri(joined, counted)
    mask = predictions[predictions["model_name"] == "mask"].iloc[0]
    net = predictions[predictions["model_name"] == "net"].iloc[0]
    vectors = {
        f"{vector['type']} {vector['model_name']}": utils._decode_to_np_array(
            vector["encoded_value"]
        )
        for vector in net["feature_vectors"]
    }
    return {
        "joined": rows(joined),
        "grouped": rows(grouped[["uri", "truths", "guesses"]]),
        "mask": utils._decode_to_np_array(mask["encoded_segmentation_class_mask"]).tolist(),
        "vectors": {name: vector.tolist() for name, vector in vectors.items()},
        "dtypes": {name: str(vector.dtype) for name, vector in vectors.items()},
    }


def updates() -> dict[str, Any]:
    one = utils.select_datapoints([{"left": "metadata.width", "op": "=", "right": 100}]).iloc[0]
    mine = [{"left": "datapoint", "op": "=", "right": one["id"]}]
    before = utils.select_predictions(
        [*mine, {"left": "model_name", "op": "=", "right": "net"}]
    ).iloc[0]
    encoded = utils._encode_np_array(np.array([3.0, 1.0], np.float16))
    utils.wait_for_upload(
        utils.upload_to_lake(
            [
                {
                    "id": one["id"],
                    "tags": {"number": None, "new": "yes"},
                    "predictions": [{"id": before["id"], "class_name": "cat"}],
                },
                {
                    "id": one["id"],
                    "predictions": [
                        {
                            "task_type": "CLASSIFICATION",
                            "model_name": "other",
                            "class_names": ["chihuahua", "pug"],
                            "encoded_logits": encoded,
                        }
                    ],
                },
            ]
        )
    )
    joined = utils.select_datapoints(
        [{"left": "id", "op": "=", "right": one["id"]}], fields=["*", "tags.*"]
    )
    after = utils.select_predictions(mine, fields=["id", "model_name", "class_name"])
    return {"tags": rows(joined)[0]["tags"], "before": before["id"], "after": rows(after)}


def miners() -> dict[str, Any]:
    """Each class: create, get_status before a run, run, get_results, get_config, reset, delete."""
    from dioptra.miners import list_miners
    from dioptra.miners.activation_miner import ActivationMiner
    from dioptra.miners.badge_miner import BadgeMiner
    from dioptra.miners.coreset_miner import CoresetMiner
    from dioptra.miners.entropy_miner import EntropyMiner
    from dioptra.miners.knn_miner import KNNMiner
    from dioptra.miners.random_miner import RandomMiner
    from dioptra.miners.variance_miner import VarianceMiner
    from dioptra.miners.weighted_entropy_miner import WeightedEntropyMiner

    seed = [{"left": "metadata.width", "op": "<", "right": 102}]
    rest = [{"left": "metadata.width", "op": ">=", "right": 102}, *TAG]
    made = [
        RandomMiner(display_name="random", size=2, select_filters=rest),
        EntropyMiner("entropy", 2, rest, model_name="net"),
        WeightedEntropyMiner("weighted entropy", 2, rest, model_name="net"),
        VarianceMiner("variance", 2, rest, model_name="net"),
        ActivationMiner("activation", 2, rest, model_name="net:layer"),
        CoresetMiner(
            "coreset",
            2,
            rest,
            model_name="net:layer",
            metric="cosine",
            select_limit=4,
            select_order_by="created_at",
            select_reference_filters=seed,
        ),
        KNNMiner("knn", 2, rest, "net:layer", select_reference_filters=seed),
        BadgeMiner("badge", 2, rest, model_name="net:layer"),
    ]
    found: dict[str, Any] = {"before": [miner.get_status() for miner in made]}
    found["classes"] = [type(miner).__name__ for miner in made]
    for miner in made:
        miner.run()
    for miner in made:
        name = miner.miner_name
        try:
            found[name] = miner.get_results()
        except RuntimeError as error:
            found[name] = str(error)
        found[f"{name} config"] = miner.get_config()
    found["after"] = [miner.get_status() for miner in made]
    found["pool"] = utils.select_datapoints(rest)["id"].tolist()
    found["listed"] = [[miner.miner_id, miner.miner_name] for miner in list_miners()]
    found["ids"] = [[miner.miner_id, miner.miner_name] for miner in made]
    made[0].reset()
    found["reset"] = made[0].get_status()
    made[0].run()
    found["again"] = made[0].get_results()
    for miner in made:
        miner.delete()
    found["left"] = len(list_miners())
    return found


def deletes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["predictions"] = utils.delete_predictions(
        [{"left": "model_name", "op": "=", "right": "mask"}]
    )
    found["predictions_left"] = len(utils.select_predictions([]))
    found["groundtruths"] = utils.delete_groundtruths([], order_by="created_at", limit=2)
    found["groundtruths_left"] = len(utils.select_groundtruths([]))
    found["datapoints"] = utils.delete_datapoints(
        [{"left": "metadata.width", "op": "=", "right": 101}]
    )
    found["orphans"] = len(
        utils.select_predictions(
            [{"left": "datapoint", "op": "=", "right": found["datapoints"][0]["id"]}]
        )
    )
    found["wiped"] = len(utils.delete_datapoints([]))
    found["left"] = [
        len(select([]))
        for select in (utils.select_datapoints, utils.select_predictions, utils.select_bboxes)
    ]
    return found


def main() -> None:
    results = {
        part.__name__: part()
        for part in (uploads, from_bucket, selects, frames, updates, miners, deletes)
    }
    json.dump(results, sys.stdout if len(sys.argv) < 2 else open(sys.argv[1], "w"))  # noqa: SIM115


if __name__ == "__main__":
    main()
