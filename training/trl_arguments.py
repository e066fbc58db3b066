"""A configuration as the object that TRL's trainers take."""

from typing import TYPE_CHECKING, Any, cast

from star_tvr.scenes.errors import ConfigError
from star_tvr.training.config import TrainConfig
from star_tvr.training.models import quiet_libraries
from star_tvr.training.sharding import uses_zero3

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig


def trainer_arguments(
    config: TrainConfig, processes: int | None = None
) -> "SFTConfig | GRPOConfig":
    """TRL's configuration object.

    Args:
        config: of the run.
        processes: as it is where so many processes run, on whatever devices; None is here.

    Raises:
        ConfigError: TRL refuses a value or a combination, or is known to fail with it.
    """
    values = {k: v for k, v in config.trainer.items() if k != "model_init_kwargs"}
    try:
        quiet_libraries()
        import trl

        cls: Any = trl.SFTConfig if config.kind == "sft" else trl.GRPOConfig
        if processes is not None:
            cls = type(cls.__name__, (cls,), {"world_size": processes})
            values["use_cpu"] = True
        arguments = cls(output_dir=str(config.output_dir), disable_tqdm=True, **values)
    except (ValueError, TypeError, ImportError) as problem:
        raise ConfigError(f"{config.source}: {' '.join(str(problem).split())}") from None
    if uses_zero3(arguments) and config.adapter is not None and values.get("beta"):
        raise ConfigError(
            f"{config.source}: beta: {values['beta']} has TRL copy the adapter in float32, which "
            "ZeRO-3 cannot gather beside a model in bfloat16; set it to 0, or launch with "
            "examples/train/accelerate-fsdp2.yaml"
        )
    return cast("SFTConfig | GRPOConfig", arguments)
