"""The command line: reads arguments, calls one function, prints what it returns."""

from star_tvr.commands import startup

# isort: split

import json
import os
import signal
import sys
import traceback
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from star_tvr.commands.output import console, echo, open_streams, progress, show, write
from star_tvr.extras import EXTRAS, require
from star_tvr.scenes.errors import ParameterError, TvrError, printable

if TYPE_CHECKING:
    from star_tvr.generator.blender_process import WorkerOptions
    from star_tvr.generator.executors import Work
    from star_tvr.generator.gallery import ScoredAnswer
    from star_tvr.generator.render import RenderRequest
    from star_tvr.schemas.dataset import Dataset
    from star_tvr.schemas.records import Pair

app = typer.Typer(
    name="tvr",
    help="Render transformation-driven visual reasoning data with Blender, and train on it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
train = typer.Typer(help="Train a vision-language model on a data set.", no_args_is_help=True)
app.add_typer(train, name="train")

T = TypeVar("T")

INTERRUPTED = 130
"""The exit status after Ctrl-C, which Typer turns into this number."""

TERMINATED = 128 + signal.SIGTERM
"""The exit status after SIGTERM, which batch systems, systemd and `timeout` send."""


OPTION_NAMES = {
    "angles": "angle",
    "attributes": "attribute",
    "overrides": "set",
    "plans": "from",
    "proportions": "proportion",
    "splits": "split",
    "url": "endpoint",
}
"""Options that have another name than the parameter that they set."""

RENAMED = {"token_normalize_func": lambda name: OPTION_NAMES.get(name, name)}
"""Settings of commands whose options once had the name of the parameter, which still works."""

Device = Literal["auto", "cpu", "optix", "cuda", "hip", "oneapi", "metal"]
Executor = Literal["local", "ray"]
ExportFormat = Literal[
    "parquet", "webdataset", "sharegpt", "vlm-r1", "reason-rft", "trance", "verl"
]
Quality = Literal["draft", "standard", "trance"]
Scheme = Literal["cross-view", "view-angle", "objects", "compositional", "random"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")]
AnyDataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET", help="A folder, its export in parquet, or hf://datasets/OWNER/NAME."
    ),
]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Render transformation-driven visual reasoning data with Blender, and train on it."""


@app.command()
def render(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set.")],
    config: Annotated[
        str | None,
        typer.Option(help="A preset or a YAML file; by default that of OUT, or star."),
    ] = None,
    set_: Overrides = None,
    quality: Annotated[Quality | None, typer.Option(help="Same as render.quality=Q.")] = None,
    num_samples: Annotated[int | None, typer.Option(min=1, help="Same as num_samples=N.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same as seed=S.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Blender processes; by default, all cores at work.")
    ] = None,
    device: Annotated[Device, typer.Option(help="What Cycles renders on.")] = "auto",
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Render only part I of N, I from 0 to N-1.")
    ] = "0/1",
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Render only this sample; repeatable.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make again what is there, each sample after its JSON.")
    ] = False,
    plans: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Render a sample.json, or plans/*.jsonl."),
    ] = None,
    keep_blend: Annotated[
        bool, typer.Option("--keep-blend", help="Keep Blender's file beside every image.")
    ] = False,
    reproducible: Annotated[
        bool | None,
        typer.Option(
            "--reproducible/--no-reproducible",
            help="Same bytes on every run; by default where the platform allows it.",
        ),
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Longest time for one sample.")
    ] = 3600,
    max_memory: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="Replace a process that holds more.")
    ] = 4096,
    executor: Annotated[Executor, typer.Option(help="Here, or on a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster; auto for that of this machine.")
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Write plans/*.jsonl and render nothing.")
    ] = False,
    ahead: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Serve trainings that use samples up: stay N samples ahead of them.",
        ),
    ] = None,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> None:
    """Render a data set, or whatever of it is missing."""
    from star_tvr.commands.options import parse_only, parse_shard
    from star_tvr.generator.blender import available_cores
    from star_tvr.generator.blender_process import WorkerOptions
    from star_tvr.generator.dataset_writer import write_manifest
    from star_tvr.generator.executors import choose_executor, choose_work
    from star_tvr.generator.plan_files import write_plans
    from star_tvr.generator.render import RenderRequest, lock_samples
    from star_tvr.scenes.errors import ConfigError
    from star_tvr.schemas.card import write_card

    run = choose_executor(executor, address)
    if plan_only and plans is not None:
        raise ConfigError("--from: these are plans already; leave out --plan-only")
    if not plan_only:
        require("tvr render", "bpy", "OpenEXR", *(["ray"] if executor == "ray" else []))
    first = [f"render.quality={quality}"] if quality is not None else []
    last = [f"{k}={v}" for k, v in (("num_samples", num_samples), ("seed", seed)) if v is not None]
    overrides = [*first, *(set_ or []), *last]
    options = WorkerOptions(device, deadline, max_memory, reproducible, keep_blend)
    part, samples = parse_shard(shard), parse_only(only) if only else None
    asked = RenderRequest(out, config, overrides, part, samples, plans, force)
    if ahead is not None:
        fixed: dict[str, object] = {
            "--num-samples": num_samples,
            "--shard": part.count > 1,
            "--only": only,
        }
        fixed |= {"--force": force, "--from": plans, "--plan-only": plan_only}
        if wrong := next((name for name, value in fixed.items() if value), None):
            raise ConfigError(f"{wrong}: does not go with --ahead: trainings say what they need")
        _serve(asked, choose_work(executor, address), ahead, workers, options, attached)
        return
    resolved, jobs, total = asked.resolve()
    if other := asked.changes(resolved):
        told = ", ".join(
            f"{key}={json.dumps(now)} (was {json.dumps(was)})" for key, (was, now) in other.items()
        )
        echo(f"--from {plans}: not as it was made: {told}", error=True)
    numbers = asked.indices(resolved) if plan_only else [job.index for job in jobs]
    with lock_samples(out, numbers, force):
        if plan_only or not jobs:
            write_manifest(out, resolved)
        if plan_only:
            blocks = write_plans(out, resolved, numbers, workers or available_cores(), force)
            for _ in progress(blocks, "planning", len(numbers)):
                pass
            echo(f"{out}/plans: {len(numbers)} plans")
            return
        if keep_blend and not jobs:
            words = "all samples are there and stay as they are; --force makes them again"
            echo(f"--keep-blend: {words}", error=True)
        made = run(out, resolved, jobs, workers, options)
        count = frames = 0
        work = progress(made, "rendering", len(jobs), total - len(jobs), frames=lambda m: m.frames)
        for sample in work:
            count += 1
            frames += sample.frames
            if count == 1 and sample.memory > max_memory:  # its process made no other sample
                echo(
                    f"--max-memory {max_memory}: a process holds {sample.memory} MiB after its "
                    f"first sample, so every sample waits for a new Blender; raise it",
                    error=True,
                )
        echo(f"{out}: {count} samples rendered ({frames} frames), {total} there")
        # Last: an older sample that is damaged fails this, not the rendering.
        write_card(_open(out))


def _serve(
    asked: "RenderRequest",
    work: "Work",
    ahead: int,
    workers: int | None,
    options: "WorkerOptions",
    attached: bool,
) -> None:
    """Render for trainings until somebody stops it."""
    from star_tvr.generator import render_ahead as rendering

    if attached:
        rendering.stop_with_stdin()
    made = rendering.render_ahead(
        asked.out,
        asked.configuration(),
        work,
        ahead,
        workers,
        options,
        patience=30 if attached else 0,
    )
    for count, _ in enumerate(made, start=1):
        if count % 100 == 0:
            echo(f"{asked.out}: {count} samples rendered", error=True)


@app.command(context_settings=RENAMED)
def split(
    dataset: DatasetFolder,
    scheme: Annotated[Scheme, typer.Option(help="What the splits differ in.")] = "cross-view",
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other scenes.")] = 0,
    proportions: Annotated[
        list[str] | None,
        typer.Option(
            "--proportion",
            metavar="NAME=N",
            help="A share (val=0.1) or number (val=200) of scenes; repeatable.",
        ),
    ] = None,
    angles: Annotated[
        list[str] | None,
        typer.Option(
            "--angle", metavar="A", help="view-angle: degrees between two bins; repeatable."
        ),
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="objects: the most objects in training.")
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute", metavar="NAME", help="compositional: what is combined; give two."
        ),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(metavar="A+B", help="compositional: such as cube+red; repeatable."),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="cross-view: test_id and test_ood have the same scenes."),
    ] = False,
    by_difficulty: Annotated[
        bool, typer.Option("--by-difficulty", help="Easy pairs first, instead of by sample.")
    ] = False,
) -> None:
    """Write splits/<scheme>/<split>.jsonl; no scene is in two splits, but by --paired."""
    from star_tvr.commands.options import parse_split
    from star_tvr.generator import splits

    options = parse_split(
        scheme, seed, proportions, angles, max_objects, attributes, hold_out, paired
    )
    opened = _open(dataset)
    scenes = progress(splits.read_scenes(opened), "reading", len(opened.ids()), last=False)
    division = splits.divide(scenes, opened.world, options, str(dataset))
    splits.write(opened, division, by_difficulty)
    for name, pairs in division.splits.items():
        count = len({r.pair.sample for r in pairs})
        echo(f"{dataset}/splits/{scheme}/{name}.jsonl: {len(pairs)} pairs of {count} scenes")
    for line in division.remarks():
        echo(line)


@app.command()
def validate(
    dataset: DatasetFolder,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Judge by the pixels what the labels say.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    against: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Also look for scenes and answers that both share."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON lines.")] = False,
) -> None:
    """Check files, schemas, rules and labels; ends with 1 if anything is wrong."""
    from star_tvr.generator.contamination import shared_content
    from star_tvr.generator.validate import validate as check

    opened = _open(dataset)
    wrong = checked = 0
    results = check(opened, pixels, min(workers, 1 + len(opened.ids()) // 50))
    others = [_open(against)] if against else []
    results = chain(results, (("", shared_content(opened, other)) for other in others))
    rendered = len(opened.ids())
    total = (rendered or opened.manifest.counts["samples"]) + 2 + len(others)
    for name, findings in progress(results, "validating", total):
        wrong, checked = wrong + len(findings), checked + name.isdigit()
        for finding in findings:
            echo(json.dumps(finding.to_json()) if as_json else finding)
    if not as_json:
        what = "samples" if rendered or not checked else "plans"
        echo(f"{dataset}: {checked} {what} checked, {wrong} findings")
    if wrong:
        raise typer.Exit(1)


@app.command()
def stats(
    dataset: AnyDataset,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for figures.")] = None,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Also learn to answer without pictures; goes into the card."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """How balanced a data set is, what its pictures show, and what trivial answers score."""
    from star_tvr.generator import stats as measuring
    from star_tvr.generator.plan_files import samples_or_plans
    from star_tvr.training import baselines
    from star_tvr.training.blind import blind_baseline, blind_table, write_blind

    if out is not None:
        require("tvr stats --out", "matplotlib")
    if blind:
        require("tvr stats --blind", "sklearn")
    opened = _open_any(dataset)
    if blind and not opened.has_files:
        message = "is stored in the folder of a data set; an export has no place for it"
        raise ParameterError("blind", message)
    accumulator = measuring.StatsAccumulator(opened)
    plans = []
    total = opened.manifest.counts["samples"]
    for sample in progress(samples_or_plans(opened), "reading", total, last=False):
        accumulator.update(sample)
        plans.append(sample.plan)
    found = accumulator.compute()
    attributes = opened.config.transformations.attributes
    chance = baselines.baselines(plans, opened.world, attributes)
    learnt = blind_baseline(plans, opened.config) if blind else None
    if as_json:
        document = {"trivial_answers": {b.name: b.to_json() for b in chance}}
        document |= {"blind": learnt.to_json()} if learnt else {}
        echo(json.dumps({**found.to_json(), **document}, indent=1))
    else:
        tables = [blind_table(learnt)] if learnt else []
        show(*measuring.tables(found), baselines.table(chance), *tables)
    if learnt:
        write_blind(opened, learnt)
    if out is not None:
        names = measuring.save_figures(found, out)
        echo(f"{out}: {', '.join(names)}", error=as_json)


@app.command()
def view(
    dataset: AnyDataset,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default DATASET/gallery.html.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show these predictions, marked.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show the first N samples.")] = 1000,
) -> None:
    """One HTML file to look at the samples with: filters, slider, masks, answers in words."""
    from star_tvr.generator import gallery

    require("tvr view", "matplotlib")
    opened = _open_any(dataset)
    said: dict[Pair, ScoredAnswer] = {}
    if predictions is not None:
        from star_tvr.training.metrics_report import score_file
        from star_tvr.training.report.answer_gallery import judge

        report = score_file(predictions, opened)
        said = {r.pair: judge("", r.completion, r.truth, r.right) for r in report.results}
    place = dataset if dataset.is_dir() else Path()  # the hub's are in a cache
    page = gallery.Gallery(opened, out or place / "gallery.html", said)
    shown = page.choose(limit)
    for sample in progress(map(opened.sample, shown), "reading", len(shown), last=False):
        page.add(sample)
    echo(page.write())


@app.command()
def export(
    dataset: DatasetFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    format: Annotated[ExportFormat, typer.Option(help="Of which program.")],
    splits: Annotated[
        list[str] | None, typer.Option("--split", metavar="S/NAME", help="Only this; repeatable.")
    ] = None,
) -> None:
    """Write a data set in another program's form."""
    from star_tvr.training.exports.export_dataset import prepare_export

    if format in ("parquet", "verl"):
        require(f"tvr export --format {format}", "datasets")
    work = prepare_export(_open(dataset), out, format, splits or [])
    done = sum(1 for _ in progress(work.items, "exporting", work.total))
    echo(f"{out}: {done} pairs as {format}")


