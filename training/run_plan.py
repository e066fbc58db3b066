"""What a run will do and need, without a GPU and without weights: `tvr train … --check`."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.config import read_yaml
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.checks import check_config
from star_tvr.training.config import Kind, TrainConfig, load_stages
from star_tvr.training.memory import Batch, Memory, Sharding, estimate_memory
from star_tvr.training.models import (
    adapters_to_train,
    build_skeleton,
    in_decoder,
    quiet_libraries,
    vision_parameters,
)
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.rows import RowReader, row_reader
from star_tvr.training.skeletons import find_model
from star_tvr.training.training_rows import count_rows
from star_tvr.training.trl_arguments import trainer_arguments

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

COUNTED = 200
"""Questions of a split whose tokens are counted, evenly chosen; all of a smaller one."""

GPU_MEMORY = 80 * 2**30
"""Of the GPU that `vllm_gpu_memory_utilization` is a share of, where none is here."""


@dataclass(frozen=True)
class Tokens:
    """How long questions are, in tokens of the model.

    Attributes:
        least, median, most: of a prompt with its pictures.
        pictures: of these, those of the two pictures.
        taught: the most of a completion that SFT teaches; 0 for GRPO.
        longest: the most of a prompt with its completion; without one, of a prompt.
        questions: how many were counted.
        counted: whether by the model's own processor; otherwise they are estimated.
    """

    least: int
    median: int
    most: int
    pictures: int
    taught: int
    longest: int
    questions: int
    counted: bool


@dataclass(frozen=True)
class Steps:
    """How a run goes through its data.

    Attributes:
        pairs: questions of an epoch.
        questions: of a step, on average.
        completions: of a step, all processes.
        pass_size: sequences in one forward and backward pass of a process.
        answered: sequences that a process generates at once; 0 for SFT.
        epoch: steps of an epoch.
        total: steps of the run.
    """

    pairs: int
    questions: float
    completions: int
    pass_size: int
    answered: int
    epoch: float
    total: int


@dataclass(frozen=True)
class RunPlan:
    """All that is known of a run before it begins. `unchecked` says in words what is not."""

    kind: str
    source: str
    model: str
    known_from: str
    processes: int
    sharding: Sharding
    precision: str
    steps: Steps
    tokens: Tokens
    memory: Memory
    unchecked: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values; memory in bytes."""
        peaks = {k: getattr(self.memory, k) for k in ("learning", "generating", "peak")}
        document = asdict(self)
        return {**document, "memory": document["memory"] | peaks}


def plan_runs(
    kind: Kind,
    path: str | Path,
    overrides: Iterable[str] = (),
    gpus: int | None = None,
    launcher: Path | None = None,
) -> list[RunPlan]:
    """Work out all stages of a configuration. See `plan_run`.

    Args:
        kind: of training.
        path: of the configuration.
        overrides: `key=value`.
        gpus: how many processes train together; by default those of `launcher`, else one.
        launcher: a configuration of accelerate, which says what processes share.

    Raises:
        ConfigError, DataError: as the run itself would before it loads weights.
    """
    stages = load_stages(kind, path, overrides)
    processes: int = 1
    sharding: Sharding = "none"
    if launcher is not None:
        processes, sharding = read_launcher(launcher)
    return [
        plan_run(stage, gpus or processes, sharding, stages[k - 1] if k else None)
        for k, stage in enumerate(stages)
    ]


def read_launcher(path: Path) -> tuple[int, Sharding]:
    """The number of processes of a configuration of accelerate, and what they share.

    Raises:
        ConfigError: it is none.
    """
    document = read_yaml(path)
    processes = document.get("num_processes")
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
        raise ConfigError(f"{path}: num_processes: {processes!r} is no number of processes")
    kind = document.get("distributed_type")
    if kind == "FSDP":
        return processes, "zero3"
    if kind == "DEEPSPEED":
        stage = (document.get("deepspeed_config") or {}).get("zero_stage")
        return processes, "zero3" if stage == 3 else "zero2"
    return processes, "none"


