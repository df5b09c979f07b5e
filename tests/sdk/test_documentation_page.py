"""The code of the original's page "Ingestion basics", with its quotes and commas mended.

Only the ids are real ones, and the environment is the test's.
"""

from __future__ import annotations

import katiml


def test_ingestion_basics(lake: katiml.Lake) -> None:
    # Creating a datapoint.
    from dioptra.lake.utils import upload_to_lake, wait_for_upload

    uri = (
        "https://dioptra-demo.s3.us-east-2.amazonaws.com/stanford-dogs-dataset/"
        "n02085620-Chihuahua/n02085620_8578.jpg"
    )
    upload_id = upload_to_lake(
        records=[
            {
                "metadata": {"uri": uri},
                "type": "IMAGE",
                "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "chihuahua"}],
                "tags": {"source": "stanford_dogs"},
            }
        ]
    )

    wait_for_upload(upload_id)

    (datapoint,) = lake.datapoints.select(form="arrow").to_pylist()
    datapoint_id = datapoint["id"]

    # Updating a datapoint.
    upload_id = upload_to_lake(
        records=[
            {
                "id": datapoint_id,  # the datapoint id
                # This will add a new prediction.
                "predictions": [
                    {
                        "task_type": "CLASSIFICATION",
                        "class_names": ["chihuahua", "pug"],
                        "logits": [0.9, 1.4],
                    }
                ],
            }
        ]
    )

    wait_for_upload(upload_id)

    (prediction,) = lake.predictions.select(form="arrow").to_pylist()
    assert prediction["class_name"] == "pug"
    assert prediction["datapoint"] == datapoint_id

    # Updating an attachment.
    upload_id = upload_to_lake(
        records=[
            {
                "id": datapoint_id,  # the datapoint id
                "predictions": [
                    {
                        # This will update the prediction
                        "id": prediction["id"],  # the prediction id
                        "task_type": "CLASSIFICATION",
                        "class_names": ["chihuahua", "pug"],
                        "logits": [1.9, 1.4],
                    }
                ],
            }
        ]
    )

    wait_for_upload(upload_id)

    (updated,) = lake.predictions.select(form="arrow").to_pylist()
    assert updated["id"] == prediction["id"]
    assert updated["class_name"] == "chihuahua"
    assert lake.datapoints.count() == lake.groundtruths.count() == lake.tags.count() == 1


def test_the_whole_record_of_the_page(lake: katiml.Lake) -> None:
    from dioptra.lake.utils import select_datapoints, upload_to_lake, wait_for_upload

    record = {
        # The Datapoint
        "metadata": {"uri": "s3://my_bucket/myfile.jpg"},
        "type": "IMAGE",
        # The tags
        "tags": {"source": "stanford_dogs"},
        # The ground truths
        "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "chihuahua"}],
        # The predictions
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "class_names": ["chihuahua", "pug"],
                "logits": [0.9, 1.4],
            }
        ],
    }
    wait_for_upload(upload_to_lake(records=[record]))
    filters = [{"left": "groundtruths.class_name", "op": "=", "right": "chihuahua"}]
    row = select_datapoints(filters, fields=["*", "groundtruths.*"]).iloc[0]
    assert row["metadata"] == {"uri": "s3://my_bucket/myfile.jpg"}
    assert row["groundtruths"][0]["class_name"] == "chihuahua"
