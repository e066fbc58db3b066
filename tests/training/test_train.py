"""Training with TRL itself: what is refused, what is learned, what survives a kill."""

import json
import re
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.training import callbacks, checks, grpo, sft, trl_arguments
from star_tvr.training.checks import check_config
from star_tvr.training.config import TINY, Lora, PromptConfig, load_stages, load_train_config
from star_tvr.training.errors import TrainingError
from star_tvr.training.initial_model import load_initial_model
from star_tvr.training.models import lora_config
from star_tvr.training.rows import RowReader
from star_tvr.training.run_folder import last_checkpoint, open_run
from star_tvr.training.training_rows import build_rows
from star_tvr.training.trl_arguments import trainer_arguments
from tests.training.conftest import SFT, read_log
from tests.training.discs import TRAIN, background

GRPO: dict[str, Any] = {
    "max_steps": 3,
    "learning_rate": 0.01,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 12,
    "mask_truncated_completions": False,
    "lora": {"r": 4, "alpha": 8},
}

TRAINED = [name for name in TINY if name != "small-64"]  # which takes its time


# --- Configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_generation": 4}, r"num_generation: unknown key; did you mean num_generations\?"),
        ({"modell": "tiny"}, r"modell: unknown key; did you mean model\?"),
        ({"lora": {"rank": 4}}, r"lora\b.*rank"),
        ({"lora": {"r": 0}}, "0"),
        ({"learning_rate": "fast"}, r"learning_rate: 'fast' is not of type float"),
        ({"max_completion_length": 1.5}, "max_completion_length: 1.5 is not of type int"),
        ({"log_completions": "yes"}, "log_completions: 'yes' is not of type bool"),
        ({"per_device_train_batch_size": True}, "True is not of type int"),
        ({"reward": {"preset": "gold"}}, "reward.preset: 'gold' is not one of star"),
        (
            {"reward": {"weights": {"exat": 1}}},
            "reward.weights.exat: unknown key; did you mean",
        ),
        ({"remove_unused_columns": True}, "remove_unused_columns: must be false"),
        ({"split": "train"}, "split: 'train' is not SCHEME/NAME, such as cross-view/train"),
        ({"prompt": {"style": "loud"}}, "prompt.style: 'loud' is not one of"),
        ({"adapter": "x", "lora": {}}, "lora: leave it out"),
        ({"reward": {"extra": {"luck": 1}}}, "reward.extra.luck: unknown key"),
        ({"rows": {"order": "hard-first"}}, "rows.order: 'hard-first' is not one of"),
        ({"shuffle_dataset": True}, "shuffle_dataset: leave it out; rows.order"),
        ({"completion": {"style": "trace"}}, "completion: only for tvr train sft"),
        ({"beta": None}, "beta: None is not of type float"),
    ],
)
def test_wrong_keys_and_values_are_named(write_config, values, message):
    path = write_config(**values)
    with pytest.raises(ConfigError, match=message) as info:
        load_train_config("grpo", path)
    assert str(info.value).startswith(f"{path}: ")
    assert "\n" not in str(info.value)