@app.command("import-trance", context_settings=RENAMED)
def import_trance(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="TRANCE: a folder, or its data.h5.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set.")],
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME",
            help="Only samples that change nothing but this; repeatable.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave out samples that break one of our rules.")
    ] = False,
) -> None:
    """Make a data set of published TRANCE; ends with 1 if a sample of it is damaged."""
    from collections import Counter

    from star_tvr.commands.options import parse_names
    from star_tvr.generator.import_trance import prepare_import

    importer = prepare_import(src, out, parse_names(attributes or []), strict)
    kinds: Counter[str] = Counter()
    for outcome in progress(importer.run(), "importing", importer.total):
        kinds[outcome.kind] += 1
        if outcome.message:
            echo(f"left out: {outcome.message}", error=True)
    echo(f"{out}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    for rule, number in sorted(importer.rules.items()):
        echo(f"{number} of them break our rule {rule}")
    if kinds["damaged"]:
        raise typer.Exit(1)


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS.jsonl")],
    dataset: AnyDataset,
    splits: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="S/NAME", help="Such as cross-view/test_id; repeatable."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="OTHER.jsonl", help="Compare with these predictions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """All metrics of anybody's predictions, with 95 % intervals."""
    from star_tvr.training.comparison import score_files
    from star_tvr.training.metric_tables import score_tables

    report, comparison = score_files(predictions, _open_any(dataset), splits, against)
    if as_json:
        echo(json.dumps((comparison or report).to_json(), indent=1))
    else:
        show(*score_tables(report, comparison))


TrainConfig = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file.")]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="Work out tokens, steps and memory, without a GPU; train nothing."
    ),
]
Gpus = Annotated[int | None, typer.Option(min=1, help="With --check: GPUs that train together.")]
Launcher = Annotated[
    Path | None,
    typer.Option("--accelerate", metavar="FILE", help="With --check: accelerate's configuration."),
]
AsJson = Annotated[bool, typer.Option("--json", help="With --check: print it as JSON.")]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="FILE.py|MODULE",
        help="Run this first: it registers a class of models of yours; repeatable.",
    ),
]