def plan_run(
    config: TrainConfig,
    processes: int = 1,
    sharding: Sharding = "none",
    first: TrainConfig | None = None,
    lengths: tuple[int, int] | None = None,
) -> RunPlan:
    """Work out one stage of a run. Nothing is written, and no weight is loaded.

    Args:
        config: of the stage.
        processes: that train together.
        sharding: what they share.
        first: the stage before it, whose model it goes on with.
        lengths: tokens of the longest sequence, and of its completion, where they are known
            better than by the questions and `max_completion_length`.

    Raises:
        ConfigError, DataError: as the run itself would before it loads weights.
    """
    if config.fresh is not None:
        raise ConfigError(
            f"{config.source}: fresh: --check reads questions that are there; try it with those of "
            "a data set, as by --set fresh=null --set dataset=FOLDER --set split=cross-view/train"
        )
    quiet_libraries()
    dataset = check_config(config, model=False, processes=processes)
    args = trainer_arguments(config, processes)
    pairs = choose_pairs(dataset, config.split, config.rows.views)
    known, processor, known_from = find_model(first or config, dataset.world)
    reader = row_reader(config, dataset)
    some = [pairs[int(k)] for k in np.linspace(0, len(pairs) - 1, min(COUNTED, len(pairs)))]
    inputs = _question(config, known, processor, reader.row(some[0]), dataset)
    tokens = _count_tokens(config, known, processor, reader, some, inputs)
    steps = _count_steps(args, len(pairs))
    model, options = _skeleton(config, first, known)
    completion = tokens.taught if config.kind == "sft" else args.max_completion_length
    longest = tokens.longest if config.kind == "sft" else tokens.most + completion
    batch = Batch(
        steps.pass_size,
        *(lengths or (longest, completion)),
        answered=steps.answered,
        elsewhere=getattr(args, "use_vllm", False),
    )
    colocated = getattr(args, "use_vllm", False) and args.vllm_mode == "colocate"
    memory = estimate_memory(
        model,
        inputs,
        batch,
        autocast=options["autocast"],
        checkpointing=config.trainer["gradient_checkpointing"],
        accelerator=not config.trainer["use_cpu"],
        processes=processes,
        sharding=sharding,
        quantized=options["quantized"],
        reference=bool(config.trainer.get("beta")) and config.lora is None and not config.adapter,
        reserved=int(args.vllm_gpu_memory_utilization * GPU_MEMORY) if colocated else 0,
    )
    return RunPlan(
        kind=config.kind,
        source=config.source,
        model=config.model,
        known_from=known_from if first is None else f"{known_from}, after {first.kind}",
        processes=processes,
        sharding=sharding,
        precision=options["words"],
        steps=steps,
        tokens=tokens,
        memory=memory,
        unchecked=tuple(_unchecked(config, processor, first, processes, sharding)),
    )


def _count_steps(args: Any, pairs: int) -> Steps:
    rows = count_rows(args, pairs)
    processes = args.world_size
    size, passes = args.per_device_train_batch_size, args.gradient_accumulation_steps
    completions = size * passes * processes
    if hasattr(args, "num_generations"):
        questions = completions / args.num_generations / args.num_iterations
        answered = size * args.steps_per_generation
    else:
        questions, answered = float(completions), 0
    total = args.max_steps if args.max_steps > 0 else math.ceil(rows / questions)
    return Steps(pairs, questions, completions, size, answered, pairs / questions, total)


def _skeleton(
    config: TrainConfig, first: TrainConfig | None, known: "PretrainedConfig"
) -> tuple["PreTrainedModel", dict[str, Any]]:
    """The model as it will be trained, without values, and what is true of its numbers."""
    import torch
    from peft import get_peft_model

    adapted = config if config.lora is not None else first
    frozen = config.lora is not None or config.adapter is not None
    wanted = config.trainer.get("model_init_kwargs") or {}
    mixed = torch.bfloat16 if config.trainer["bf16"] else None
    mixed = torch.float16 if config.trainer.get("fp16") else mixed
    name = str(wanted.get("dtype", "bfloat16" if mixed and frozen else "float32"))
    dtype: torch.dtype = getattr(torch, name.removeprefix("torch."))
    attention = wanted.get("attn_implementation", "sdpa")
    # Other fused kernels take as much memory as sdpa.
    model = build_skeleton(
        known, dtype=dtype, attn_implementation="eager" if attention == "eager" else "sdpa"
    )
    quantized = {}
    if config.quantization is not None:
        # With NF4, a scale of 8 bits for 64 weights, and one of 32 for 256 scales.
        bytes_of = 0.5 + 1 / 64 + 4 / (64 * 256) if config.quantization == "4bit" else 1.0
        linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        quantized = {f"{n}.weight": bytes_of for n in linear if in_decoder(model, n)}
    if config.vision_tower == "frozen" and not frozen:
        for weight in vision_parameters(model):
            weight.requires_grad_(False)
    if frozen and adapted is not None and (lora := adapters_to_train(adapted, model)) is not None:
        model = get_peft_model(model, lora)
        for key, weight in model.named_parameters():
            if config.quantization and weight.requires_grad and "magnitude" not in key:
                weight.data = weight.data.to(torch.bfloat16)  # as TRL does
        quantized = {
            f"base_model.model.{n.removesuffix('.weight')}{layer}.weight": size
            for n, size in quantized.items()
            for layer in ("", ".base_layer")
        }
    model.train()
    if config.trainer["gradient_checkpointing"] and frozen:
        model.enable_input_require_grads()  # as TRL does
    words = f"weights {name.removeprefix('torch.')}"
    words += f" ({config.quantization})" if config.quantization else ""
    words += f", computed in {str(mixed).removeprefix('torch.')}" if mixed else ""
    return model, {"autocast": mixed, "quantized": quantized, "words": words}


