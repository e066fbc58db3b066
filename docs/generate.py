"""What is made from the code: schemas and key pages of configurations, field tables, the drawing.

python -m docs.generate            # writes what has changed
python -m docs.generate --check    # ends with 1 if a file is stale, and names it
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from docs.drawing import draw
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.settings import plain
from star_tvr.training.config import TrainSettings

ROOT = Path(__file__).parent.parent

Schema = dict[str, Any]

INTRODUCTION = """\
# Configuration keys

Written by `make generated` from the models in `scenes/config.py` and `training/config.py`.

A key with dots stands for blocks in YAML: `image.width` is `image: {width: …}`. On the command line
it is `--set image.width=160`. A range is `[smallest, largest]`; one number stands for both ends.
`NAME` is a name of your own: small letters, digits, `-` and `_`. A key without a default must be
given; the presets give all of those of data sets.
"""

DATASET_TEXT = """\
## Data sets

`tvr render OUT --config FILE.yaml`. A file may begin with `preset: star`; without it, it begins
with `trance`. In a table with names, null removes an entry. `render.quality` (draft, standard,
trance) stands for `samples`, `adaptive`, `denoise` and `guides`.
"""

TRAINING_TEXT = """\
## Training

`tvr train sft FILE.yaml`, `tvr train grpo FILE.yaml`. Besides these keys, every field of TRL's
SFTConfig or GRPOConfig may be set under its own name.
"""

PAGES: dict[str, tuple[type[BaseModel], str, str]] = {
    "config": (DatasetConfig, "Configuration of a data set, resolved", DATASET_TEXT),
    "train": (TrainSettings, "Configuration of a training run", TRAINING_TEXT),
}


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    schemas = {name: json_schema(model, title) for name, (model, title, _) in PAGES.items()}
    tables = [f"{text}\n{_table(schemas[name])}" for name, (_, _, text) in PAGES.items()]
    documents = {
        ROOT / f"schemas/{name}.schema.json": f"{json.dumps(schema, indent=2)}\n"
        for name, schema in schemas.items()
    }
    return {
        **documents,
        ROOT / "docs/configuration.md": "\n".join([INTRODUCTION, *tables]),
        ROOT / "docs/dataset.md": _with_fields(ROOT / "docs/dataset.md"),
        ROOT / "docs/architecture.md": _with_files(ROOT / "docs/architecture.md"),
        ROOT / "docs/images/architecture.svg": draw(ROOT),
    }


def _with_fields(page: Path) -> str:
    """A page with the fields of stored documents, and the example, at the marks for them."""

    def fields(mark: re.Match[str]) -> str:
        name = mark.group(1)
        schema = json.loads((ROOT / f"schemas/{name}.schema.json").read_text())
        return f"<!-- fields: {name} -->\n{_field_table(schema)}<!-- end -->"

    text = re.sub(r"<!-- fields: (\w+) -->.*?<!-- end -->", fields, page.read_text(), flags=re.S)
    example = (ROOT / "docs/sample.json").read_text()
    return re.sub(
        r"<!-- example -->.*?<!-- end -->",
        lambda _: f"<!-- example -->\n```json\n{example}```\n<!-- end -->",
        text,
        flags=re.S,
    )


def _with_files(page: Path) -> str:
    """A page with the files of folders, and what their docstrings begin with, at its marks."""

    def table(mark: re.Match[str]) -> str:
        lines = ["| file | |", "|---|---|"]
        for path in sorted((ROOT / "star_tvr" / mark.group(1)).rglob("*.py")):
            if path.name != "__init__.py":
                docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
                first = " ".join(docstring.partition("\n\n")[0].split())
                name = path.relative_to(ROOT / "star_tvr" / mark.group(1))
                lines.append(f"| `{name}` | {first.replace('|', '&#124;')} |")
        return "\n".join([mark.group(0).splitlines()[0], *lines, "<!-- end -->"])

    return re.sub(r"<!-- files: (\w+) -->.*?<!-- end -->", table, page.read_text(), flags=re.S)


def _field_table(schema: Schema) -> str:
    lines = ["| field | value | meaning |", "|---|---|---|"]
    for key, part in _fields(schema, schema, ""):
        kind = _kind(part, schema)
        cells = (f"`{key}`", "" if kind in ("block", "any") else kind, part.get("description", ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _fields(schema: Schema, whole: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    """Every field below a document, with its schema; lists of blocks and tables are gone into."""
    for name, part in schema.get("properties", {}).items():
        key, block = f"{prefix}{name}", {**_resolved(part, whole), **part}
        yield key, block
        items = _resolved(block.get("items", {}), whole)
        entries = _entries(block, whole)
        if "properties" in block:
            yield from _fields(block, whole, f"{key}.")
        elif "properties" in items:
            yield from _fields(items, whole, f"{key}[].")
        elif entries is not None and "properties" in entries:
            yield from _fields(entries, whole, f"{key}.KEY.")


def json_schema(model: type[BaseModel], title: str) -> Schema:
    """The JSON Schema of a model, without what pydantic makes of the names of its parts."""
    schema = _tidy(model.model_json_schema())
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title}


def _tidy(value: Any) -> Any:
    if isinstance(value, list):
        return [_tidy(v) for v in value]
    if not isinstance(value, dict):
        return value
    drop = {key for key in ("title",) if isinstance(value.get(key), str)}
    if "$ref" in value:  # the block's own keys have their defaults
        drop.add("default")
    tidy = {key: _tidy(v) for key, v in value.items() if key not in drop}
    if "description" in tidy and isinstance(tidy["description"], str):
        tidy["description"] = " ".join(tidy["description"].partition("\n\n")[0].split())
    return tidy


def _table(schema: Schema) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, part, default in _keys(schema, schema, ""):
        meaning = part.get("description", "")
        cells = (f"`{key}`", _kind(part, schema), default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _keys(schema: Schema, whole: Schema, prefix: str) -> Iterator[tuple[str, Schema, str]]:
    """Every key below a block: its name with dots, its schema, its default in words."""
    required = schema.get("required", [])
    for name, part in schema.get("properties", {}).items():
        key = f"{prefix}{name}"
        block = _resolved(part, whole)
        entries = _entries(block, whole)
        if "properties" in block:
            yield from _keys(block, whole, f"{key}.")
            if entries is not None:  # names of the user's own beside them
                yield f"{key}.NAME", entries, ""
        elif entries is not None and "properties" in entries:
            yield from _keys(entries, whole, f"{key}.NAME.")
        else:
            default = "" if name in required else f"`{json.dumps(plain(part.get('default')))}`"
            yield key, {**block, **part}, default


def _entries(schema: Schema, whole: Schema) -> Schema | None:
    """What every entry of a table is, where a schema is a table."""
    tables = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    found = next((t for t in tables if isinstance(t, dict)), None)
    return None if found is None else _resolved(found, whole)


def _resolved(schema: Schema, whole: Schema) -> Schema:
    """The schema that a reference stands for; of a value that may be null, that of the value."""
    if "anyOf" in schema:
        others = [s for s in schema["anyOf"] if s.get("type") != "null"]
        if len(others) == 1 and "$ref" in others[0]:
            return _resolved(others[0], whole)
    if schema.get("$ref", "").startswith("#"):
        found: Schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _kind(schema: Schema, whole: Schema) -> str:
    """The type and range of a value in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(_resolved(s, whole), whole) for s in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(_kind({**schema, "type": one}, whole) for one in kind)
    if kind == "null":
        return "null"
    if kind == "array":
        ends = schema.get("prefixItems")
        if ends:
            item = _kind(_resolved(ends[0], whole), whole)
            pair = len(ends) == 2 and "enum" not in ends[0]
            return f"range of {item}" if pair else f"{len(ends)} of {item}"
        return f"list of {_kind(_resolved(schema.get('items', {}), whole), whole)}"
    if kind == "object":
        entries = _entries(schema, whole)
        return "block" if entries is None else f"each name: {_kind(entries, whole)}"
    words = {"integer": "integer", "number": "number", "boolean": "true or false"}.get(kind, "text")
    if "exclusiveMinimum" in schema:
        return f"{words} above {schema['exclusiveMinimum']}"
    if "minimum" in schema:
        words += f" from {schema['minimum']}"
        return f"{words} to {schema['maximum']}" if "maximum" in schema else words
    return words


def main() -> int:
    """Write or check the files; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    wanted = files()
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    for path in stale:
        state = "is stale; run make generated" if asked.check else "written"
        print(f"{path.relative_to(ROOT)}: {state}")
        if not asked.check:
            path.write_text(wanted[path])
    return int(asked.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