@train.command("sft")
def train_sft(
    config: TrainConfig,
    set_: Overrides = None,
    check: Check = False,
    gpus: Gpus = None,
    accelerate: Launcher = None,
    as_json: AsJson = False,
) -> None:
    """Supervised fine-tuning on the answers."""
    from star_tvr.training import sft

    if check:
        _check_training("sft", config, set_ or [], gpus, accelerate, as_json)
    else:
        echo(sft.run(config, set_ or []))


@train.command("grpo")
def train_grpo(
    config: TrainConfig,
    set_: Overrides = None,
    check: Check = False,
    gpus: Gpus = None,
    accelerate: Launcher = None,
    as_json: AsJson = False,
) -> None:
    """Reinforcement learning with the STAR reward."""
    from star_tvr.training import grpo

    if check:
        _check_training("grpo", config, set_ or [], gpus, accelerate, as_json)
    else:
        echo(grpo.run(config, set_ or []))


def _check_training(
    kind: Literal["sft", "grpo"],
    config: str,
    overrides: list[str],
    gpus: int | None,
    launcher: Path | None,
    as_json: bool,
) -> None:
    require("tvr train", "torch", "trl", "peft")
    from star_tvr.training.plan_tables import plan_tables
    from star_tvr.training.run_plan import plan_runs

    plans = plan_runs(kind, config, overrides, gpus, launcher)
    if as_json:
        echo(json.dumps([plan.to_json() for plan in plans], indent=1))
    else:
        for plan in plans:
            show(*plan_tables(plan))


