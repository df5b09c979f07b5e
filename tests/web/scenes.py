"""Drawn streets with all that can be laid over an image, photographs, sounds and texts: real files
for the web app's tests, benchmarks and pictures."""

from __future__ import annotations

import math
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 480, 320
CLASSES = ["sky", "building", "vegetation", "road", "car", "person"]
_HOURS = {
    "dawn": ((250, 214, 190), (146, 163, 204), 0.86),
    "day": ((222, 236, 247), (104, 160, 214), 1.0),
    "dusk": ((248, 196, 160), (92, 88, 140), 0.66),
    "overcast": ((226, 230, 234), (176, 186, 196), 0.84),
}
_PAINT = [
    (196, 62, 58),
    (52, 94, 148),
    (236, 236, 232),
    (58, 60, 66),
    (222, 176, 66),
    (92, 132, 108),
]


def _shade(colour: tuple[int, ...], light: float) -> tuple[int, ...]:
    return tuple(int(max(0, min(255, part * light))) for part in colour)


class _Scene:
    """One image while it is drawn, at twice its size, with its masks and objects."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.hour = list(_HOURS)[int(self.random.integers(len(_HOURS)))]
        low, high, self.light = _HOURS[self.hour]
        self.horizon = int(HEIGHT * self.random.uniform(0.42, 0.52))
        rows = np.linspace(0, 1, HEIGHT * 2)[:, None, None] * 2.2
        sky = np.clip(rows, 0, 1) * np.array(low) + (1 - np.clip(rows, 0, 1)) * np.array(high)
        self.image = Image.fromarray(
            np.broadcast_to(sky, (HEIGHT * 2, WIDTH * 2, 3)).astype(np.uint8)
        )
        self.classes = Image.new("L", (WIDTH, HEIGHT), 0)
        self.boxes: list[dict[str, Any]] = []
        self.lanes: list[list[float]] = []
        self.draw, self.mark = ImageDraw.Draw(self.image), ImageDraw.Draw(self.classes)

    def polygon(
        self, points: list[tuple[float, float]], colour: tuple[int, ...], kind: int
    ) -> None:
        self.draw.polygon([(x * 2, y * 2) for x, y in points], fill=colour)
        self.mark.polygon(points, fill=kind)

    def rectangle(
        self,
        box: tuple[float, ...],
        colour: tuple[int, ...],
        kind: int | None = None,
        radius: float = 0,
    ) -> None:
        self.draw.rounded_rectangle([side * 2 for side in box], radius * 2, fill=colour)
        if kind is not None:
            self.mark.rounded_rectangle(box, radius, fill=kind)

    def town(self) -> None:
        x = -10.0
        while x < WIDTH:
            width = self.random.uniform(36, 84)
            height = self.random.uniform(40, self.horizon - 14)
            tone = _shade(tuple(self.random.integers(120, 190, 3) * [1, 0.97, 0.93]), self.light)
            self.rectangle((x, self.horizon - height, x + width, self.horizon + 2), tone, 1)
            pane = _shade((250, 226, 168) if self.light < 0.8 else (92, 108, 124), 1.0)
            for wx in np.arange(x + 6, x + width - 8, 12):
                for wy in np.arange(self.horizon - height + 8, self.horizon - 12, 14):
                    if self.random.random() < 0.75:
                        self.rectangle((wx, wy, wx + 6, wy + 7), pane)
            x += width + self.random.choice([0, 0, 8])

    def ground(self) -> None:
        grass = _shade((122, 148, 98), self.light)
        self.rectangle((0, self.horizon, WIDTH, HEIGHT), grass, 2)
        centre = WIDTH * self.random.uniform(0.42, 0.58)
        asphalt = _shade((104, 106, 112), self.light)
        road = [(centre - 22, self.horizon), (centre + 22, self.horizon), (WIDTH * 1.08, HEIGHT),
                (-WIDTH * 0.08, HEIGHT)]  # fmt: skip
        self.polygon(road, asphalt, 3)
        self.centre = centre
        for share in (0.04, 0.36, 0.66, 0.96):
            top = centre - 22 + 44 * share
            bottom = -WIDTH * 0.08 + WIDTH * 1.16 * share
            points = []
            for part in np.linspace(0.08, 1, 12):
                points.append(
                    (top + (bottom - top) * part, self.horizon + (HEIGHT - self.horizon) * part)
                )
            white = _shade((236, 236, 228), self.light)
            solid = share in (0.04, 0.96)
            for index, (near, far) in enumerate(pairwise(points)):
                if solid or index % 2 == 0:
                    width = max(1, int(2 + 7 * index / 12))
                    self.draw.line(
                        [(near[0] * 2, near[1] * 2), (far[0] * 2, far[1] * 2)], white, width
                    )
            self.lanes.append([round(float(c), 1) for point in points for c in point])

    def tree(self) -> None:
        side = self.random.choice([-1, 1])
        depth = self.random.uniform(0.05, 0.5)
        y = self.horizon + (HEIGHT - self.horizon) * depth
        x = self.centre + side * (50 + 300 * depth + self.random.uniform(0, 60))
        size = 16 + 60 * depth
        self.rectangle(
            (x - size / 12, y - size, x + size / 12, y), _shade((98, 76, 58), self.light), 2
        )
        for _ in range(7):
            dx, dy = self.random.uniform(-0.42, 0.42, 2) * size
            r = size * self.random.uniform(0.24, 0.4)
            leaf = _shade((86 + int(self.random.integers(30)), 128, 82), self.light)
            cx, cy = x + dx, y - size * 1.2 + dy
            self.draw.ellipse([(cx - r) * 2, (cy - r) * 2, (cx + r) * 2, (cy + r) * 2], fill=leaf)
            self.mark.ellipse([cx - r, cy - r, cx + r, cy + r], fill=2)

    def car(self, depth: float) -> None:
        lane = self.random.choice([0.2, 0.51, 0.81])
        y = self.horizon + (HEIGHT - self.horizon) * depth
        top, bottom = self.centre - 22 + 44 * lane, -WIDTH * 0.08 + WIDTH * 1.16 * lane
        x = top + (bottom - top) * depth
        w = 12 + 118 * depth
        h = w * 0.72
        paint = _shade(_PAINT[int(self.random.integers(len(_PAINT)))], self.light)
        dark = _shade((40, 42, 48), self.light)
        self.draw.ellipse(
            [(x - w * 0.54) * 2, (y - h * 0.1) * 2, (x + w * 0.54) * 2, (y + h * 0.08) * 2],
            fill=_shade((70, 71, 76), self.light),
        )
        for dx in (-0.36, 0.22):
            self.rectangle((x + w * dx, y - h * 0.2, x + w * (dx + 0.14), y), dark, 4, 2)
        cabin = [(x - w * 0.32, y - h * 0.52), (x - w * 0.22, y - h * 0.97), (x + w * 0.22, y - h * 0.97),
                 (x + w * 0.32, y - h * 0.52)]  # fmt: skip
        self.polygon(cabin, paint, 4)
        self.rectangle((x - w / 2, y - h * 0.58, x + w / 2, y - h * 0.1), paint, 4, w * 0.08)
        glass = [(x - w * 0.26, y - h * 0.56), (x - w * 0.19, y - h * 0.89), (x + w * 0.19, y - h * 0.89),
                 (x + w * 0.26, y - h * 0.56)]  # fmt: skip
        self.polygon(glass, _shade((150, 176, 190), self.light), 4)
        for dx in (-0.44, 0.3):
            self.rectangle(
                (x + w * dx, y - h * 0.46, x + w * (dx + 0.14), y - h * 0.34),
                (214, 66, 56),
                None,
                1,
            )
        outline = [x - w / 2, y - h * 0.1, x - w / 2, y - h * 0.56, x - w * 0.3, y - h * 0.58, x - w * 0.22,
                   y - h * 0.97, x + w * 0.22, y - h * 0.97, x + w * 0.3, y - h * 0.58, x + w / 2,
                   y - h * 0.56, x + w / 2, y - h * 0.1, x + w * 0.36, y, x - w * 0.36, y]  # fmt: skip
        self.keep("car", x - w / 2, y - h * 0.97, w, h * 0.97, outline)

    def person(self) -> None:
        side = self.random.choice([-1, 1])
        depth = self.random.uniform(0.2, 0.75)
        y = self.horizon + (HEIGHT - self.horizon) * depth
        edge = 22 + (WIDTH * 0.58 - 22) * depth
        x = self.centre + side * (edge + 8 + self.random.uniform(0, 20))
        h = 20 + 74 * depth
        if not 10 < x < WIDTH - 10:
            return
        coat = _shade(tuple(self.random.integers(60, 200, 3)), self.light)
        self.rectangle(
            (x - h * 0.1, y - h * 0.46, x - h * 0.01, y), _shade((58, 62, 78), self.light), 5, 2
        )
        self.rectangle(
            (x + h * 0.01, y - h * 0.46, x + h * 0.1, y), _shade((58, 62, 78), self.light), 5, 2
        )
        self.rectangle((x - h * 0.15, y - h * 0.82, x + h * 0.15, y - h * 0.4), coat, 5, h * 0.07)
        r = h * 0.1
        head = [x - r, y - h, x + r, y - h + 2 * r]
        self.draw.ellipse([side * 2 for side in head], fill=_shade((214, 172, 142), self.light))
        self.mark.ellipse(head, fill=5)
        outline = [x - h * 0.1, y, x - h * 0.15, y - h * 0.5, x - h * 0.15, y - h * 0.8, x - r, y - h * 0.86,
                   x - r, y - h, x + r, y - h, x + r, y - h * 0.86, x + h * 0.15, y - h * 0.8, x + h * 0.15,
                   y - h * 0.5, x + h * 0.1, y]  # fmt: skip
        self.keep("person", x - h * 0.15, y - h, h * 0.3, h, outline)

    def keep(
        self, name: str, left: float, top: float, width: float, height: float, outline: list[float]
    ) -> None:
        box = {"top": top, "left": left, "height": height, "width": width}
        self.boxes.append(
            {
                "class_name": name,
                **{k: round(float(v), 1) for k, v in box.items()},
                "outline": [round(float(v), 1) for v in outline],
            }
        )


def scene(seed: int) -> tuple[Image.Image, dict[str, Any]]:
    """A street of 480 x 320 pixels, and its record without a uri."""
    made = _Scene(seed)
    made.town()
    made.ground()
    for _ in range(int(made.random.integers(2, 6))):
        made.tree()
    for depth in sorted(made.random.uniform(0.12, 0.86, int(made.random.integers(1, 6)))):
        made.car(depth)
    for _ in range(int(made.random.integers(0, 4))):
        made.person()
    image = made.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    if made.hour == "overcast":
        image = image.filter(ImageFilter.GaussianBlur(0.5))
    noise = made.random.normal(0, 3.2, (HEIGHT, WIDTH, 1))
    image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return image, _record(made)


def _record(made: _Scene) -> dict[str, Any]:
    random = made.random
    boxes = [{k: v for k, v in box.items() if k != "outline"} for box in made.boxes]
    polygons = [
        {"class_name": box["class_name"], "coco_polygon": box["outline"]} for box in made.boxes
    ]
    truths: list[dict[str, Any]] = [
        {"task_type": "OBJECT_DETECTION", "bboxes": boxes},
        {"task_type": "LANE_DETECTION", "lanes": [{"coco_polyline": lane} for lane in made.lanes]},
        {
            "task_type": "SEGMENTATION",
            "class_names": CLASSES,
            "segmentation_class_mask": np.asarray(made.classes).tolist(),
        },
        {"task_type": "CLASSIFICATION", "class_name": made.hour},
    ]
    if polygons:
        truths.append({"task_type": "INSTANCE_SEGMENTATION", "bboxes": polygons})
    models = [_detections(random, boxes, model, sigma, miss) for model, sigma, miss in
              (("street-s", 7.0, 0.24), ("street-l", 2.6, 0.07))]  # fmt: skip
    hours = list(_HOURS)
    for model, sharp in (("street-s", 1.4), ("street-l", 3.6)):
        logits = random.normal(0, 1, 4)
        logits[hours.index(made.hour)] += sharp
        models.append(
            {
                "task_type": "CLASSIFICATION",
                "model_name": model,
                "class_names": hours,
                "logits": [float(value) for value in logits],
            }
        )
    return {
        "type": "IMAGE",
        "metadata": {
            "width": WIDTH,
            "height": HEIGHT,
            "camera": f"cam-{1 + int(random.integers(4))}",
        },
        "tags": {
            "source": "streets",
            "hour": made.hour,
            "split": "train" if random.random() < 0.7 else "test",
        },
        "groundtruths": truths,
        "predictions": models,
    }


def _detections(
    random: np.random.Generator, boxes: list[dict[str, Any]], model: str, sigma: float, miss: float
) -> dict[str, Any]:
    found = []
    for box in boxes:
        if random.random() < miss:
            continue
        moved = {side: round(float(max(1.0, box[side] + random.normal(0, sigma * (0.3 + box["height"] / 120)))), 1)
                 for side in ("top", "left", "height", "width")}  # fmt: skip
        confidence = float(np.clip(random.beta(9, 2.2) - sigma / 60, 0.05, 0.995))
        wrong = random.random() < miss / 3
        name = (
            box["class_name"] if not wrong else ("person" if box["class_name"] == "car" else "car")
        )
        found.append(
            {
                "class_name": name,
                **moved,
                "confidence": round(confidence, 3),
                "metrics": {"entropy": round(1 - confidence, 3)},
            }
        )
    return {
        "task_type": "OBJECT_DETECTION",
        "model_name": model,
        "bboxes": found,
        "metrics": {
            "latency_ms": round(float(random.gamma(9, 1.3 if model == "street-s" else 3)), 2)
        },
    }


def streets(folder: Path, count: int, start: int = 0) -> list[dict[str, Any]]:
    """Records of `count` scenes, whose images are written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(start, start + count):
        image, record = scene(number)
        path = folder / f"street-{number:04d}.jpg"
        image.save(path, quality=92)
        record["metadata"]["uri"] = str(path)
        records.append(record)
    return records