def _question(
    config: TrainConfig,
    known: "PretrainedConfig",
    processor: "ProcessorMixin | None",
    row: dict[str, Any],
    dataset: Dataset,
) -> dict[str, "torch.Tensor"]:
    """What the model is given for one question: by its processor, or by its patch arithmetic."""
    import torch

    if processor is not None:
        text = _chat(processor, row["prompt"])
        return dict(processor(images=[row["images"]], text=[text], return_tensors="pt"))
    from transformers import Qwen2VLImageProcessor

    pictures = Qwen2VLImageProcessor(**config.processor)(images=row["images"], return_tensors="pt")
    merged = known.vision_config.spatial_merge_size**2
    ids: list[int] = []
    for grid in pictures["image_grid_thw"].tolist():
        patches = [known.image_token_id] * (math.prod(grid) // merged)
        ids += [known.vision_start_token_id, *patches, known.vision_end_token_id]
    ids += [0] * _estimated_tokens("\n".join(map(_text, row["prompt"])))
    tokens = torch.tensor([ids])
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "mm_token_type_ids": (tokens == known.image_token_id).long(),
        **dict(pictures),
    }


def _chat(processor: Any, messages: Sequence[dict[str, Any]]) -> str:
    """The text that the model reads, with one mark for each picture."""
    from trl.data_utils import prepare_multimodal_messages

    marked = prepare_multimodal_messages(list(messages), images=[None, None])
    return str(processor.apply_chat_template(marked, add_generation_prompt=True, tokenize=False))


def _text(message: dict[str, Any]) -> str:
    """The words of a message, without its pictures."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _estimated_tokens(text: str) -> int:
    """About as many tokens as tokenizers of some 150,000 tokens make: words, digits, signs."""
    return len(re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", text)) + 16


def _count_tokens(
    config: TrainConfig,
    known: "PretrainedConfig",
    processor: "ProcessorMixin | None",
    reader: RowReader,
    pairs: Sequence[Pair],
    inputs: dict[str, "torch.Tensor"],
) -> Tokens:
    """The lengths of some questions.

    All pictures of a data set have one size, so those of the first question tell of all.
    """
    prompts, taught = [], []
    for pair in pairs:
        row = reader.row(pair)
        answer = "".join(_text(message) for message in row.get("completion", ()))
        if processor is None:
            prompts.append(_estimated_tokens("\n".join(map(_text, row["prompt"]))))
            taught.append(_estimated_tokens(answer) if answer else 0)
        else:
            tokenizer: Any = processor.tokenizer
            prompts.append(len(tokenizer(_chat(processor, row["prompt"]))["input_ids"]))
            # The end of the turn, and a line break.
            taught.append(len(tokenizer(answer)["input_ids"]) + 2 if answer else 0)
    pictures = inputs["input_ids"].shape[1] - prompts[0]
    lengths = np.array(prompts) + pictures
    return Tokens(
        least=int(lengths.min()),
        median=int(np.median(lengths)),
        most=int(lengths.max()),
        pictures=pictures,
        taught=max(taught),
        longest=int((lengths + np.array(taught)).max()),
        questions=len(pairs),
        counted=processor is not None,
    )


def _unchecked(
    config: TrainConfig,
    processor: "ProcessorMixin | None",
    first: TrainConfig | None,
    processes: int,
    sharding: Sharding,
) -> list[str]:
    """What only the run itself will show."""
    said = ["that the weights are there, whole, and fit the skeleton"]
    if config.adapter is not None and first is None:
        said.append(f"the adapter {config.adapter}: its size is not in the memory")
    if processor is None:
        said.append("the processor: lengths of prompts are estimated")
    if not config.trainer["use_cpu"]:
        said.append("the GPU: its memory, its driver, and whether it knows bfloat16")
        said.append("0.5 to 1 GiB of CUDA itself, and the 5 to 20 % that PyTorch's allocator loses")
    if processes > 1:
        said.append("the network between the processes, and its buffers")
    if sharding != "none":
        said.append(
            "the layer that sharded processes gather at a time; DeepSpeed, which is not asked"
        )
    if config.trainer.get("use_vllm"):
        where = "its server" if config.trainer.get("vllm_mode") == "server" else "its engine"
        said.append(f"vLLM: that {where} starts and reads prompts as the trainer does")
    attention = (config.trainer.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa")
    if attention not in ("sdpa", "eager"):
        said.append(f"that {attention} is installed and knows the model")
    return said