@app.command()
def evaluate(
    dataset: AnyDataset,
    splits: Annotated[
        list[str],
        typer.Option("--split", metavar="S/NAME", help="Such as cross-view/test_ood; repeatable."),
    ],
    model: Annotated[
        str, typer.Option(help="A model folder or a hub name; its name at the endpoint.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for predictions and metrics.")],
    adapter: Annotated[str | None, typer.Option(help="A LoRA adapter for the model.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask only so many questions; may be raised later.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN|KEY=VALUE",
            help="Word the question as this training run does, or change one key of prompt; "
            "repeatable. By default as in the model's own training.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest answer; by default that of its training, or 512."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0, greedy, by default; an endpoint gets it only if set."),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Answers to each question.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of sampling; an endpoint gets it only if set.")
    ] = None,
    shuffle_images: Annotated[
        bool,
        typer.Option(
            "--shuffle-images", help="A control: every question with the images of another one."
        ),
    ] = False,
    exchange_images: Annotated[bool, typer.Option("--exchange-images", hidden=True)] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 8,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or another of PyTorch.")
    ] = "auto",
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Ask the hub for a model that is not here.")
    ] = False,
    import_: Imports = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible server, such as http://localhost:8000/v1; its key is "
            "taken from OPENAI_API_KEY.",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the endpoint at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 120,
    retries: Annotated[int, typer.Option(min=0, help="Further tries at a question.")] = 5,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many requests, retries included.")
    ] = None,
    reasoning_effort: Annotated[
        str | None, typer.Option(metavar="WORD", help="For the endpoint, such as low or high.")
    ] = None,
    extra_body: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="More keys for every request, such as '{\"top_k\": -1}'; null leaves one out. "
            "They are written into evaluation.json.",
        ),
    ] = None,
) -> None:
    """Let a model answer a split, and score it; goes on where it was interrupted."""
    from star_tvr.commands.options import parse_object
    from star_tvr.schemas.locks import lock_folder
    from star_tvr.training import evaluate as evaluation
    from star_tvr.training.backends import Decoding
    from star_tvr.training.metric_tables import evaluation_tables

    if import_ and endpoint is not None:
        message = "does not go with an endpoint; the server has to know the model"
        raise ParameterError("import", message, import_[0])
    _import_modules(import_)
    backend = evaluation.choose_backend(
        model,
        adapter,
        batch_size,
        device,
        allow_download,
        endpoint,
        concurrency,
        timeout,
        retries,
        max_requests,
        None if extra_body is None else parse_object("extra_body", extra_body),
        reasoning_effort,
        next(filter(evaluation.is_run, reversed(prompt or [])), None),
    )
    decoding = Decoding(max_new_tokens, temperature, num_samples, seed)
    shuffled = shuffle_images or exchange_images
    wording = evaluation.choose_prompt(prompt, backend.trained().prompt) if prompt else None
    with lock_folder(out):
        session = evaluation.prepare(
            dataset, splits, backend, out, decoding, wording, shuffled, limit
        )
        left = len(session.left)
        for response in progress(session.answers(), "evaluating", left, done=session.done):
            if response.completion is None:
                echo(f"{response.question}: not answered: {response.problem}", error=True)
        metrics = session.score()
        show(*evaluation_tables(metrics))
    if remark := session.remark(metrics):
        echo(remark, error=True)
    echo(f"{out}: predictions.jsonl, metrics.json")


