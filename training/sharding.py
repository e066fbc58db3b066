"""Models whose weights are divided among processes, by FSDP2 or DeepSpeed's ZeRO-3."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer, TrainingArguments


def uses_zero3(args: "TrainingArguments") -> bool:
    """Whether DeepSpeed divides the weights, too, among the processes."""
    plugin = args.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3


def gather_output_layer(trainer: "Trainer") -> None:
    """Under FSDP2, have the output layer whole in every pass, so that its gradient is added up.

    accelerate makes the output layer of a vision-language model a unit of its own, which gathers
    its weight when it is called. TRL multiplies by that weight without calling the layer; finding
    it divided, it gathers it by `DTensor.full_tensor()`, whose gradient is each process's own, not
    the mean of all (accelerate 1.15, TRL 1.16). Gathered by FSDP2 itself, the gradient is reduced
    with those of all other layers after the backward pass, and the weight is divided again.
    """
    if not trainer.accelerator.is_fsdp2:
        return
    from torch.distributed.fsdp import FSDPModule

    def gather(model: Any, *_: Any) -> None:
        layer = model.get_output_embeddings()
        if isinstance(layer, FSDPModule):
            layer.unshard()

    assert trainer.model is not None
    trainer.model.register_forward_pre_hook(gather)


def local_part(weight: "Tensor") -> "Tensor":
    """The part of a weight that lies on this process; all of it where nothing is divided."""
    from torch.distributed.tensor import DTensor

    if isinstance(weight, DTensor):
        return weight.to_local()
    # Under ZeRO-3 the parameter itself is empty between passes.
    part: Tensor = getattr(weight, "ds_tensor", weight)
    return part
