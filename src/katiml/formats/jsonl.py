"""JSON lines of prompts and completions, as language models are tuned on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from katiml.formats.items import Item, note_left_out
from katiml.formats.report import Report

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS: tuple[str, ...] = ()
WRITE_OPTIONS: tuple[str, ...] = ()
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("question", "answer"),
    ("input", "output"),
)
_MAX_LINE = 64 << 20


def read(path: Path, report: Report) -> Iterator[dict[str, Any]]:
    """One TEXT record a line: `prompt` and `completion` (or `response`), `instruction` (with
    `input`) and `output`, `question` and `answer`, `text` alone, `prompt` with `chosen` and
    `rejected` (completions with the metric `chosen`, 1 and 0), or `messages`, whose last one, by
    the assistant, is the completion. Other fields become metadata."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                value = orjson.loads(line)
                record = _record(value)
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                what = "lines that are no prompt and completion are left out"
                report.note(what, f"line {number}: {error}")
                continue
            report.records += 1
            yield record


def _record(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    rest = dict(value)
    completions: list[dict[str, Any]] = []
    if isinstance(value.get("messages"), list):
        messages = [dict(message) for message in rest.pop("messages")]
        if messages and messages[-1].get("role") == "assistant":
            completions = [{"text": _text(messages.pop()["content"])}]
        users = [message for message in messages if message.get("role") == "user"]
        text = _text(users[-1]["content"]) if users else ""
        rest["messages"] = messages
    elif "chosen" in value and "rejected" in value and "prompt" in value:
        text = _text(rest.pop("prompt"))
        completions = [
            {"text": _text(rest.pop(name)), "metrics": {"chosen": chosen}}
            for name, chosen in (("chosen", 1.0), ("rejected", 0.0))
        ]
    elif pair := next((pair for pair in _PAIRS if set(pair) <= set(value)), None):
        text = _text(rest.pop(pair[0]))
        completions = [{"text": _text(rest.pop(pair[1]))}]
        if pair[0] == "instruction" and rest.get("input"):
            text = f"{text}\n\n{_text(rest.pop('input'))}"
    else:
        text = _text(rest.pop("text" if "text" in rest else "prompt"))
    record: dict[str, Any] = {"type": "TEXT", "text": text}
    if completions:
        record["groundtruths"] = [{"task_type": "COMPLETION", "completions": completions}]
    if rest:
        record["metadata"] = rest
    return record


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text is expected")
    return value


def write(items: Iterable[Item], path: Path, report: Report) -> None:
    """`prompt` and `completion`, one line for each completion; `messages` where the datapoint came
    of such; `prompt`, `chosen` and `rejected` where completions say which is which."""
    with open(path, "wb") as file:
        for item in note_left_out(items, report, ("COMPLETION",), ("metadata",)):
            if item.text is None:
                report.note("datapoints without text are left out", item.id)
                continue
            file.writelines(orjson.dumps(line) + b"\n" for line in _lines(item))
            report.records += 1


def _lines(item: Item) -> Iterator[dict[str, Any]]:
    rest = dict(item.metadata)
    truth = item.truth("COMPLETION")
    completions = (truth or {}).get("completions") or []
    messages = rest.pop("messages", None)
    chosen = {
        (completion.get("metrics") or {}).get("chosen"): completion.get("text")
        for completion in completions
    }
    if isinstance(messages, list):
        answers = completions or [None]
        for answer in answers:
            last = [] if answer is None else [{"role": "assistant", "content": answer.get("text")}]
            yield {"messages": [*messages, *last], **rest}
    elif {0.0, 1.0} <= set(chosen):
        yield {"prompt": item.text, "chosen": chosen[1.0], "rejected": chosen[0.0], **rest}
    elif completions:
        for completion in completions:
            yield {"prompt": item.text, "completion": completion.get("text"), **rest}
    else:
        yield {"text": item.text, **rest}
