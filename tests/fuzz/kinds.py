"""What is attacked, with which commands, and when success would be wrong."""

import io
import json
import math
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

from tests.fuzz import mutations
from tests.fuzz.mutations import MARKUP, REPLACEMENTS, VALUES, YAML_VALUES
from tests.fuzz.originals import SPLIT, http_reply
from tests.fuzz.sandbox import HOSTILE, Case, Change

Mutate = Callable[[random.Random, Path, bytes], Change]
Wrong = Callable[[str, str, bytes, Change], str]
"""Of command, path, content before and after: why success would be wrong, or nothing."""


@dataclass(frozen=True)
class Command:
    """Arguments of `tvr` as they are typed, and where it may write apart from `out`."""

    words: str
    writes: Sequence[str] = ()


# --- Commands ----------------------------------------------------------------------------------

EVALUATE = f"evaluate data --split {SPLIT} --out out --max-new-tokens 4"
VALIDATE = Command("validate data")
STATS = Command("stats data --json")
VIEW = Command("view data --out out/page.html")
SCORE = Command(f"score predictions.jsonl data --split {SPLIT}")
AGAINST = Command("validate data --against data")
ANEW = Command("render data --from {path}", ["data"])
ASK = Command(f"{EVALUATE} --model m --endpoint {{url}} --timeout 5 --retries 0")
LOCAL = Command(f"{EVALUATE} --model model --device cpu")
ADAPTED = Command(f"{EVALUATE} --model model --adapter adapter --device cpu")
SPLIT_IT = Command("split data --scheme random", ["data/splits"])
PLAN = Command("render data --plan-only --workers 1", ["data"])
GO_ON = Command("render data --only 000000", ["data"])
REPORT = Command("report run --out out/page.html")
EXPORTS = [
    Command(f"export data out/x --format {name}")
    for name in ("parquet", "webdataset", "sharegpt", "vlm-r1", "reason-rft", "trance")
]


# --- Mutations of one kind ---------------------------------------------------------------------


def _document(rng: random.Random, path: Path, content: bytes) -> Change:
    return mutations.mutate_text(rng, content)


def _lines(rng: random.Random, path: Path, content: bytes) -> Change:
    return mutations.mutate_lines(rng, content)


def _bytes(rng: random.Random, path: Path, content: bytes) -> Change:
    return mutations.mutate_bytes(rng, content)


def _yaml(rng: random.Random, path: Path, content: bytes) -> Change:
    """As text, or as a document that is written in YAML's flow form."""
    if rng.random() < 0.2:
        return mutations.mutate_bytes(rng, content)
    document = mutations.parse(json.dumps(yaml.safe_load(content)))
    changed = mutations.mutate_document(rng, document, [*VALUES, *YAML_VALUES])
    return mutations.dumps(changed).encode("utf-8", "surrogatepass")


def _any(rng: random.Random, path: Path, content: bytes) -> Change:
    """By the end of the name."""
    suffix = {".json": _document, ".jsonl": _lines, ".yaml": _yaml, ".safetensors": _weights}
    return suffix.get(path.suffix, _bytes)(rng, path, content)


def _markup(rng: random.Random, path: Path, content: bytes) -> Change:
    """Markup as values and names of a document."""
    values = [MARKUP, f"</script>{MARKUP}", f'" onload="x">{MARKUP}', [MARKUP], {MARKUP: 1}]
    lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
    k = rng.randrange(len(lines))
    document = mutations.parse(json.dumps(yaml.safe_load(lines[k])))
    for _ in range(3):
        mutations.put(rng, document, values)
    lines[k] = mutations.dumps(document)
    return "\n".join([*lines, ""]).encode()