@app.command()
def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a checkpoint in it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    model: Annotated[
        str | None, typer.Option(help="The base, if it is not where the run had it.")
    ] = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Ask the hub for a base that is not here.")
    ] = False,
    import_: Imports = None,
) -> None:
    """Add a run's adapter to the weights of its base: a model that opens anywhere."""
    require("tvr merge", "torch", "transformers", "peft")
    from star_tvr.training.merge import merge as merge_run

    _import_modules(import_)
    echo(merge_run(run, out, model, allow_download))


def _import_modules(names: list[str] | None) -> None:
    from star_tvr.training.user_code import load_module

    for name in names or []:
        load_module("--import", name)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Training runs and evaluations.")],
    out: Annotated[Path | None, typer.Option(help="By default RUN/report.html.")] = None,
) -> None:
    """An HTML page with curves, metric tables and a gallery of failures."""
    require("tvr report", "matplotlib", "pyarrow")
    from star_tvr.training import report as page

    echo(page.run(run, out))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """What this machine can do; ends with 1 if it cannot render or cannot train."""
    from star_tvr.generator import doctor as examination

    findings = examination.check_system()
    if as_json:
        echo(json.dumps(findings.to_json(), indent=1))
    else:
        with console() as output:
            examination.show(findings, output)
    if not findings.ok:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for everything.")] = Path(
        "demo"
    ),
) -> None:
    """The whole way, small: render, split, validate, train, evaluate, report."""
    from star_tvr.commands.demo import run

    require("tvr demo", "bpy", "OpenEXR", "torch", "trl", "peft", "matplotlib")
    run(out)


