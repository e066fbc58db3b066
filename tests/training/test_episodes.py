"""`Episodes`: questions one at a time, and their reward, from a folder and from an export."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from star_tvr import Episodes, score
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError
from star_tvr.training.config import PromptConfig
from star_tvr.training.episodes import NoSuchEpisode, collate
from star_tvr.training.exports.export_dataset import export_dataset
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.prompts import with_images
from star_tvr.training.rewards import accuracy_reward, combined_reward, format_reward
from star_tvr.training.rows import RowReader

SPLIT, OTHER = "cross-view/train", "cross-view/test_ood"
SILENCE = "<think></think><answer></answer>"


@pytest.fixture(scope="module")
def export(dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("episodes") / "export"
    for _ in export_dataset(dataset, out, "parquet"):
        pass
    return out


@pytest.fixture(params=["folder", "export"])
def episodes(request, dataset, export) -> Episodes:
    return Episodes(dataset.root if request.param == "folder" else export, SPLIT)


def same(first, second) -> bool:
    pictures = zip(first.images, second.images, strict=True)
    return (
        all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pictures)
        and first.prompt == second.prompt
        and first.pair == second.pair
    )


@pytest.mark.parametrize("split", [SPLIT, OTHER])
def test_an_episode_is_the_row_that_training_reads(dataset, episodes, split):
    pairs = choose_pairs(dataset, split, "split")
    assert episodes.count(split) == len(pairs)
    for index, pair in enumerate(pairs):
        row = RowReader(dataset, PromptConfig()).row(pair)
        episode = episodes.reset(index, split)
        assert (episode.index, episode.split, episode.pair) == (index, split, pair)
        assert episode.prompt == row["prompt"] and episodes.truth(index, split) == row["truth"]
        assert episode.messages == with_images(row["prompt"], row["images"])
        answer = f"<think></think><answer>{row['truth'].split('|')[0]}</answer>"
        assert episodes.score(index, answer, split) == score(answer, row["truth"])


def test_the_truth_earns_most_and_silence_least(episodes):
    for index in range(len(episodes)):
        truth = episodes.truth(index)
        right = f"<think>It changed.</think><answer>{truth}</answer>"
        best, silent = (episodes.score(index, text) for text in (right, SILENCE))
        assert best.total == 5 * len(best.truth) + 1 and best.format == 1
        assert silent.accuracy == -len(best.truth)
        assert episodes.score(index, "").total == silent.accuracy
        assert episodes.score(truth, right) == best  # by the truth instead of the number
        message = [{"role": "assistant", "content": right}]
        assert episodes.score(index, message) == best


def test_the_same_whatever_was_asked_before(episodes):
    first = episodes[1]
    list(episodes)
    assert same(episodes.reset(1), first) and same(episodes[1 - len(episodes)], first)
    copy = pickle.loads(pickle.dumps(episodes))
    assert same(copy[1], first) and len(copy) == len(episodes)
    assert [e.index for e in episodes[1:3]] == [1, 2]


def test_a_data_loader_reads_it(episodes):
    batches = list(DataLoader(episodes, batch_size=4, num_workers=1, collate_fn=collate))
    assert [batch["index"] for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    for index, messages in zip([0, 1, 2, 3], batches[0]["messages"], strict=True):
        assert messages == episodes[index].messages


def test_a_notebook_shows_it(episodes):
    shown = episodes._repr_html_()
    assert shown.count("data:image/png;base64,") == 6
    assert "&lt;answer&gt;" in shown and "<answer>" not in shown


def test_a_reward_of_ones_own(dataset):
    index, wrong = 0, "<answer>0.color.none</answer>"
    assert Episodes(dataset.root, SPLIT, "binary").score(index, wrong).accuracy == 0
    with pytest.raises(ConfigError, match="reward.preset: 'stra' is not one of star"):
        Episodes(dataset.root, SPLIT, "stra")


def test_what_is_not_there_is_one_line(dataset, episodes):
    with pytest.raises(NoSuchEpisode, match="^index=6: cross-view/train has 6 episodes; give a"):
        episodes[6]
    with pytest.raises(IndexError):
        episodes.score(-7, "")
    with pytest.raises(DataError, match=r"cross-view/x.* no such split \(known: cross-view/test_"):
        episodes.reset(0, "cross-view/x")
    with pytest.raises(DataError, match="there is no such split"):
        Episodes(episodes.root, "cross-view/x")
    for nothing in (5, b"text", [{"content": 5}], [{"content": [{"text": 5}]}], {"content": ""}):
        with pytest.raises(ParameterError, match="^completion: is a .*; give a text, or a list of"):
            episodes.score(0, nothing)
    with pytest.raises(DataError, match="is not a data set"):
        Episodes(dataset.root / "samples", SPLIT)


LIGHT = """
import sys
from star_tvr import Episodes
episodes = Episodes(sys.argv[1], "cross-view/train")
episodes.score(0, episodes[0].text)
assert not {"bpy", "torch", "trl", "transformers", "datasets"} & set(sys.modules)
"""


def test_neither_blender_nor_torch_is_loaded(episodes):
    subprocess.run([sys.executable, "-c", LIGHT, episodes.root], check=True)


@pytest.mark.parametrize("column", ["truth", "solution", "answer", "ground_truth"])
def test_trainers_may_call_the_true_answers_as_they_like(column):
    said = ["<think></think><answer>2.color.cyan</answer>", SILENCE]
    columns = {"prompt": ["?", "?"], column: ["2.color.cyan", "2.color.cyan"]}
    assert accuracy_reward()(said, **columns) == [5.0, -1.0]
    assert combined_reward()(said, **columns) == [6.0, 0.0]
    assert format_reward()(said, **columns) == [1.0, 1.0]


def test_the_truth_with_all_that_is_as_right_comes_first():
    columns = {"answer": ["3.position.left.2"], "truth": ["3.position.left.2|left.1"]}
    assert accuracy_reward()(["<answer>3.position.left.1</answer>"], **columns) == [5.0]
    with pytest.raises(ConfigError, match="^truth: the data set has no column of true answers; ca"):
        accuracy_reward()([SILENCE], prompt=["?"])
