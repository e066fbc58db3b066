"""Training and evaluating from an export in parquet: same rows and results as from the folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.records import PAIR_KEYS, Pair
from star_tvr.training import callbacks, evaluate, grpo, report, sft
from star_tvr.training.backends import Decoding
from star_tvr.training.checks import check_config
from star_tvr.training.config import PromptConfig, RowsConfig, TraceConfig, load_train_config
from star_tvr.training.exports import parquet_writer
from star_tvr.training.exports.export_dataset import export_dataset
from star_tvr.training.local_backend import LocalModel
from star_tvr.training.metrics_report import score_file
from star_tvr.training.parquet_dataset import MANIFEST, SAMPLE, ParquetDataset, open_dataset
from star_tvr.training.rows import RowReader
from star_tvr.training.training_rows import build_rows, stream_rows
from star_tvr.tvr import main
from tests.training.conftest import read_log
from tests.training.discs import TRAIN

SPLIT = "cross-view/train"
VARIED = RowsConfig(shuffle_objects=True, mirror=True, reverse=True)


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory) -> Path:
    """The small data set in parquet, in several files of several groups."""
    root = tmp_path_factory.mktemp("exports") / "discs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_writer, "ROWS_PER_GROUP", 2)
        patch.setattr(parquet_writer, "ROWS_PER_FILE", 4)
        assert sum(1 for _ in export_dataset(dataset, root, "parquet")) > TRAIN
    return root


@pytest.fixture
def copy(exported, tmp_path) -> Path:
    """A copy of the export that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


PLAIN = RowsConfig()


def reader_of(dataset, rows=PLAIN):
    return RowReader(dataset, PromptConfig(), TraceConfig(style="trace", boxes=True), rows, seed=3)


# --- Rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [SPLIT, "cross-view/test_ood"])
def test_rows_are_those_of_the_folder(dataset, exported, split):
    opened = open_dataset(exported, split)
    assert opened.split_names() == dataset.split_names()
    assert opened.split(split) == dataset.split(split)
    assert (opened.world, opened.config) == (dataset.world, dataset.config)
    for rows in (RowsConfig(), VARIED):
        folder, parquet = reader_of(dataset, rows), reader_of(opened, rows)
        for pair in dataset.split(split):
            for epoch in range(3):
                assert parquet.row(pair, epoch) == folder.row(pair, epoch)
                assert parquet.facts(pair, epoch) == folder.facts(pair, epoch)


def test_a_split_may_say_how_hard_its_pairs_are(dataset, tmp_path):
    source = type(dataset).open(shutil.copytree(dataset.root, tmp_path / "source"))
    pairs = source.split(SPLIT)
    source.write_split("own/rated", pairs, {pair: k / 10 for k, pair in enumerate(pairs)})
    for _ in export_dataset(source, tmp_path / "out", "parquet", ["own/rated"]):
        pass
    opened = open_dataset(tmp_path / "out", "own/rated")
    assert opened.difficulties("own/rated") == source.difficulties("own/rated")


def test_the_order_is_that_of_the_folder(dataset, exported):
    opened = open_dataset(exported, SPLIT)
    orders = [
        build_rows(reader_of(source), source.split(SPLIT), "random", 2 * TRAIN)
        for source in (dataset, opened)
    ]
    names = [list(table.with_format(None)["sample"]) for table in orders]
    assert names[0] == names[1]
    assert orders[0][7] == orders[1][7]