def photographs(folder: Path) -> list[dict[str, Any]]:
    """Scikit-learn's two photographs, whole and in parts."""
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    records = []
    loaded = load_sample_images()
    for name, pixels in zip(("china", "flower"), loaded.images, strict=True):
        path = folder / f"{name}.jpg"
        Image.fromarray(pixels).save(path, quality=92)
        whole = {"uri": str(path), "width": pixels.shape[1], "height": pixels.shape[0]}
        regions = [None] + [
            {"top": row / 2, "left": column / 3, "height": 1 / 2, "width": 1 / 3}
            for row in range(2)
            for column in range(3)
        ]
        records += [
            {
                "type": "IMAGE",
                "metadata": {**whole, **({"normalized_roi": region} if region else {})},
                "tags": {"source": "photographs", "part": "region" if region else "whole"},
                "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": name}],
            }
            for region in regions
        ]
    return records


def sounds(folder: Path) -> list[dict[str, Any]]:
    """Three chords that fade, as WAV."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for name, tones in (("c-major", (261.6, 329.6, 392.0)), ("a-minor", (220.0, 261.6, 329.6)),
                        ("fifth", (196.0, 293.7))):  # fmt: skip
        moments = np.arange(int(22_050 * 2.5)) / 22_050
        beats = 0.35 + 0.65 * np.abs(np.sin(2 * math.pi * 1.2 * moments))
        wavefront = sum(np.sin(2 * math.pi * tone * moments) for tone in tones) / len(tones)
        samples = (wavefront * beats * np.exp(-moments * 0.9) * 28_000).astype("<i2")
        path = folder / f"{name}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(22_050)
            file.writeframes(samples.tobytes())
        records.append({
            "type": "AUDIO",
            "metadata": {"uri": str(path), "duration": 2.5, "sampling_rate": 22_050},
            "tags": {"source": "chords"},
            "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": name}],
        })  # fmt: skip
    return records


def texts() -> list[dict[str, Any]]:
    """Questions with what people and two models answered, and reviews with a label."""
    answers = [
        (
            "Name the largest moon of Saturn.",
            "Titan",
            "Titan is the largest moon of Saturn.",
            0.97,
            "Ganymede",
            0.41,
        ),
        (
            "What does HTTP status 409 mean?",
            "Conflict",
            "The request conflicts with the state of the resource.",
            0.93,
            "The server is overloaded.",
            0.38,
        ),
        (
            "Translate 'good morning' into Italian.",
            "Buongiorno",
            "Buongiorno",
            0.99,
            "Buonasera",
            0.52,
        ),
        (
            "Which is heavier, a kilogram of iron or of feathers?",
            "Neither",
            "They weigh the same.",
            0.9,
            "Iron",
            0.63,
        ),
    ]
    records: list[dict[str, Any]] = []
    for question, truth, good, sure, bad, unsure in answers:
        records.append({
            "type": "TEXT",
            "text": question,
            "tags": {"source": "questions"},
            "groundtruths": [{"task_type": "COMPLETION", "completions": [{"text": truth}]}],
            "predictions": [
                {"task_type": "COMPLETION", "model_name": "large",
                 "completions": [{"text": good, "confidence": sure, "metrics": {"hallucination_score": 0.04}}]},
                {"task_type": "COMPLETION", "model_name": "small",
                 "completions": [{"text": bad, "confidence": unsure, "metrics": {"hallucination_score": 0.71}}]},
            ],
        })  # fmt: skip
    for text, label, logits in (
        (
            "Arrived a day early and works exactly as described. Would buy again.",
            "positive",
            [2.4, 0.1],
        ),
        (
            "The hinge broke in the second week and nobody answers the phone.",
            "negative",
            [0.2, 1.9],
        ),
        (
            "It is fine. Not as bright as the old one, but it costs half as much.",
            "positive",
            [0.4, 0.5],
        ),
    ):
        records.append({
            "type": "TEXT",
            "text": text,
            "tags": {"source": "reviews"},
            "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": label}],
            "predictions": [{"task_type": "CLASSIFICATION", "model_name": "sentiment",
                             "class_names": ["positive", "negative"], "logits": logits}],
        })  # fmt: skip
    return records