def _open(folder: Path) -> "Dataset":
    from star_tvr.schemas.dataset import Dataset

    return Dataset.open(folder)


def _open_any(folder: Path) -> "Dataset":
    from star_tvr.training.parquet_dataset import open_dataset

    return open_dataset(folder)


def _terminate(number: int, _frame: object) -> None:
    """End as after Ctrl-C: whatever is to be cleaned up is, on the way out of the command."""
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice
    sys.exit(TERMINATED)


def _run(arguments: list[str]) -> Any:
    """Run a command. For want of a package that an extra brings, it says so."""
    try:
        return app(arguments, standalone_mode=False)
    except OSError as problem:
        if problem.filename is None:
            write("", sys.stdout)  # where --help could not be written, this says so
        raise
    except ModuleNotFoundError as problem:
        name = (problem.name or "").partition(".")[0]
        if name in EXTRAS:
            require(" ".join(["tvr", *arguments[:1]]), name)
        raise


def _message(problem: TvrError) -> str:
    """What an error says, with the option in the place of the parameter that it sets."""
    if not isinstance(problem, ParameterError):
        return str(problem)
    shown = "--" + OPTION_NAMES.get(problem.parameter, problem.parameter).replace("_", "-")
    if isinstance(problem.value, list | tuple):
        shown += " " + ",".join(map(str, problem.value))
    elif problem.value is not None:
        shown += f" {problem.value}"
    return f"{shown}: {problem.message}"


def main(arguments: list[str] | None = None) -> None:
    """The `tvr` command. Errors that a user can mend are one line on stderr."""
    open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    status: Any = 0
    try:
        signal.signal(signal.SIGTERM, _terminate)
        status = _status([a for a in given if a != "--debug"], "--debug" in given)
        if status in (INTERRUPTED, TERMINATED):
            echo(startup.STOPPED, error=True)
    except KeyboardInterrupt:  # while an error was shown
        status = INTERRUPTED
    except SystemExit as end:  # nobody reads what is shown
        status = end.code
    # From here on Python only puts itself away.
    signal.signal(signal.SIGINT, startup.leave)
    sys.exit(status if isinstance(status, int) else 0)


def _status(arguments: list[str], debug: bool) -> Any:
    """Run a command, show its error if there is one, and return the exit status."""
    try:
        status = _run(arguments)
        write("", sys.stdout)  # --help is not flushed yet
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        # Ray changes the code of ours on its way; ours is the one after which SIGTERM is ignored.
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        return TERMINATED if ours else end.code
    except Exception as problem:
        if debug:
            traceback.print_exc()
        message, status = _describe(problem)
    echo(f"error: {printable(message)}", error=True)
    return status


def _describe(problem: Exception) -> tuple[str, int]:
    """What an error is called on the terminal, and the exit status."""
    if isinstance(problem, TvrError):
        return _message(problem), problem.exit_status
    if isinstance(problem, typer.TyperException):
        message = " ".join(problem.format_message().split()).rstrip(".")
        return message.replace(": Value error, ", ": ") + "; see --help", 2
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}; mend that and run again", 1
    # A fault of ours, or of the system: no traceback unasked.
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}; --debug says more", 1


startup.loaded()

if __name__ == "__main__":
    main()