def _picture(rng: random.Random, path: Path, content: bytes) -> Change:
    """A damaged file, or a right one of another picture, size, kind or format."""
    if rng.random() < 0.4:
        return mutations.mutate_bytes(rng, content)
    picture: PIL.Image.Image = PIL.Image.open(io.BytesIO(content))
    picture.load()
    form, options = "PNG", dict[str, Any]()
    width, height = picture.size
    change = rng.randrange(7)
    if change == 0:
        picture = picture.resize(rng.choice(((1, 1), (width + 1, height), (height, width))))
    elif change == 1:
        picture = picture.convert("RGB").convert(rng.choice(("L", "RGBA", "P", "1", "LA", "I;16")))
    elif change == 2:
        form = rng.choice(("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
        picture = picture.convert(rng.choice(("RGB", "CMYK") if form == "JPEG" else ("RGB",)))
    elif change == 3:
        pixels = np.array(picture)
        x, y = rng.randrange(width - 4), rng.randrange(height - 4)
        pixels[y : y + 4, x : x + 4] = rng.randrange(255)
        picture = PIL.Image.fromarray(pixels)
    elif change == 4:
        return _bomb()
    elif change == 5:
        options = {"save_all": True, "append_images": [picture.copy()]}
    else:  # a header that promises more than there is
        size = struct.pack(">II", *rng.choice(((60_000, 60_000), (0, 48), (2**31, 1))))
        head = b"IHDR" + size + content[24:29]
        return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


@cache
def _bomb() -> bytes:
    """A small file of a large picture."""
    stream = io.BytesIO()
    PIL.Image.new("1", (13_000, 13_000)).save(stream, "PNG")
    return stream.getvalue()


def _weights(rng: random.Random, path: Path, content: bytes) -> Change:
    """Bytes, the header, or right files of other tensors."""
    from safetensors.torch import load, save

    change = rng.randrange(8)
    if change == 0:
        return mutations.mutate_bytes(rng, content)
    length = int.from_bytes(content[:8], "little")
    if change == 1:
        header = mutations.mutate_text(rng, content[8 : 8 + length])
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    tensors = load(content)
    name = rng.choice(sorted(tensors))
    if change == 2:
        tensors = {f"other.{k}": v for k, v in tensors.items()}
    elif change == 3:
        tensors = dict(list(sorted(tensors.items()))[::2])
    elif change == 4:
        tensors[name] = tensors[name] * rng.choice((math.nan, math.inf))
    elif change == 5:
        tensors[name] = tensors[name].flatten()[:-1].clone()
    elif change == 6:
        tensors[f"{name}2"] = tensors.pop(name)
    else:
        tensors = {}
    return save(tensors, {"format": "pt"})


def _table(rng: random.Random, path: Path, content: bytes) -> Change:
    """Bytes, or a right file of other columns, types, values or numbers of rows."""
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    k = table.column_names.index(name)
    change = rng.randrange(7)
    if change == 0:
        table = table.drop_columns([name])
    elif change == 1:
        values = [
            rng.choice((None, "x", "", MARKUP, "\x1b[2J", "9" * 30)) for _ in range(len(table))
        ]
        table = table.set_column(k, name, pyarrow.array(values, pyarrow.string()))
    elif change == 2:
        kind = rng.choice((pyarrow.float64(), pyarrow.list_(pyarrow.string()), pyarrow.null()))
        table = table.set_column(k, name, pyarrow.nulls(len(table), kind))
    elif change == 3:
        value = rng.choice(
            (math.nan, math.inf, -1.5, 2**63 - 1, True, b"\xff", [1], [{"a": 1}], {"a": 1})
        )
        table = table.set_column(k, name, pyarrow.array([value] * len(table)))
    elif change == 4:
        table = table.slice(0, 0)
    elif change == 5:
        return _many_rows(content)
    else:
        return mutations.mutate_bytes(rng, content)
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()


@cache
def _many_rows(content: bytes) -> bytes:
    """A small file that promises the first row of another three million times."""
    import pyarrow
    from pyarrow import parquet

    first = parquet.read_table(io.BytesIO(content)).slice(0, 1)
    rows = pyarrow.concat_tables([first.take([0] * 3000)] * 1000)
    stream = io.BytesIO()
    parquet.write_table(rows, stream)
    return stream.getvalue()


HEADERS = [
    *("content-type: text/html; charset=zebra", "content-encoding: gzip", "content-encoding: br"),
    *("transfer-encoding: chunked", "content-length: -5", "content-length: 99999999999999999999"),
    *(
        "content-length: 3",
        "retry-after: nan",
        "retry-after: -1e999",
        "location: file:///etc/passwd",
    ),
    *("set-cookie: " + "x" * 70_000, "x: \x1b[2J", "content-type: application/json; charset=utf-7"),
]
STATUSES = [
    *("100 Continue", "101 Switch", "204 None", "206 Part", "300 Many", "301 Moved", "304 Same"),
    *("400 Bad", "401 Who", "402 Pay", "404 Gone", "408 Late", "413 Large", "418 Tea", "429 Busy"),
    *("500 Broken", "503 Full", "599 ?", "999 ?", "-1 ?", "abc"),
]


def _reply(rng: random.Random, path: Path, content: bytes) -> Change:
    """A server that misbehaves, or a reply with another head or body."""
    change = rng.randrange(6)
    head, _, body = content.partition(b"\r\n\r\n")
    if change == 0:
        return rng.choice(list(HOSTILE))
    if change == 1:
        return mutations.mutate_bytes(rng, content)
    if change == 2:
        return http_reply(body, "200 OK", rng.choice(HEADERS))
    if change == 3:
        error = {"error": {"message": rng.choice(VALUES[25:40]), "code": rng.choice(VALUES[:8])}}
        text = mutations.dumps(mutations.parse(json.dumps(error)))
        return http_reply(text.encode(), rng.choice(STATUSES))
    return http_reply(mutations.mutate_text(rng, body))


def _hdf5(rng: random.Random, path: Path, content: bytes) -> Change:
    """Bytes, or a right file whose groups, links and datasets are not what they should be."""
    import h5py

    if rng.random() < 0.6:
        return mutations.mutate_bytes(rng, content)
    with h5py.File.in_memory(content) as file:
        group = file["train/image" if rng.random() < 0.6 else "train/data"]
        name = rng.choice(list(group))
        old = group[name]
        del group[name]
        change = rng.randrange(11)
        if change == 0:
            group[name] = h5py.ExternalLink("outside/secret.h5", "/train/image")
        elif change == 1:
            group[name] = h5py.SoftLink("/test/image")
        elif change == 2:
            external = [("outside/secret.txt", 0, h5py.h5f.UNLIMITED)]
            group.create_dataset(name, (1, 8, 4), "u1", external=external)
        elif change == 3:
            layout = h5py.VirtualLayout((1, 8, 4), "u1")
            layout[:] = h5py.VirtualSource("outside/secret.h5", "x", (1, 8, 4))
            group.create_virtual_dataset(name, layout)
        elif change == 4:
            group.create_dataset(name, (40_000, 40_000, 4), "u1", chunks=(100, 100, 4))
        elif change == 5:
            kind = rng.choice(("f8", "i4", "S3", h5py.string_dtype(), "u1"))
            shape = rng.choice(((), (0,), (3,), (2, 2), (120, 160), (1, 1, 5)))
            group.create_dataset(name, shape, kind)
        elif change == 6:
            group.create_group(name)
        elif change == 7:
            group.create_dataset(name, data=rng.choice(("", "{", "null", "x" * 100_000)))
        elif change == 8:
            group[rng.choice(("é", "a\nb", "-1", "1e5", "\x1b[2J", MARKUP))] = old
        elif change == 9:
            group[name] = file  # a circle
        else:
            file.create_group(rng.choice(("../x", "Über", "a b", MARKUP)))
        file.flush()
        return bytes(file.id.get_file_image())


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        files: patterns below the originals.
        needs: further originals that the commands read.
        weight: its share of all inputs.
        libraries: what is imported once, before processes are forked.
        fixed: attacks as they are, a command and changes each, in the place of mutations.
    """

    files: Sequence[str]
    mutate: Mutate = _any
    commands: Sequence[Command] = ()
    needs: Sequence[str] = ("data",)
    wrong: Wrong = lambda command, path, before, after: ""
    weight: int = 1
    libraries: Sequence[str] = ()
    fixed: Sequence[tuple[Command, Mapping[str, Change]]] = ()

    @property
    def most(self) -> int:
        """How many different inputs there are."""
        return len(self.fixed) or sys.maxsize


# --- When success is wrong ---------------------------------------------------------------------


def _strict(text: bytes) -> Any:
    """JSON by the letter. Raises ValueError."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    return json.loads(text.decode(), parse_constant=refuse, object_pairs_hook=distinct)


def _same(first: Any, second: Any) -> bool:
    """Whether two labels are equal, within the widest of the validator's tolerances."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, int | float) and isinstance(second, int | float):
        near = max(abs(first), abs(second)) < 1e9 and abs(first - second) <= 0.02
        return first == second or near
    return bool(first == second)


NO_LABELS = ("render", "lights")
"""Of a sample, what no other file and no rule says."""


def _wrong_sample(command: str, path: str, before: bytes, after: Change) -> str:
    assert isinstance(after, bytes)
    try:
        changed = _strict(after)
    except (ValueError, RecursionError):
        changed = None
    if not isinstance(changed, dict):
        return "the file is no JSON"
    old = _strict(before)
    for document in (old, changed):
        for key in NO_LABELS:
            document.pop(key, None)
    return "" if not command.startswith("validate") or _same(old, changed) else "a label is wrong"


def _wrong_json(command: str, path: str, before: bytes, after: Change) -> str:
    try:
        return "" if isinstance(after, bytes) and isinstance(_strict(after), dict) else "no object"
    except (ValueError, RecursionError):
        return "the file is no JSON"


def _parsed_lines(content: bytes) -> list[Any]:
    return [_strict(line) for line in content.split(b"\n") if line.strip()]


def _wrong_split(command: str, path: str, before: bytes, after: Change) -> str:
    if command != VALIDATE.words and not (command == SCORE.words and SPLIT in path):
        return ""
    assert isinstance(after, bytes)
    try:
        old, new = (Counter(map(repr, _parsed_lines(text))) for text in (before, after))
    except (ValueError, RecursionError):
        return "a line is no JSON"
    return "" if command != VALIDATE.words or old == new else "the split has other pairs"


def _wrong_predictions(command: str, path: str, before: bytes, after: Change) -> str:
    """Every line must be a prediction of a pair that is asked, and no two of the same one."""
    assert isinstance(after, bytes)
    try:
        asked = {tuple(line[k] for k in PAIR) for line in _parsed_lines(before)}
        seen = set()
        for line in _parsed_lines(after):
            pair, draw = tuple(line[k] for k in PAIR), line.get("draw", 0)
            if pair not in asked or not isinstance(line["completion"], str):
                return "a prediction is of nothing that is asked, or no text"
            if (pair, draw) in seen or isinstance(draw, bool) or draw < 0 or draw != int(draw):
                return "a prediction is there twice, or its draw is no number"
            seen.add((pair, draw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "a line is no prediction"
    return ""


PAIR = ("sample", "initial", "final")


def _wrong_picture(command: str, path: str, before: bytes, after: Change) -> str:
    assert isinstance(after, bytes)
    asked = path.endswith(("final-left.png", "final-right.png")) and _in_test(path)
    if not command.startswith("validate") and not (asked and command == ASK.words):
        return ""
    try:
        with PIL.Image.open(io.BytesIO(before)) as old, PIL.Image.open(io.BytesIO(after)) as new:
            if (new.format, new.mode, new.size) != (old.format, old.mode, old.size):
                return f"the picture is {new.format} {new.mode} {new.size}"
            new.verify()
            with PIL.Image.open(io.BytesIO(after)) as again:
                other = not np.array_equal(np.asarray(old), np.asarray(again))
    except Exception:  # noqa: BLE001 - whatever Pillow raises, it is no picture
        return "the picture is damaged"
    return "the mask shows other objects" if other and path.endswith(".mask.png") else ""


def _in_test(path: str) -> bool:
    """Whether a path is of the sample of the test; splits are the same whatever the machine."""
    return f"/{TEST_SAMPLE}/" in path


TEST_SAMPLE = "000003"


def _wrong_weights(command: str, path: str, before: bytes, after: Change) -> str:
    """Weights must be those of the model by name and shape, and finite."""
    if not path.endswith(".safetensors"):
        return ""
    from safetensors import SafetensorError
    from safetensors.torch import load

    assert isinstance(after, bytes)
    try:
        old, new = load(before), load(after)
    except (SafetensorError, ValueError, KeyError):
        return "the weights cannot be read"
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        return "the weights are those of another model"
    return "" if all(v.isfinite().all() for v in new.values()) else "weights are no numbers"


# --- Files as a whole --------------------------------------------------------------------------


def _replaced(rng: random.Random, path: Path, content: bytes) -> Change:
    return rng.choice(list(REPLACEMENTS))


def _wrong_replaced(command: str, path: str, before: bytes, after: Change) -> str:
    if "plans" in path or "scheme.json" in path:
        return ""
    if after == "gone" and "splits" in path:
        return ""
    name = Path(path).name.partition(".")[2] or "a folder"
    return f"{name} is {REPLACEMENTS[str(after)]}" if command == VALIDATE.words else ""


# --- Code in data ------------------------------------------------------------------------------

RAN = "touch outside/ran"
PICKLE = f"cposix\nsystem\n(S'{RAN}'\ntR.".encode()
MODULE = f"import os\nos.system({RAN!r})\nclass Evil: pass\n".encode()
TRUST = b"processor: {trust_remote_code: true}\n"
TEMPLATE = f"{{{{ cycler.__init__.__globals__.os.popen('{RAN}').read() }}}}"
ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() | map(attribute='__init__') | list }}"


def _auto(name: str, **more: str) -> bytes:
    """A file that names a class of `evil.py`."""
    return json.dumps({"auto_map": {name: "evil.Evil"}, **more}).encode()


TRAIN_ON = Command("train sft sft.yaml --set max_steps=2", ["run"])
CODE: list[tuple[Command, Mapping[str, Change]]] = [
    (LOCAL, {"model/model.safetensors": "gone", "model/pytorch_model.bin": PICKLE}),
    (ADAPTED, {"adapter/adapter_model.safetensors": "gone", "adapter/adapter_model.bin": PICKLE}),
    *(
        (LOCAL, {f"model/{file}": _auto(name), "model/evil.py": MODULE, "model/config.yaml": yes})
        for file, name in (
            ("processor_config.json", "AutoProcessor"),
            ("tokenizer_config.json", "AutoTokenizer"),
            ("preprocessor_config.json", "AutoImageProcessor"),
        )
        for yes in (TRUST, b"{}\n")
    ),
    (
        LOCAL,
        {"model/config.json": _auto("AutoConfig", model_type="evil"), "model/evil.py": MODULE},
    ),
    *((LOCAL, {"model/chat_template.jinja": t.encode()}) for t in (TEMPLATE, ESCAPE)),
    *(
        (TRAIN_ON, {f"run/checkpoint-1/{name}": PICKLE})
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    ),
    (Command("report run --out out/page.html"), {"run/training_args.bin": PICKLE}),
]
"""Pickles, and code beside a model that wants to be run."""


# --- The table ---------------------------------------------------------------------------------

SAMPLES = "data/samples/*/*/"
CORE = (
    *("star_tvr.tvr", "star_tvr.generator.validate", "star_tvr.generator.splits", "rich.table"),
    *("star_tvr.generator.stats", "star_tvr.training.metric_tables", "rich.progress"),
    *("rich._spinners", "star_tvr.generator.plan_files", "star_tvr.schemas.card"),
)
PAGES = ("matplotlib.pyplot", "star_tvr.generator.gallery", "star_tvr.training.report", "pyarrow")
ASKING = ("openai", "httpx2", "star_tvr.training.endpoint_backend", "star_tvr.training.evaluate")
MODELS = ("torch", "transformers", "peft", "trl", "datasets", "star_tvr.training.sft")

KINDS: dict[str, Kind] = {
    "sample": Kind(
        [f"{SAMPLES}sample.json"],
        _document,
        [*[VALIDATE] * 6, AGAINST, ANEW, STATS, VIEW, SPLIT_IT, *EXPORTS],
        wrong=_wrong_sample,
        weight=20,
        libraries=(*PAGES, "datasets", "h5py"),
    ),
    "manifest": Kind(
        ["data/dataset.json"],
        _document,
        [VALIDATE, STATS, VIEW, SPLIT_IT, GO_ON, SCORE, *EXPORTS[:3]],
        needs=("data", "predictions.jsonl"),
        wrong=_wrong_json,
        weight=8,
        libraries=(*PAGES, "datasets"),
    ),
    "split": Kind(
        ["data/splits/cross-view/*"],
        _any,
        [*[VALIDATE] * 3, SCORE, EXPORTS[2], VIEW],
        needs=("data", "predictions.jsonl"),
        wrong=lambda *a: "" if a[1].endswith("scheme.json") else _wrong_split(*a),
        weight=8,
        libraries=PAGES,
    ),
    "card": Kind(
        ["data/blind.json", "data/README.md", "data/.lock"],
        _any,
        [VALIDATE, SPLIT_IT, GO_ON, EXPORTS[0], REPORT],
        needs=("data", "run"),
        weight=2,
        libraries=(*PAGES, "datasets"),
    ),
    "completions": Kind(
        ["logged/completions/*.parquet"],
        _table,
        [Command("report logged --out out/page.html")],
        needs=("logged",),
        weight=1,
        libraries=PAGES,
    ),
    "plans": Kind(
        ["plans.jsonl", "data/plans/*.jsonl"],
        _lines,
        [Command("render data --from plans.jsonl", ["data"]), PLAN],
        needs=("data", "plans.jsonl"),
        weight=6,
    ),
    "predictions": Kind(
        ["predictions.jsonl"],
        _lines,
        [*[SCORE] * 3, Command("view data --predictions predictions.jsonl --out out/page.html")],
        wrong=_wrong_predictions,
        weight=10,
        libraries=PAGES,
    ),
    "config": Kind(
        ["config.yaml"],
        _yaml,
        [
            Command(
                "render out --config config.yaml --plan-only --num-samples 1 --workers 1 "
                "--set tries=10"
            )
        ],
        weight=5,
    ),
    "training": Kind(
        ["sft.yaml", "grpo.yaml"],
        _yaml,
        [Command("train {stem} {path} --set split=cross-view/absent", ["run"])],
        needs=("data", "model"),
        wrong=lambda *a: "there is no such split",
        weight=2,
        libraries=MODELS,
    ),
    "trance-hdf5": Kind(
        ["trance-hdf5/data.h5"],
        _hdf5,
        [
            Command("import-trance trance-hdf5 out"),
            Command("import-trance trance-hdf5 out --strict"),
        ],
        needs=("trance-hdf5",),
        weight=8,
        libraries=("h5py", "star_tvr.generator.import_trance"),
    ),
    "trance-json": Kind(
        ["trance-json/info/*.json", "trance-jsonl/data.jsonl", "trance-hdf5/properties.json"],
        _any,
        [Command("import-trance {folder} out"), Command("import-trance {folder} out --strict")],
        needs=(),
        weight=6,
        libraries=("h5py", "star_tvr.generator.import_trance"),
    ),
    "parquet": Kind(
        ["parquet/data/*/*.parquet"],
        _bytes,
        [Command(ASK.words.replace("evaluate data", "evaluate parquet"))],
        needs=("parquet", "reply.http"),
        weight=5,
        libraries=(*ASKING, "datasets", "pyarrow.parquet"),
    ),
    "png": Kind(
        [f"{SAMPLES}*.png"],
        _picture,
        [*[VALIDATE] * 3, ASK, EXPORTS[0], EXPORTS[2], VIEW],
        needs=("data", "reply.http"),
        wrong=_wrong_picture,
        weight=10,
        libraries=(*PAGES, *ASKING, "datasets"),
    ),
    "exr": Kind(
        ["depth.exr"],
        _bytes,
        [Command("read_layers depth.exr")],
        needs=(),
        weight=3,
        libraries=("OpenEXR", "star_tvr.generator.frames"),
    ),
    "run": Kind(
        ["run/*.json*", "run/config.yaml", "run/ood/*", "run/checkpoint-1/*"],
        _any,
        [
            *[REPORT] * 3,
            Command(f"{EVALUATE} --model model --adapter run --device cpu --out run/ood", ["run"]),
            Command("train sft sft.yaml", ["run"]),
            Command("train sft sft.yaml --set max_steps=2", ["run"]),
        ],
        needs=("data", "run", "model", "sft.yaml"),
        weight=1,
        libraries=(*PAGES, *MODELS, *ASKING),
    ),
    "model": Kind(
        ["model/*"],
        _any,
        [LOCAL],
        needs=("data", "model"),
        wrong=_wrong_weights,
        weight=1,
        libraries=(*MODELS, *ASKING),
    ),
    "adapter": Kind(
        ["adapter/*.json", "adapter/*.safetensors"],
        _any,
        [ADAPTED],
        needs=("data", "model", "adapter"),
        wrong=_wrong_weights,
        weight=1,
        libraries=(*MODELS, *ASKING),
    ),
    "code": Kind(
        ["model/*", "adapter/*", "run/*"],
        needs=("data", "model", "adapter", "run", "sft.yaml"),
        libraries=(*PAGES, *MODELS, *ASKING),
        fixed=CODE,
    ),
    "server": Kind(["reply.http"], _reply, [ASK], weight=6, libraries=ASKING),
    "links": Kind(
        [
            f"{SAMPLES}*",
            "data/samples/*/*",
            "data/samples",
            "data/*.json",
            "data/*/*",
            "data/*/*/*",
        ],
        _replaced,
        [VALIDATE, VALIDATE, STATS, EXPORTS[2], SPLIT_IT, PLAN, GO_ON, ASK],
        needs=("data", "reply.http"),
        wrong=_wrong_replaced,
        weight=5,
        libraries=(*PAGES, *ASKING),
    ),
    "pages": Kind(
        ["predictions.jsonl", f"{SAMPLES}sample.json", "data/dataset.json", "run/*.json*"]
        + ["run/config.yaml", "run/ood/*"],
        _markup,
        [Command("view data --predictions predictions.jsonl --out out/page.html"), REPORT],
        needs=("data", "run", "predictions.jsonl", "model"),
        weight=1,
        libraries=(*PAGES, *MODELS),
    ),
}


def make_case(kind: str, seed: int, number: int, originals: Path) -> Case:
    """Input `number` of a kind: the same for the same arguments."""
    rng = random.Random(f"{kind} {seed} {number}")
    this = KINDS[kind]
    name = f"{kind} {seed} {number}"
    if this.fixed:
        command, changes = this.fixed[number % len(this.fixed)]
        return Case(name, this.needs, command.words.split(), changes, command.writes)
    files = sorted({p for pattern in this.files for p in originals.glob(pattern)})
    file = rng.choice(files)
    path = str(file.relative_to(originals))
    content = file.read_bytes() if file.is_file() else b""
    command = rng.choice(this.commands)
    words = command.words.format(
        stem=file.stem, path=path, folder=path.partition("/")[0], url="{url}"
    )
    change = this.mutate(rng, file, content)
    if change == content:
        change = content + b"\x00"
    return Case(
        name,
        sorted({*this.needs, path.partition("/")[0]}),
        words.split(),
        {path: change},
        command.writes,
        this.wrong(words, path, content, change),
    )