@pytest.mark.parametrize("order", ["stored", "random"])
def test_a_stream_has_every_row_in_every_epoch(dataset, exported, order):
    rows = VARIED.model_copy(update={"order": order, "streaming": True})
    reader = reader_of(open_dataset(exported, SPLIT), rows)
    streamed = list(stream_rows(reader, 2 * TRAIN + 2))
    assert len(streamed) == 2 * TRAIN + 2
    folder = reader_of(dataset, rows)
    for row in streamed:
        pair = Pair(row["sample"], row["initial"], row["final"])
        assert row == folder.row(pair, row["epoch"])
    assert [row["epoch"] for row in streamed] == [0] * TRAIN + [1] * TRAIN + [2] * 2
    names = [row["sample"] for row in streamed]
    epochs = [names[:TRAIN], names[TRAIN : 2 * TRAIN]]
    stored = [pair.sample for pair in dataset.split(SPLIT)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(stored)
    assert (epochs == [stored, stored]) == (order == "stored")
    assert order == "stored" or epochs[0] != epochs[1]
    again = reader_of(open_dataset(exported, SPLIT), rows)
    assert [row["sample"] for row in stream_rows(again, TRAIN)] == epochs[0]


def test_a_row_needs_one_group_of_each_column(exported):
    opened = open_dataset(exported, SPLIT)
    assert isinstance(opened, ParquetDataset)
    for path in opened.files:
        assert [pyarrow.parquet.ParquetFile(path).metadata.row_group(0).num_rows] == [2]


# --- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "cross-view/tran"}, "split: there is no cross-view/tran .known: cross-view/"),
        ({"rows": {"views": "all"}}, "rows.views: .* is an export, which holds the split's own"),
        ({"rows": {"streaming": True}}, "max_steps: is needed with rows.streaming"),
        (
            {"rows": {"streaming": True, "order": "easy-first"}, "max_steps": 1},
            "rows.order: easy-first needs all rows at once",
        ),
        (
            {
                "rows": {"streaming": True},
                "max_steps": 1,
                "reward": {"extra": {"reference": 1}},
            },
            "reward.extra.reference: looks at the scenes again",
        ),
    ],
)
def test_what_an_export_cannot_give_is_refused(write_config, exported, values, message):
    path = write_config(dataset=str(exported), **values)
    with pytest.raises(ConfigError, match=message) as info:
        check_config(load_train_config("grpo", path))
    assert str(info.value).startswith(f"{path}: ") and "\n" not in str(info.value)


def test_a_folder_is_no_stream(write_config):
    path = write_config(rows={"streaming": True}, max_steps=1)
    with pytest.raises(ConfigError, match="rows.streaming: .* is a folder, whose files are read"):
        check_config(load_train_config("grpo", path))


def damaged(path, change):
    """Write a file of an export again, changed."""
    table = pyarrow.parquet.read_table(path)
    metadata = dict(table.schema.metadata)
    pyarrow.parquet.write_table(change(table, metadata), path)


def newer(table, metadata):
    manifest = json.loads(metadata[MANIFEST]) | {"schema_version": 99}
    return table.replace_schema_metadata({**metadata, MANIFEST: json.dumps(manifest)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.drop_columns([SAMPLE]), "has no column sample_json; make the export again"),
        (lambda t, _: t.drop_columns(["final_image"]), "has no column final_image"),
        (lambda t, _: t.replace_schema_metadata({}), "does not say what data set it is from"),
        (newer, "schema_version 99 is newer than this program reads"),
    ],
)
def test_another_kind_of_parquet_is_refused(copy, change, message):
    for path in copy.rglob("*.parquet"):
        damaged(path, change)
    with pytest.raises(DataError, match=rf"\.parquet: {message}") as info:
        open_dataset(copy, SPLIT)
    assert "\n" not in str(info.value)


def test_an_export_that_is_older_than_a_key_is_read(copy):
    def older(table, metadata):
        manifest = json.loads(metadata[MANIFEST])
        del manifest["config"]["render"]["guides"], manifest["config"]["lights"]["vary"]
        return table.replace_schema_metadata({**metadata, MANIFEST: json.dumps(manifest)})

    for path in copy.rglob("*.parquet"):
        damaged(path, older)
    assert open_dataset(copy, SPLIT).config.render.guides is True


