"""Validation while training: a split is asked every `eval_steps`, greedily, as `tvr evaluate` asks.

The trainer's own machinery does the rest: its log, the best checkpoint by `metric_for_best_model`,
`load_best_model_at_end`, early stopping.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.transformations import with_equivalents
from star_tvr.schemas.dataset import Dataset
from star_tvr.training.answers import truth_text
from star_tvr.training.backends import LONGEST, Decoding, Question, Response
from star_tvr.training.bootstrap import Estimate
from star_tvr.training.config import TrainConfig
from star_tvr.training.local_backend import LoadedModel
from star_tvr.training.metrics import Result, item_of, score_item
from star_tvr.training.metrics_report import estimate_metrics, mean_of
from star_tvr.training.models import load_model
from star_tvr.training.pairs import choose_questions
from star_tvr.training.parquet_dataset import open_dataset
from star_tvr.training.picture_size import seen_size
from star_tvr.training.rewards import Reward, score
from star_tvr.training.rows import RowReader

if TYPE_CHECKING:
    from transformers import ProcessorMixin, Trainer

BEST = ("tacc", "reward", "format")
"""What a checkpoint can be the best by; more is better in each."""


def check_validation(config: TrainConfig) -> None:
    """Refuse what could not be validated, or would leave no best checkpoint.

    Raises:
        ConfigError: naming the key.
        DataError: a file of the split is damaged.
    """
    get = config.trainer.get
    strategy = str(get("eval_strategy", "no"))
    if config.validation is None:
        if strategy != "no":
            raise ConfigError(
                f"eval_strategy: {strategy}: there is nothing to ask; name a split, as in "
                "validation: {split: cross-view/val}"
            )
        return
    if strategy != "steps":
        raise ConfigError(
            f"eval_strategy: {strategy}: validation goes by steps, since a run is one epoch to the "
            "trainer; leave it out"
        )
    if get("save_strategy", "steps") == "best":
        raise ConfigError(
            "save_strategy: best leaves nothing to go on from after an interruption; leave it out, "
            "the best checkpoint is kept in any case"
        )
    every, saved = get("eval_steps"), get("save_steps", 500)
    if isinstance(every, int) and isinstance(saved, int) and saved > 0 and every % saved:
        raise ConfigError(
            f"eval_steps: {every} is no multiple of save_steps ({saved}), so the best step might "
            "have no checkpoint; leave it out, or change one of them"
        )
    metric = str(get("metric_for_best_model")).removeprefix("eval_")
    if metric not in BEST or not get("greater_is_better"):
        raise ConfigError(
            f"metric_for_best_model: {metric} is not one of {', '.join(BEST)}, of which more is "
            "better"
        )
    if config.fresh is not None and config.validation.dataset is None:
        raise ConfigError("validation.dataset: fresh data have no splits; name a data set")
    dataset = _open(config)
    if config.validation.split not in dataset.split_names():
        known = ", ".join(dataset.split_names())
        raise ConfigError(
            f"validation.split: there is no {config.validation.split} (known: {known})"
        )
    choose_questions(dataset, [config.validation.split], config.validation.limit)


def _open(config: TrainConfig) -> Dataset:
    """The data set with the split of a run that has a validation."""
    assert config.validation is not None
    return open_dataset(config.validation.dataset or config.dataset, config.validation.split)


@dataclass(frozen=True)
class Validation:
    """What is asked while training, and what an answer earns.

    Attributes:
        questions: in the order in which they are asked.
        reader: makes them, worded as in training, without its variations.
        decoding: greedy, as long as in training.
        reward: what the policy is trained for; in supervised fine-tuning the default one.
    """

    questions: Sequence[Question]
    reader: RowReader
    decoding: Decoding
    reward: Reward

    @classmethod
    def of(cls, config: TrainConfig, processor: "ProcessorMixin") -> "Validation | None":
        """That of a run, if it has one."""
        if config.validation is None:
            return None
        asked = config.validation
        dataset = _open(config)
        pairs = choose_questions(dataset, [asked.split], asked.limit)
        length = asked.max_new_tokens or config.trainer.get("max_completion_length") or LONGEST
        return cls(
            [Question(pair, 0) for pair in pairs],
            RowReader(dataset, config.prompt, seen=seen_size(processor, dataset)),
            Decoding(length, temperature=0.0),
            config.reward.resolve(),
        )

    def ask(self, trainer: "Trainer") -> list[Response]:
        """What the policy says to each question now; every process asks its share."""
        from accelerate.utils import gather_object

        args = trainer.args
        # Sharded weights are gathered by all processes together, so each has as many batches.
        longest = math.ceil(len(self.questions) / args.world_size)
        share = list(self.questions[args.process_index :: args.world_size])
        share += self.questions[: longest - len(share)]
        size = args.per_device_eval_batch_size
        answers: list[Response] = []
        with policy(trainer) as model:
            loaded = LoadedModel(self.reader, model, trainer.processing_class, self.decoding)
            for start in range(0, longest, size):
                answers += loaded.complete(share[start : start + size])
        found = {answer.question: answer for answer in gather_object(answers)}
        return [found[question] for question in self.questions]

    def measure(self, answers: Sequence[Response]) -> dict[str, float]:
        """Figures of some answers, and 95 % bootstrap intervals over scenes."""
        world, rewards = self.reader.dataset.world, {}
        results = []
        for answer in answers:
            pair = answer.question.pair
            plan = self.reader.dataset.sample(pair.sample).plan
            results.append(score_item(item_of(plan, pair, world, answer.completion)))
            truth = truth_text(with_equivalents(plan.initial, plan.transformations, world))
            rewards[pair] = score(answer.completion, truth, self.reward).total

        def reward_of(result: Result) -> float:
            return rewards[result.pair]

        estimates = estimate_metrics(results)
        figures: dict[str, Estimate] = {
            "tacc": estimates["tacc"],
            "reward": mean_of(results, reward_of),
            "count_gap": estimates["count_gap"],
            "format": estimates["format"],
        }
        found: dict[str, float] = {}
        for name, estimate in figures.items():
            for key, value in (
                ("", estimate.value),
                ("_low", estimate.low),
                ("_high", estimate.high),
            ):
                assert value is not None  # there are answers
                found[f"{name}{key}"] = value
        lengths = [answer.completion_tokens or 0 for answer in answers]
        cut = sum(answer.finish_reason == "length" for answer in answers)
        return found | {
            "truncated": cut / len(answers),
            "mean_length": sum(lengths) / len(lengths),
            "questions": len(answers),
        }


@contextmanager
def policy(trainer: "Trainer") -> Iterator[Any]:
    """The model that is being trained, whole and ready to answer; afterwards it is as before."""
    from trl.distributed import DistributedBackend
    from trl.models import unwrap_model_for_generation

    args, wrapped = trainer.args, trainer.model_wrapped
    modes = [(module, module.training) for module in wrapped.modules()]
    with (
        unwrap_model_for_generation(
            wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=getattr(args, "ds3_gather_for_generation", True),
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as model,
        DistributedBackend(trainer.accelerator).summon_full_params(wrapped, recurse=False),
    ):
        model.eval()
        try:
            yield model
        finally:
            for module, training in modes:
                module.training = training


def validating(trainer: type[Any], validation: Validation | None) -> type[Any]:
    """A trainer of TRL's that asks our questions instead of measuring a loss.

    Args:
        trainer: SFTTrainer or GRPOTrainer.
        validation: what it asks; None leaves the trainer as it is.
    """
    if validation is None:
        return trainer
    from transformers import Trainer

    asked = validation

    class ValidatingTrainer(trainer):
        control: Any

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            """Ask, and log the figures as `eval_tacc` and so on."""
            began = time.monotonic()
            figures = asked.measure(asked.ask(self))
            metrics = {f"eval_{name}": value for name, value in figures.items()}
            metrics["eval_runtime"] = time.monotonic() - began
            # Not TRL's own `log`, which would add the figures of the step under way.
            Trainer.log(self, metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            return metrics

        def _load_best_model(self) -> None:
            """Load all weights by their names in the files, as `load_initial_model` does."""
            folder = Path(self.state.best_model_checkpoint)
            sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
            if sharded or not any(folder.glob("model*.safetensors")):
                super()._load_best_model()
                return
            self.model.load_state_dict(load_model(str(folder)).state_dict())

    ValidatingTrainer.__name__ = ValidatingTrainer.__qualname__ = trainer.__name__
    return ValidatingTrainer
