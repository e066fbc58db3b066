"""Conversations with pictures beside them: LLaMA-Factory and ms-swift, VLM-R1, Reason-RFT.

Paths of images are relative to the exported folder.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from star_tvr.scenes.transformations import Transformation
from star_tvr.schemas.dataset import SAMPLES_PER_FOLDER, Dataset, dumps, dumps_line
from star_tvr.training.config import PromptConfig
from star_tvr.training.exports.items import (
    ExportItem,
    ExportSplit,
    flat_prompt,
    items,
    picture,
    truth,
)
from star_tvr.training.prompts import (
    answer_completion,
    build_prompt,
    listed_objects,
    projected,
)

Row = Callable[[Dataset, ExportItem, int, list[str]], dict[str, Any]]
"""What a pair looks like: from the item, its running number in its file, its two image paths."""


def write_sharegpt(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `<scheme>/<split>.jsonl` and LLaMA-Factory's `dataset_info.json`.

    Source: LLaMA-Factory, data/README.md, sharegpt format; ms-swift, "Custom dataset".
    """
    info = {}
    for part in parts:
        info[f"{part.scheme}-{part.name}"] = {
            "file_name": f"{part.scheme}/{part.name}.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    (folder / "dataset_info.json").write_text(dumps(info), encoding="utf-8")
    return (yield from _write(dataset, parts, folder, sharegpt_row))


def write_vlm_r1(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `<scheme>/<split>.jsonl`. Source: VLM-R1, README, "For your own data"."""
    return (yield from _write(dataset, parts, folder, vlm_r1_row))


def write_reason_rft(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `<scheme>/<split>.json`, one list each. Source: Reason-RFT, its data and rewards."""
    return (yield from _write(dataset, parts, folder, reason_rft_row, as_list=True))


def sharegpt_row(
    dataset: Dataset, item: ExportItem, number: int, images: list[str]
) -> dict[str, Any]:
    """Messages whose `<image>` marks stand for `images`, in order; the answer comes last.

    `solution` is what ms-swift passes to rewards.
    """
    reply = answer_completion(item.answer)[0]["content"][0]["text"]
    return {
        "messages": [
            *flat_prompt(dataset, item, PromptConfig()),
            {"role": "assistant", "content": reply},
        ],
        "images": images,
        "solution": truth(dataset, item),
        **item.pair.to_json(),
    }


def vlm_r1_row(
    dataset: Dataset, item: ExportItem, number: int, images: list[str]
) -> dict[str, Any]:
    """VLM-R1 puts all images first and adds its own words on how to think and answer."""
    messages = build_prompt(
        item.sample, item.pair, dataset.world, dataset.config, PromptConfig(style="full")
    )
    question = messages[-1]["content"][-1]["text"]
    text = (
        "<image><image>The first picture shows a scene before some changes, the second after "
        f"them, perhaps from another side.\n{question}"
    )
    return {
        "id": number,
        "image": images,
        "conversations": [
            {"from": "human", "value": text},
            {"from": "gpt", "value": item.answer},
        ],
        **item.pair.to_json(),
    }


def reason_rft_row(
    dataset: Dataset, item: ExportItem, number: int, images: list[str]
) -> dict[str, Any]:
    """Reason-RFT wraps the problem in a text that explains functions and values."""
    listed = listed_objects(item.sample, dataset.world, dataset.config)
    objects = [(str(o.index), o.shape, o.size, o.color, o.material) for o in listed]
    points = projected(listed, item.sample, item.pair, dataset.world)
    centers = {
        str(o.index): (round(u), round(v)) for o, (u, v, _) in zip(listed, points, strict=True)
    }
    return {
        "id": number,
        "image": images,
        "problem": "The first image shows the initial state, the second the final state. The "
        f"attributes of the initial objects: {objects}. The pixels of their centres in the first "
        f"image: {centers}. Which transformation leads from the one "
        "to the other?",
        "solution": ", ".join(map(function, item.sample.plan.transformations)),
        **item.pair.to_json(),
    }


def function(transformation: Transformation) -> str:
    """A transformation as Reason-RFT writes it.

    Its rewards read a value as letters, digits and underscores; a move keeps its number of steps.

    >>> function(Transformation(2, "color", "cyan"))
    "change_color(2, 'cyan')"
    >>> function(Transformation(0, "position", "front-left.2"))
    "change_position(0, 'front_left_2')"
    """
    value = transformation.value.replace("-", "_").replace(".", "_")
    return f"change_{transformation.attribute}({transformation.object}, '{value}')"


def _write(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path, row: Row, as_list: bool = False
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    configs: dict[str, dict[str, str]] = {}
    for part in parts:
        name = f"{part.scheme}/{part.name}.{'json' if as_list else 'jsonl'}"
        configs.setdefault(part.scheme, {})[part.name.replace("-", "_")] = name
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for number, (item, images) in enumerate(_with_images(dataset, part, folder)):
                document = row(dataset, item, number, images)
                if as_list:
                    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
                    file.write(("[\n" if number == 0 else ",\n") + text)
                else:
                    file.write(dumps_line(document))
                yield item
            if as_list:
                file.write("\n]\n" if file.tell() else "[]\n")
    return configs


def _with_images(
    dataset: Dataset, part: ExportSplit, folder: Path
) -> Iterator[tuple[ExportItem, list[str]]]:
    """The items of a part, with the paths to which their images have been copied."""
    for item in items(dataset, part):
        paths = []
        for state in ("initial", "final"):
            image = item.image(state)
            block = f"{int(item.sample.id) // SAMPLES_PER_FOLDER:05d}"
            path = f"images/{block}/{item.sample.id}/{image.path}"
            paths.append(path)
            if not (folder / path).exists():
                content = picture(dataset, item.sample, image)
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
        yield item, paths