def test_a_small_file_of_many_rows_is_refused(copy):
    """Millions of equal rows take a few kilobytes in a file, and gigabytes when they are read."""

    def repeated(number, size):
        def change(table, metadata):
            columns = {
                n: pyarrow.nulls(size, table.schema.field(n).type) for n in table.column_names
            }
            columns |= {n: table[n].take([0] * size) for n in PAIR_KEYS}
            rows = pyarrow.table(columns, metadata=metadata)
            return pyarrow.concat_tables([rows] * (number // size))

        return change

    path = copy / "data" / "cross-view" / "train-00000.parquet"
    whole = path.read_bytes()
    for number, message in ((200_000, r"promises 200000 rows in \d+ bytes"), (11_000, "has 11000")):
        damaged(path, repeated(number, 1000))
        assert path.stat().st_size < 100_000
        with pytest.raises(DataError, match=f"train-00000.parquet: {message}.*; make the export"):
            open_dataset(copy, SPLIT)
        path.write_bytes(whole)


def test_a_damaged_file_is_named(copy):
    path = copy / "data" / "cross-view" / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="train-00000.parquet: cannot be read .*; make the") as info:
        open_dataset(copy, SPLIT)
    assert "\n" not in str(info.value)


def test_a_damaged_picture_is_named(copy):
    def cut(table, _):
        place = table.column_names.index("final_image")
        column = [{**v, "bytes": v["bytes"][:99]} for v in table["final_image"].to_pylist()]
        kind = table.schema.field("final_image").type
        return table.set_column(place, "final_image", pyarrow.array(column, kind))

    damaged(copy / "data" / "cross-view" / "train-00000.parquet", cut)
    reader = reader_of(open_dataset(copy, SPLIT))
    with pytest.raises(DataError, match="000000/final-center.png: the image is damaged .*; export"):
        reader.row(Pair("000000", "center", "center"))
    with pytest.raises(DataError, match=r"000009: there is no such sample in the export"):
        reader.row(Pair("000009", "center", "center"))
    with pytest.raises(DataError, match="final-left.png: no pair of the split shows this image"):
        reader.row(Pair("000000", "center", "left"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("sample", "row 0: 'sample' is a required property"),
        ("final", "row 0: 'final' is a required property"),
        ("final_image", "final-center.png: no pair of the split shows this image"),
        (SAMPLE, "sample_json is no text; make the export again"),
    ],
)
def test_a_null_is_named(copy, column, message):
    def without(table, _):
        kind = table.schema.field(column).type
        nulls = pyarrow.nulls(len(table), kind)
        return table.set_column(table.column_names.index(column), column, nulls)

    for path in copy.rglob("train-*.parquet"):
        damaged(path, without)
    with pytest.raises(DataError, match=message):
        reader_of(open_dataset(copy, SPLIT)).row(Pair("000000", "center", "center"))


# --- Runs --------------------------------------------------------------------------------------

COMMON: dict[str, Any] = {
    "rows": {"order": "stored", "shuffle_objects": True, "mirror": True},
    "max_steps": 4,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
}
KINDS: dict[str, dict[str, Any]] = {
    "sft": {"per_device_train_batch_size": 4, "completion": {"style": "compact"}},
    "grpo": {
        "learning_rate": 0.001,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 12,
        "mask_truncated_completions": False,
    },
}


RUN = {"sft": sft.run, "grpo": grpo.run}


def losses(folder):
    return [(line["step"], line["loss"]) for line in read_log(folder) if "loss" in line]


def assert_same_learning(folder, expected, before):
    """Two runs have the same losses and weights, and have learned from where they began."""
    assert losses(folder) == losses(expected)
    weights, wanted, old = (load_file(f / "model.safetensors") for f in (folder, expected, before))
    for name in old:
        assert torch.equal(weights[name], wanted[name]), name
    assert any(not torch.equal(old[name], wanted[name]) for name in old)


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_what_it_gives_from_the_folder(
    kind, warm, dataset, exported, write_config, tmp_path
):
    run = RUN[kind]
    values = COMMON | KINDS[kind] | {"model": str(warm("tiny"))}
    stream = {"rows": COMMON["rows"] | {"streaming": True}}
    folders = [
        run(write_config(f"{name}.yaml", **values | more | {"output_dir": str(tmp_path / name)}))
        for name, more in [
            ("folder", {"dataset": str(dataset.root)}),
            ("export", {"dataset": str(exported)}),
            ("stream", {"dataset": str(exported), **stream}),
        ]
    ]
    for folder in folders[1:]:
        assert_same_learning(folder, folders[0], warm("tiny"))
    assert json.loads((folders[2] / "run.json").read_text())["step"] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_goes_on_where_it_was(kind, warm, exported, write_config, monkeypatch, tmp_path):
    """Stopped in the step after a checkpoint, with the next epoch of the stream still to come."""

    class Stopping(callbacks.LogFile):
        def on_log(self, args, state, control, **rest):
            super().on_log(args, state, control, **rest)
            if state.global_step == 3:
                raise KeyboardInterrupt

    run = RUN[kind]
    values = COMMON | KINDS[kind] | {"model": str(warm("tiny")), "dataset": str(exported)}
    values |= {"rows": {"streaming": True, "mirror": True}, "save_steps": 2}
    whole = run(write_config(**values, output_dir=str(tmp_path / "whole")))
    parts = write_config(**values, output_dir=str(tmp_path / "parts"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks, "LogFile", Stopping)
        run(parts)
    assert [step for step, _ in losses(tmp_path / "parts")] == [1, 2, 3]
    assert_same_learning(run(parts), whole, warm("tiny"))


# --- Evaluations -------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle_images", [False, True])
def test_an_evaluation_gives_what_it_gives_from_the_folder(
    tiny, dataset, exported, tmp_path, shuffle_images
):
    model = LocalModel(str(tiny["tiny"]), batch_size=3, device="cpu")
    results = []
    for root in (dataset.root, exported):
        out = tmp_path / root.parent.name
        session = evaluate.prepare(
            root, "cross-view/test_ood", model, out, Decoding(8), shuffle_images=shuffle_images
        )
        assert len(list(session.answers())) == session.total > 3
        session.score()
        page = report.run(out).read_text()
        files = [(out / name).read_bytes() for name in ("predictions.jsonl", "metrics.json")]
        results.append((*files, page.count("data:image/jpeg")))
    assert results[0] == results[1]
    assert results[0][2] > 0


def test_a_shuffled_image_control_under_its_former_name(tiny, dataset, tmp_path):
    model = LocalModel(str(tiny["tiny"]), device="cpu")
    arguments = (dataset.root, "cross-view/test_ood", model, tmp_path / "out", Decoding(8))
    evaluate.prepare(*arguments, shuffle_images=True)
    path = tmp_path / "out" / "evaluation.json"
    assert "shuffle_images" in path.read_text()
    path.write_text(path.read_text().replace("shuffle_images", "exchange_images"))
    evaluate.prepare(*arguments, shuffle_images=True)
    with pytest.raises(ConfigError, match="was made with shuffle_images = true, now it is null"):
        evaluate.prepare(*arguments)


def test_an_evaluation_of_a_split_that_was_not_exported(tiny, exported, tmp_path):
    with pytest.raises(DataError, match="there is no such split .known: cross-view/test_id"):
        evaluate.run(exported, "cross-view/test", str(tiny["tiny"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- The commands ------------------------------------------------------------------------------


def oracle_file(path, dataset, split):
    """Predictions, every second one right, of a split."""
    lines = []
    for k, pair in enumerate(dataset.split(split)):
        truth = answer_text(dataset.sample(pair.sample).plan.transformations)
        answer = truth if k % 2 else "0.color.none"
        said = {"completion": f"<think></think><answer>{answer}</answer>"}
        lines.append(json.dumps({**pair.to_json(), **said}))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("named", [True, False])
def test_an_export_scores_as_its_folder(dataset, exported, tmp_path, named):
    said = oracle_file(tmp_path / "said.jsonl", dataset, "cross-view/test_ood")
    split = "cross-view/test_ood" if named else None
    reports = [score_file(said, open_dataset(root), split) for root in (dataset.root, exported)]
    assert reports[0].to_json() == reports[1].to_json()
    assert reports[0].overall["tacc"].value == 0.5
    unknown = json.loads(said.read_text().splitlines()[0]) | {"sample": "000099"}
    said.write_text(json.dumps(unknown))
    with pytest.raises(DataError, match="line 1: sample 000099, .* is not in"):
        score_file(said, open_dataset(exported), split)


def test_commands_take_an_export_or_say_what_it_lacks(dataset, exported, tmp_path, capsys):
    said = oracle_file(tmp_path / "said.jsonl", dataset, SPLIT)
    shown = []
    for root in (dataset.root, exported):
        for asked in (("score", said, root, "--split", SPLIT, "--json"), ("stats", root, "--json")):
            with pytest.raises(SystemExit) as end:
                main([str(word) for word in asked])
            assert end.value.code == 0
            shown.append(json.loads(capsys.readouterr().out))
    assert shown[:2] == shown[2:]
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as end:
        main(["view", str(exported), "--out", str(page)])
    assert end.value.code == 0 and page.read_text().count("data:image/png;base64,") > 12
    for words, status, message in (
        (["split", exported], 1, "is an export in parquet, which this cannot use; name the folder"),
        (["validate", exported], 1, "is an export in parquet, which this cannot use"),
        (
            ["stats", exported, "--blind"],
            2,
            "--blind: is stored in the folder of a data set;",
        ),
        (["stats", exported / "data"], 1, "is not a data set (there is no dataset.json in it)"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        error = capsys.readouterr().err
        assert end.value.code == status and message in error and error.count("\n") == 1


def test_a_data_set_of_the_hub(dataset, exported, tmp_path, monkeypatch):
    cache = tmp_path / "datasets--somebody--tvr"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    shutil.copytree(exported, cache / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_OFFLINE", True)
    opened = open_dataset(Path("hf://datasets/somebody/tvr"), SPLIT)
    assert opened.split(SPLIT) == dataset.split(SPLIT)
    with pytest.raises(DataError, match=r"^hf://datasets/somebody/else: cannot be fetched \("):
        open_dataset(Path("hf://datasets/somebody/else"), SPLIT)