def test_a_key_of_the_other_trainer(write_config):
    with pytest.raises(ConfigError, match="num_generations: only for tvr train grpo"):
        load_train_config("sft", write_config(num_generations=4))
    with pytest.raises(ConfigError, match="packing: only for tvr train sft"):
        load_train_config("grpo", write_config(packing=False))
    with pytest.raises(ConfigError, match="reward: only for tvr train grpo"):
        load_train_config("sft", write_config(reward={"preset": "star"}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "/no/such/model"}, "model: /no/such/model is neither a folder nor"),
        ({"dataset": "/no/such/data"}, "dataset: /no/such/data is not a data set folder"),
        ({"split": "cross-view/tran"}, "split: there is no cross-view/tran .known: cross-view/"),
        ({"adapter": "/no/such/adapter"}, "adapter: /no/such/adapter is not an adapter folder"),
        (
            {"per_device_train_batch_size": 6, "num_generations": 8},
            "8 does not divide the batch of 6 .* gradient_accumulation_steps to a multiple of 4",
        ),
        ({"num_generations": 2**63}, f"gradient_accumulation_steps to a multiple of {2**60}"),
        ({"num_generations": 1}, "num_generations: 1, but a group needs two"),
        (
            {"reward": {"extra": {"consistency": 1}}},
            "no scene of cross-view/train is asked about from two views; set rows.views: all",
        ),
        (
            {"reward": {"extra": {"consistency": 1}}, "rows": {"views": "all"}},
            "a batch holds 1 question, but two views need two",
        ),
        (
            {"processor": {"min_pixels": 5000, "max_pixels": 4000}},
            "processor.min_pixels: 5000 is more than max_pixels .4000",
        ),
        ({"processor": {"max_pixels": 3000}}, "64 x 48 = 3072 pixels, more than 3000; raise it"),
        ({"fp16": True, "bf16": False}, "fp16: needs a GPU"),
        ({"use_vllm": True}, "use_vllm: vLLM is not installed"),
        pytest.param(
            {"use_cpu": False},
            "use_cpu: false asks for a GPU, but PyTorch sees none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_refused_before_any_weight_is_loaded(write_config, monkeypatch, values, message):
    def never(*_):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(grpo, "load_initial_model", never)
    path = write_config(**values)
    with pytest.raises(ConfigError, match=message) as info:
        grpo.run(path)
    assert str(info.value).startswith(f"{path}: ")
    assert "\n" not in str(info.value)
    assert not Path(load_train_config("grpo", path).output_dir).exists()


def test_a_tokenizer_alone_is_refused_before_any_weight_is_loaded(tiny, write_config, tmp_path):
    model = shutil.copytree(tiny["tiny-idefics3"], tmp_path / "model")
    (model / "processor_config.json").unlink()
    (model / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="config.yaml: model: .*processor") as info:
        grpo.run(write_config(model=str(model), num_generations=2))
    assert "\n" not in str(info.value)


def test_several_gpus_and_one_process(write_config, monkeypatch):
    """Here there are none, so what PyTorch says of them is put in its mouth."""
    path = write_config(use_cpu=False, bf16=False)
    monkeypatch.setattr(checks, "cuda_available", lambda: True)
    monkeypatch.setattr(checks, "count_gpus", lambda: 8)
    config = load_train_config("grpo", path)
    with pytest.raises(ConfigError, match="sees 8 GPUs .* CUDA_VISIBLE_DEVICES=0 .*accelerate"):
        check_config(config)
    monkeypatch.setenv("LOCAL_RANK", "3")  # as a launcher does
    check_config(config)
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(checks, "count_gpus", lambda: 1)
    check_config(config)


def test_trl_itself_may_refuse(write_config):
    path = write_config(lr_scheduler_type="sometimes")
    with pytest.raises(ConfigError, match="sometimes") as info:
        grpo.run(path)
    assert str(info.value).startswith(f"{path}: ") and "\n" not in str(info.value)


def test_overrides_numbers_and_defaults(write_config):
    path = write_config(learning_rate="1e-5")
    config = load_train_config(
        "grpo", path, ["lora.r=3", "lora.alpha=6", "max_steps=7", "beta=1e-2"]
    )
    assert config.trainer["learning_rate"] == 1e-5
    assert config.lora == Lora(r=3, alpha=6)
    assert config.trainer["max_steps"] == 7
    assert config.trainer["beta"] == 0.01
    assert config.trainer["remove_unused_columns"] is False
    assert config.trainer["bf16"] is False  # on the CPU
    assert load_train_config("sft", path).trainer["max_length"] is None
    with pytest.raises(ConfigError, match="write key=value"):
        load_train_config("grpo", path, ["max_steps"])


def test_a_stored_configuration_can_be_used_again(write_config, tmp_path):
    path = write_config(lora={"r": 2, "targets": ["q_proj"]}, reward={"weights": {"wrong": -2}})
    config = load_train_config("grpo", path)
    again = write_config("again.yaml", **config.to_json())
    assert load_train_config("grpo", again).to_json() == config.to_json()


FOLDER = Path(__file__).parents[2] / "examples" / "train"
LAUNCHERS = sorted(FOLDER.glob("accelerate-*.yaml"))
EXAMPLES = sorted(set(FOLDER.glob("*.yaml")) - set(LAUNCHERS))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(path, tmp_path):
    stages = load_stages("sft" if "sft" in path.stem else "grpo", path, ["use_cpu=true"])
    for stage in stages:
        trainer_arguments(stage.model_copy(update={"output_dir": tmp_path}))
    assert len(stages) == 1 or [s.kind for s in stages] == ["sft", "grpo"]
    for line in path.read_text().splitlines():  # every value of the large ones has a source
        if path.stem.startswith("qwen") and line.strip().startswith(("learning_rate", "num_gen")):
            assert re.search(r"# \[(paper|guide|guess)", line), line


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_the_launcher_configurations_are_valid(path):
    from accelerate.commands.config.config_args import ClusterConfig

    # test_processes.py runs the ones with FSDP and DDP; DeepSpeed needs a GPU.
    config = ClusterConfig.from_yaml_file(path)
    assert config.num_processes == 8 * config.num_machines
    kinds = {"MULTI_GPU": False, "FSDP": config.fsdp_config, "DEEPSPEED": config.deepspeed_config}
    assert [kind for kind, block in kinds.items() if block] in ([], [config.distributed_type])


# --- Runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", TRAINED)
def test_sft_lowers_the_loss(warm, family):
    losses = [line["loss"] for line in read_log(warm(family)) if "loss" in line]
    assert len(losses) == SFT["max_steps"]
    assert losses[-1] < 0.5 * losses[0]
    run = json.loads((warm(family) / "run.json").read_text())
    assert (run["status"], run["step"]) == ("done", SFT["max_steps"])
    assert set(run["versions"]) > {"torch", "trl", "peft", "transformers"}


class Spy:
    """Looks over the shoulder of a GRPO run: what the model sees and what the rewards are told.

    Attributes:
        seen: (prompt token ids, corner colours) of every pass over prompts, while answering and
            while learning. Shapes: (batch, tokens), (batch, 2, 3).
        rewards: (completions, columns) of every call of a reward function.
    """

    def __init__(self, monkeypatch):
        self.seen: list[Any] = []
        self.rewards: list[Any] = []
        self.processor: Any = None
        self.encoded: Any = None
        functions = grpo.reward_functions

        def spied_load(*arguments):
            model, self.processor = load_initial_model(*arguments)
            backbone = model.model
            tower = backbone.visual if hasattr(backbone, "visual") else backbone.vision_model
            tower.register_forward_pre_hook(self.look, with_kwargs=True)
            backbone.register_forward_hook(self.read, with_kwargs=True)
            return model, self.processor

        def spied_functions(*arguments):
            return [self.listen(function) for function in functions(*arguments)]

        monkeypatch.setattr(grpo, "load_initial_model", spied_load)
        monkeypatch.setattr(grpo, "reward_functions", spied_functions)

    def look(self, _, arguments, named):
        """The vision tower is about to encode images."""
        self.encoded = (arguments[0] if arguments else named["pixel_values"]), named

    def read(self, _, arguments, inputs, outputs):
        """The language model has read prompts, with the images encoded before or on the way."""
        if inputs["input_ids"].shape[1] > 1:
            self.seen.append((inputs["input_ids"].clone(), self.corners(*self.encoded)))
            self.encoded = None  # every pass encodes its own images

    def listen(self, function):
        def heard(completions, **columns):
            self.rewards.append((completions, columns))
            return function(completions, **columns)

        heard.__name__ = function.__name__
        return heard

    def corners(self, pixels, named):
        """The RGB values at the top left of encoded images. Shape: (batch, 2, 3)."""
        processor = self.processor.image_processor
        if "grid_thw" in named:  # one row for each patch of each image
            patches = named["grid_thw"].prod(1)
            area = processor.temporal_patch_size * processor.patch_size**2
            corner = pixels[patches.cumsum(0) - patches][:, [0, area, 2 * area]]
        else:
            corner = pixels[:, :, 0, 0]
        mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
        return ((corner.float() * std + mean) * 255).round().int().reshape(-1, 2, 3).tolist()


@pytest.mark.parametrize("family", TRAINED)
def test_grpo_trains_adapters_on_the_right_rows(
    warm, write_config, dataset, monkeypatch, tmp_path, family
):
    spy = Spy(monkeypatch)
    before = {p.name: p.read_bytes() for p in warm(family).glob("*.safetensors")}
    folder = grpo.run(write_config(model=str(warm(family)), **GRPO))

    # The adapters moved away from their beginning, where B is zero; the base stayed as it was.
    adapter = load_file(folder / "adapter_model.safetensors")
    assert adapter and all("lora_" in name for name in adapter)
    assert all(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)
    assert before == {p.name: p.read_bytes() for p in warm(family).glob("*.safetensors")}
    assert not list(folder.glob("model*.safetensors"))

    # Every reward call had the truth of the samples it was about, for whole groups.
    truths = {row["sample"]: row for row in rows_of(dataset)}
    assert len(spy.rewards) == 2 * GRPO["max_steps"]
    for completions, columns in spy.rewards:
        assert len(completions) == 8
        assert [len(set(columns["sample"][k : k + 4])) for k in (0, 4)] == [1, 1]
        for sample, truth, images in zip(
            columns["sample"], columns["truth"], columns["images"], strict=True
        ):
            assert truth == truths[sample]["truth"]
            assert images[0].getpixel((0, 0)) == background(sample, "initial", "center")

    # Every prompt came with the pictures of its own sample, the initial one first.
    texts = {question(row["prompt"]): sample for sample, row in truths.items()}
    assert len(spy.seen) == 2 * GRPO["max_steps"]  # once to answer, once to learn
    for tokens, corners in spy.seen:
        prompts = spy.processor.batch_decode(tokens, skip_special_tokens=True)
        assert len(prompts) == 8
        for prompt, colors in zip(prompts, corners, strict=True):
            [sample] = [s for text, s in texts.items() if f"\n{text}\n" in f"\n{prompt}\n"]
            expected = [background(sample, state, "center") for state in ("initial", "final")]
            assert [tuple(color) for color in colors] == expected

    line = read_log(folder)[0]
    for key in ("loss", "reward", "rewards/format_reward/mean", "rewards/accuracy_reward/mean"):
        assert key in line
    for key in ("tacc", "count_gap", "empty", "enumerating", "completions/mean_length"):
        assert key in line
    assert len(list((folder / "completions").glob("*.parquet"))) == GRPO["max_steps"]
    assert json.loads((folder / "run.json").read_text())["model"] == str(warm(family))


def rows_of(dataset):
    reader = RowReader(dataset, PromptConfig(style="compact", location="cell"))
    return build_rows(reader, dataset.split("cross-view/train"))


def question(prompt) -> str:
    return prompt[-1]["content"][-1]["text"]


def test_the_table_of_completions_says_what_was_asked(warm, write_config):
    import pyarrow.parquet

    folder = grpo.run(write_config(model=str(warm("tiny")), **GRPO | {"max_steps": 1}))
    path = folder / "completions" / "completions_00001.parquet"
    table = pyarrow.parquet.read_table(path)
    columns = {"sample", "initial", "final", "truth", "completion", "advantage"}
    assert columns | {"format_reward", "accuracy_reward"} <= set(table.column_names)
    assert table.num_rows == 8


def test_epochs_are_counted_in_pairs(tiny, write_config, tmp_path):
    model = str(tiny["tiny"])
    sizes = {"per_device_train_batch_size": 4, "num_train_epochs": 2}
    folder = sft.run(write_config(model=model, **sizes, output_dir=str(tmp_path / "sft")))
    assert json.loads((folder / "run.json").read_text())["step"] == 2 * TRAIN // 4
    sizes = {k: v for k, v in GRPO.items() if k != "max_steps"} | {"num_train_epochs": 1}
    folder = grpo.run(write_config("grpo.yaml", model=model, **sizes))
    assert json.loads((folder / "run.json").read_text())["step"] == TRAIN * 4 // 8
    asked = []
    for path in sorted((folder / "completions").glob("*.parquet")):
        import pyarrow.parquet

        asked += pyarrow.parquet.read_table(path)["sample"].to_pylist()
    assert {s: asked.count(s) for s in asked} == dict.fromkeys(asked, 4)
    assert len(set(asked)) == TRAIN


def test_reasoning_is_taught_and_further_rewards_are_logged(tiny, write_config, dataset, tmp_path):
    rows = {"views": "all", "shuffle_objects": True}
    model, trace = str(tiny["tiny"]), {"style": "compact", "boxes": True}
    values = SFT | {"max_steps": 4, "completion": trace, "rows": rows, "model": model}
    folder = sft.run(write_config(**values, output_dir=str(tmp_path / "cold")))
    values = GRPO | {"max_steps": 1, "per_device_train_batch_size": 16, "model": str(folder)}
    extra = {"reference": 1.0, "consistency": 0.5, "grounding": 0.5}
    values |= {"reward": {"extra": extra}, "rows": rows}
    line, *_ = read_log(grpo.run(write_config("extra.yaml", **values)))
    for name in ("reference", "consistency", "grounding", "accuracy", "format"):
        assert 0 <= line[f"rewards/{name}_reward/mean"] <= 1 or name == "accuracy"
    for name in ("true", "false", "unparsed"):
        assert line[f"statements/{name}"] >= 0


def test_an_adapter_goes_on_being_trained(warm, write_config, tmp_path):
    first = grpo.run(write_config(model=str(warm("tiny")), **GRPO | {"max_steps": 1}))
    values = {k: v for k, v in GRPO.items() if k != "lora"} | {"max_steps": 1}
    values |= {"adapter": str(first), "output_dir": str(tmp_path / "second"), "beta": 0.1}
    second = grpo.run(write_config("second.yaml", model=str(warm("tiny")), **values))
    old, new = (load_file(f / "adapter_model.safetensors") for f in (first, second))
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert "kl" in read_log(second)[0]


class ZeRO3:
    """What TrainingArguments say of DeepSpeed when it divides the weights, too."""

    zero_stage = 3


def test_a_stored_adapter_has_the_precision_that_trl_gives_a_fresh_one(
    warm, write_config, dataset, tmp_path
):
    """float32 on a model in bfloat16; bfloat16 under ZeRO-3, which gathers both together."""
    from trl import GRPOTrainer

    config = load_train_config("grpo", write_config(model=str(warm("tiny")), bf16=True, **GRPO))
    args = trainer_arguments(config)

    def precisions(model):
        return [
            {w.dtype for w in model.parameters() if w.requires_grad == b} for b in (True, False)
        ]

    model, processor = load_initial_model(config, dataset.world, args)
    adapters = lora_config(model, Lora(**GRPO["lora"]))
    rewards = grpo.reward_functions(config, dataset)
    rows = rows_of(dataset)
    fresh = GRPOTrainer(
        model, rewards, args, rows, processing_class=processor, peft_config=adapters
    ).model
    fresh.save_pretrained(tmp_path / "adapter")
    config = config.model_copy(update={"lora": None, "adapter": str(tmp_path / "adapter")})
    stored, _ = load_initial_model(config, dataset.world, args)
    assert precisions(stored) == precisions(fresh) == [{torch.float32}, {torch.bfloat16}]
    args.deepspeed_plugin = ZeRO3()
    stored, _ = load_initial_model(config, dataset.world, args)
    assert precisions(stored) == [{torch.bfloat16}, {torch.bfloat16}]


def test_a_reference_adapter_is_refused_under_zero3(write_config, tmp_path, monkeypatch):
    config = load_train_config("grpo", write_config(adapter=str(tmp_path), beta=0.1))
    monkeypatch.setattr(trl_arguments, "uses_zero3", lambda _: True)
    with pytest.raises(ConfigError, match="config.yaml: beta: 0.1 .* ZeRO-3 cannot gather"):
        trainer_arguments(config)


def test_a_finished_run_returns_at_once_and_can_be_made_longer(warm, write_config, monkeypatch):
    values = {"model": str(warm("tiny")), **GRPO, "max_steps": 1}
    folder = grpo.run(write_config(**values))
    files = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(grpo, "load_initial_model", None)
    assert grpo.run(write_config(**values)) == folder
    assert files == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(grpo, "load_initial_model", load_initial_model)
    grpo.run(write_config(**values | {"max_steps": 2}))
    assert [line["step"] for line in read_log(folder) if "loss" in line] == [1, 2]


@pytest.mark.parametrize("family", ["tiny", "tiny-idefics3"])
def test_a_run_of_all_weights_goes_on_from_its_weights(tiny, write_config, tmp_path, family):
    values = {"model": str(tiny[family]), **SFT, "save_steps": 2, "lr_scheduler_type": "constant"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sft.run(write_config(**values | {"max_steps": 4}, output_dir=str(whole)))
    for steps in (2, 4):
        sft.run(write_config(**values | {"max_steps": steps}, output_dir=str(parts)))
    logs = [[x["loss"] for x in read_log(f) if "loss" in x] for f in (whole, parts)]
    assert logs[0] == pytest.approx(logs[1])
    resumed = load_file(parts / "model.safetensors")
    for name, weights in load_file(whole / "model.safetensors").items():
        assert torch.allclose(weights, resumed[name]), name


HOLD = """
import sys
import weakref
from pathlib import Path
from star_tvr.schemas.locks import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", [sft, grpo])
def test_two_runs_do_not_write_to_one_folder(write_config, tmp_path, kind):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        other.stdout.readline()
        with pytest.raises(ConfigError, match=rf"run: in use by .*\(process {other.pid} on "):
            kind.run(write_config(**SFT if kind is sft else {"max_steps": 1}))
    finally:
        other.communicate(b"")
    assert not (tmp_path / "run").exists()


def test_a_folder_belongs_to_one_configuration(write_config, dataset, tmp_path):
    config = load_train_config("grpo", write_config(learning_rate=0.01))
    open_run(config, dataset)
    open_run(config, dataset)
    changed = load_train_config("grpo", write_config(learning_rate=0.02))
    with pytest.raises(ConfigError, match="was made with learning_rate = 0.01, now it is 0.02"):
        open_run(changed, dataset)
    with pytest.raises(ConfigError, match='was made with kind = "grpo", now it is "sft"'):
        open_run(load_train_config("sft", write_config(learning_rate=0.01)), dataset)
    stored = tmp_path / "run" / "config.yaml"
    text = stored.read_text()
    stored.write_text(text.replace("  order: index\n", ""))  # as if begun before there was the key
    assert stored.read_text() != text
    open_run(config, dataset)
    assert stored.read_text() == text
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="is not empty and has no config.yaml"):
        open_run(
            load_train_config("grpo", write_config(output_dir=str(tmp_path / "other"))), dataset
        )


def test_another_number_of_processes_goes_on_with_the_same_batch(write_config, dataset, tmp_path):
    def begun(processes, **values):
        return open_run(load_train_config("grpo", write_config(**values)), dataset, processes)

    begun(2, gradient_accumulation_steps=2)
    begun(4, gradient_accumulation_steps=2)  # nothing was trained yet
    checkpoint = tmp_path / "run" / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text("{}")
    begun(4, gradient_accumulation_steps=2)
    with pytest.raises(ConfigError, match="by 4 processes, now there are 2, .* 32 rows instead of"):
        begun(2, gradient_accumulation_steps=2)
    with pytest.raises(ConfigError, match="answers are made for 32 rows instead of 64"):
        begun(2, gradient_accumulation_steps=4, steps_per_generation=2)
    assert begun(2, gradient_accumulation_steps=4).checkpoint == checkpoint
    with pytest.raises(ConfigError, match="made with gradient_accumulation_steps = 4, now it is 8"):
        begun(2, gradient_accumulation_steps=8)
    (checkpoint / "pytorch_model_fsdp_0").mkdir()
    with pytest.raises(ConfigError, match="FSDP stored need several; start 2"):
        begun(1, gradient_accumulation_steps=8)
    (checkpoint / "global_step3").mkdir()
    with pytest.raises(ConfigError, match="which DeepSpeed cannot go on with; start 2"):
        begun(4, gradient_accumulation_steps=2)


def test_a_checkpoint_that_was_cut_off_is_removed(tmp_path):
    for step, state in [(2, "{}"), (10, "{}"), (12, '{"global'), (14, None)]:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]


STATE = "trainer_state.json"


def test_a_checkpoint_that_was_not_cut_off_is_kept(tmp_path, capsys):
    for step in (2, 4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / STATE).write_text("{}")
    (tmp_path / "checkpoint-\xb2").mkdir()  # a digit, but no number
    newest = tmp_path / "checkpoint-6"
    (newest / STATE).write_text('{"global_step": nonsense}\n')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert (tmp_path / "damaged-checkpoint-6" / STATE).is_file() and not newest.exists()
    assert "checkpoint-6/trainer_state.json: is damaged" in capsys.readouterr().err
    for name in (STATE, "optimizer.pt"):  # as with a disk that is away for a while
        path = tmp_path / "checkpoint-4" / name
        path.unlink(missing_ok=True)
        path.mkdir()
        with pytest.raises(ConfigError, match=f"checkpoint-4.*{name}: .*; mend that, or rename"):
            last_checkpoint(tmp_path)
        assert path.is_dir()
        path.rmdir()
        path.write_text("{}")
    torch.save({"step": torch.ones(1000)}, path)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    whole = path.read_bytes()
    for torn in (b"{}", whole[:-9], whole[:2000] + b"?" + whole[2001:], whole[:60] + whole[64:]):
        path.write_bytes(torn)
        with pytest.raises(ConfigError, match="4/optimizer.pt: is damaged; mend that, or"):
            last_checkpoint(tmp_path)
    (tmp_path / "checkpoint-4").rename(tmp_path / "x")
    (tmp_path / "checkpoint-4").symlink_to(tmp_path / "x")
    (tmp_path / "x" / STATE).unlink()
    with pytest.raises(ConfigError, match="checkpoint-4: the checkpoint cannot be read"):
        last_checkpoint(tmp_path)
    assert (tmp_path / "x").is_dir()


KILLED = """
import os, signal, sys
from star_tvr.training import callbacks, run_folder
from star_tvr.tvr import main

moment = sys.argv.pop()
write_run = run_folder.write_run

def reached(folder, what):
    if f"{folder.name} {what}" == moment:
        os.kill(os.getpid(), signal.SIGKILL)

class Deadly(callbacks.LogFile):
    def on_log(self, args, state, control, **rest):
        super().on_log(args, state, control, **rest)
        reached(self.path.parent, state.global_step)

def deadly(folder, config, dataset, status, *rest):
    write_run(folder, config, dataset, status, *rest)
    reached(folder, status)

callbacks.LogFile, run_folder.write_run = Deadly, deadly
main()
"""


def test_two_stages_killed_in_each_and_between_end_as_if_nothing_had_happened(
    warm, write_config, tmp_path
):
    values: dict[str, Any] = {
        "model": str(warm("tiny")),
        "lora": GRPO["lora"],
        "cold-start": {**SFT, "max_steps": 4, "save_steps": 2, "completion": {"style": "compact"}},
        "grpo": {k: v for k, v in GRPO.items() if k != "lora"} | {"max_steps": 4, "save_steps": 2},
    }
    # Nor do the weights know of a validation: the run that is not killed has none.
    asked = {"split": "cross-view/test_ood", "limit": 2, "max_new_tokens": 4}
    path = write_config(**values, validation=asked)
    first, second = tmp_path / "run" / "cold-start", tmp_path / "run" / "grpo"

    def kill(moment):
        """Give the command, and kill it once it has come that far."""
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, "train", "grpo", str(path), moment],
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    def steps(folder):
        return [line["step"] for line in read_log(folder) if "loss" in line]

    def written(folder):
        """When the only checkpoint of a killed stage was written."""
        assert steps(folder) == [1, 2, 3]
        [path] = folder.glob("checkpoint-*/trainer_state.json")
        assert path.parent.name == "checkpoint-2"
        return path, path.stat().st_mtime_ns

    kill("cold-start 3")
    checkpoints = [written(first)]
    (first / "checkpoint-3").mkdir()  # as if it had been killed while writing a checkpoint
    kill("cold-start done")
    assert steps(first) == [1, 2, 3, 4] and not second.exists()
    kill("grpo 3")
    checkpoints.append(written(second))
    assert grpo.run(path) == second
    assert all(p.stat().st_mtime_ns == then for p, then in checkpoints)  # no stage began anew

    whole = grpo.run(write_config("whole.yaml", **values, output_dir=str(tmp_path / "whole")))
    for stage in (first, second):
        figures = [line for line in read_log(stage) if "eval_tacc" in line]
        assert [line["step"] for line in figures] == [2, 4]
        best = max(figures, key=lambda line: (line["eval_tacc"], -line["step"]))
        assert json.loads((stage / "run.json").read_text())["best"] == {
            "step": best["step"],
            "checkpoint": f"checkpoint-{best['step']}",
            "tacc": best["eval_tacc"],
        }
    before = load_file(first / "adapter_model.safetensors")
    for resumed, expected in ((first, whole.parent / first.name), (second, whole)):
        logs = [[line for line in read_log(f) if "loss" in line] for f in (resumed, expected)]
        assert steps(resumed) == steps(expected) == [1, 2, 3, 4]
        for key in ("loss", "reward", "completions/mean_length"):
            if key in logs[1][0]:
                curves = [[line[key] for line in log] for log in logs]
                assert curves[0] == pytest.approx(curves[1]), key
        weights = [load_file(f / "adapter_model.safetensors") for f in (resumed, expected)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.allclose(weights[0][name], weights[1][name]) for name in weights[1])
    assert any(not torch.equal(before[name], weights[0][name]) for name in before)


@pytest.mark.parametrize("save_steps", [1, 2])
def test_a_loss_that_is_no_number_stops_the_run(warm, write_config, save_steps):
    values = {"model": str(warm("tiny")), **SFT, "max_steps": 4, "logging_steps": 100}
    values |= {"learning_rate": 1e30, "max_grad_norm": 0, "save_steps": save_steps}
    with pytest.raises(TrainingError, match="no longer a number at step .* lower learning_rate"):
        sft.run(write_config(**values))


def test_weights_that_are_no_numbers_are_never_stored(warm, write_config, monkeypatch):
    class Poison(callbacks.LogFile):
        def on_step_begin(self, args, state, control, model=None, **_):
            if state.global_step == 3:
                with torch.no_grad():
                    next(model.parameters()).fill_(float("nan"))

    values = {"model": str(warm("tiny")), **SFT, "max_steps": 6, "logging_steps": 100}
    monkeypatch.setattr(callbacks, "LogFile", Poison)
    with pytest.raises(TrainingError, match="at step 4; .*; checkpoint-2 holds the last sound"):
        sft.run(write_config(**values, save_steps=2))
    folder = Path(load_train_config("sft", write_config(**values)).output_dir)
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == ["checkpoint-2"]
    for tensor in load_file(folder / "checkpoint-2" / "model.safetensors").values():
        assert tensor.isfinite().all()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("name", ["optimizer.pt", "training_args.bin"])
def test_a_full_disk_leaves_the_last_checkpoint(warm, write_config, monkeypatch, name):
    class Fill(callbacks.LogFile):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 4:
                folder = Path(args.output_dir, "checkpoint-4")
                folder.mkdir()
                (folder / name).symlink_to("/dev/full")  # every write to it fails with ENOSPC

    plain = callbacks.LogFile
    monkeypatch.setattr(callbacks, "LogFile", Fill)
    path = write_config(model=str(warm("tiny")), **SFT | {"max_steps": 4}, save_steps=2)
    message = "the disk is full; .* goes on from checkpoint-2"
    with pytest.raises(TrainingError, match=message) as info:
        sft.run(path)
    assert "\n" not in str(info.value)
    folder = load_train_config("sft", path).output_dir
    assert [p.name for p in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.setattr(callbacks, "LogFile", plain)
    sft.run(path)
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


# --- Two stages --------------------------------------------------------------------------------

STAGED: dict[str, Any] = {
    "cold-start": {**SFT, "max_steps": 2, "completion": {"style": "compact"}},
    "grpo": {k: v for k, v in GRPO.items() if k != "lora"} | {"max_steps": 1},
}


@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_two_stages(tiny, write_config, tmp_path, lora):
    path = write_config(**STAGED, lora=lora)
    first, second = tmp_path / "run" / "cold-start", tmp_path / "run" / "grpo"
    assert sft.run(path, ["cold-start.max_steps=1"]) == first
    assert not second.exists()
    assert grpo.run(path) == second
    run = json.loads((second / "run.json").read_text())
    assert (run["kind"], run["status"]) == ("grpo", "done")
    expected = (str(first), None) if lora is None else (str(first / "base"), str(first))
    assert (run["model"], run["adapter"]) == expected
    assert json.loads((first / "run.json").read_text())["step"] == 2


def test_the_first_model_is_gone_before_the_second_is_loaded(tiny, write_config, monkeypatch):
    first = []

    def load_first(*arguments):
        loaded = load_initial_model(*arguments)
        first.extend(weakref.ref(weight) for weight in loaded[0].parameters())
        return loaded

    def load_second(*arguments):
        assert first and not any(weight() is not None for weight in first)
        return load_initial_model(*arguments)

    monkeypatch.setattr(sft, "load_initial_model", load_first)
    monkeypatch.setattr(grpo, "load_initial_model", load_second)
    assert grpo.run(write_config(**STAGED)).name == "grpo"


def test_the_second_stage_is_checked_before_the_first_begins(write_config, tmp_path):
    for grpo_block, message in [
        ({"num_generations": 3}, "config.yaml: grpo: num_generations: 3 does not divide"),
        ({"completion": {}}, "config.yaml: grpo: completion: only for tvr train sft"),
        ({"lr_scheduler_type": "sometimes"}, "config.yaml: grpo: .*sometimes"),
        ([1], "config.yaml: grpo: must be a block of keys"),
    ]:
        with pytest.raises(ConfigError, match=message):
            grpo.run(write_config(**STAGED | {"grpo": grpo_block}))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="cold-start: there is no such block"):
        sft.run(write_config(grpo={}))


def test_the_entry_point_of_launchers(write_config, capsys):
    path = write_config(num_generations=3)
    assert grpo.main([str(path)]) == 2
    output = capsys.readouterr()
    assert re.fullmatch(r"training.grpo: .*num_generations: 3 does not divide.*\n", output.err)
    assert grpo.main([str(path), "--set", "max_stepz=3"]) == 2
    assert "max_stepz: unknown key; did you mean max_steps?" in capsys.readouterr().err


def test_a_right_configuration_passes_the_checks(write_config, dataset):
    config = load_train_config("grpo", write_config())
    assert check_config(config).root == dataset.root
