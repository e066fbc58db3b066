"""A model that is asked about scenes it was trained on: said once, whoever rendered them."""

import json
import shutil

import pytest

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training import evaluate, sft
from star_tvr.training.endpoint_backend import Endpoint
from star_tvr.training.local_backend import LocalModel
from star_tvr.training.seen_scenes import seen_scenes
from tests.training.conftest import write_document
from tests.training.discs import make_dataset

QUICK = {"max_steps": 1, "per_device_train_batch_size": 1}
LORA = {"r": 2, "alpha": 4, "targets": "all-linear"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset):
    """The folder of a run on `cross-view/train`, which has the samples 0 to 5."""
    root = tmp_path_factory.mktemp("seen")
    values = {"output_dir": str(root / "run"), **QUICK}
    return sft.run(write_document(root / "config.yaml", dataset, values))


@pytest.fixture
def warned(tmp_path, capsys):
    """What is said on stderr before a question is asked."""

    def said(dataset, split, model, adapter=None):
        client = LocalModel(str(model), adapter and str(adapter), device="cpu")
        capsys.readouterr()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        evaluate.prepare(dataset.root, split, client, tmp_path / "out")
        return capsys.readouterr().err

    return said


def test_splits_of_one_scheme_share_no_scene(run, warned, dataset):
    seed = dataset.config.scene_seed
    document = json.loads((run / "run.json").read_text())
    assert document["trained_on"] == {f"{dataset.manifest.schema_version}:{seed}": "0-5"}
    for split in ("cross-view/test_id", "cross-view/test_ood"):
        assert warned(dataset, split, run) == ""


def test_scenes_of_the_training_are_counted(run, warned, dataset, tmp_path):
    words = "the model was trained on {} scenes of {}, {}; ask about a split of the same scheme, or"
    for model in (run, run / "checkpoint-1"):
        said = warned(dataset, "cross-view/train", model)
        assert words.format("6 of the 6", dataset.root, "cross-view/train") in said
        assert said.count("\n") == 1
    # Rendered again by somebody else, and divided by another scheme.
    again = make_dataset(tmp_path / "again")
    again.write_split("random/test", [Pair(i, "center", "left") for i in again.ids()[4:]])
    assert words.format("2 of the 4", again.root, "random/test") in warned(
        again, "random/test", run
    )
    assert warned(again, "cross-view/test_ood", run) == ""
    assert warned(again, "cross-view/train", run / "base") == ""  # it had no training yet


def test_another_configuration_has_other_scenes(run, warned, tmp_path):
    other = make_dataset(tmp_path / "other", "varied")
    assert warned(other, "cross-view/train", run) == ""


def test_imported_scenes_do_not_follow_from_the_seed(run, warned, dataset, tmp_path):
    copy = shutil.copytree(dataset.root, tmp_path / "copy")
    path = copy / "dataset.json"
    source = {"format": "trance", "form": "json", "attributes": [], "strict": False}
    source |= {"estimated": [], "left_out": {}, "broken_rules": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": source}))
    assert warned(Dataset.open(copy), "cross-view/train", run) == ""


def test_a_run_remembers_what_it_began_with(run, warned, dataset, tmp_path):
    other = make_dataset(tmp_path / "other", "varied")
    values = {"model": str(run), "lora": LORA, "output_dir": str(tmp_path / "second"), **QUICK}
    second = sft.run(write_document(tmp_path / "second.yaml", other, values))
    for asked in (dataset, other):
        assert "6 of the 6" in warned(asked, "cross-view/train", run, second)
    assert warned(dataset, "cross-view/test_id", run, second) == ""
    assert set(seen_scenes([str(second)])) > set(seen_scenes([str(run)]))


def test_a_server_that_has_the_trained_model(run, dataset, tmp_path, capsys):
    client = Endpoint("http://127.0.0.1:9/v1", str(run))
    evaluate.prepare(dataset.root, "cross-view/train", client, tmp_path / "out")
    assert "6 of the 6" in capsys.readouterr().err


def test_numbers_are_joined(tmp_path):
    for name, text in (("a", "0-3,7"), ("b", "2-5,9"), ("c", "6")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"trained_on": {"2:1": text}}))
    folders = [str(tmp_path / name) for name in "abc"]
    assert seen_scenes(folders[:2]) == {"2:1": [(0, 5), (7, 7), (9, 9)]}
    assert seen_scenes([*folders, None, "org/model"]) == {"2:1": [(0, 7), (9, 9)]}


@pytest.mark.parametrize(
    "content",
    ["[]", '{"trained_on": 3}', '{"trained_on": {"2:1": "0-"}}', '{"trained_on": {"2:1": 4}}'],
)
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json: ") as caught:
        seen_scenes([str(tmp_path)])
    assert "\n" not in str(caught.value)
