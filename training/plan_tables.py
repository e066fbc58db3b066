"""What a run will do and need, as tables for a terminal."""

from rich.table import Table

from star_tvr.training.run_plan import RunPlan

PARTS = {
    "weights": "weights",
    "reference": "reference model",
    "optimizer": "moments of the optimizer",
    "reserved": "vLLM's share",
    "gradients": "gradients",
    "pictures": "pictures",
    "activations": "activations, kept for the backward pass",
    "working": "one layer at work",
    "casts": "weights in mixed precision",
    "logits": "logits, in tiles",
    "gathered": "all weights, gathered to answer",
    "cache": "cache of keys and values",
    "answering": "reading the prompts",
    "learning": "most while learning",
    "generating": "most while answering",
    "peak": "most of all",
}
"""The parts of `Memory`, in words."""


def plan_tables(plan: RunPlan) -> list[Table]:
    """The run, its memory, and what was not checked."""
    return [run_table(plan), memory_table(plan), unchecked_table(plan)]


def run_table(plan: RunPlan) -> Table:
    """What a run goes through."""
    tokens, steps, memory = plan.tokens, plan.steps, plan.memory
    result = Table("", "", title=plan.source, show_header=False)
    result.add_row("model", f"{plan.model}, by {plan.known_from}")
    share = f"{memory.trained:,} of {memory.parameters:,} ({plan.precision})"
    result.add_row("trained weights", share)
    shared = {
        "none": "each with the whole model",
        "zero2": "gradients and optimizer shared",
        "zero3": "everything shared",
    }
    sharing = f", {shared[plan.sharding]}" if plan.processes > 1 else ""
    result.add_row("processes", f"{plan.processes}{sharing}")
    how = "counted" if tokens.counted else "estimated, as the processor is not here"
    lengths = f"{tokens.least} to {tokens.most}, median {tokens.median}"
    result.add_row(
        "tokens of a prompt",
        f"{lengths}; {tokens.pictures} of them pictures ({tokens.questions} questions, {how})",
    )
    if tokens.taught:
        result.add_row("tokens taught", f"at most {tokens.taught}")
    result.add_row("questions of an epoch", f"{steps.pairs:,}")
    result.add_row("questions of a step", f"{steps.questions:g}")
    if steps.answered:
        result.add_row("answers of a step", f"{steps.completions:,}")
        result.add_row("answered at once", f"{steps.answered} by each process")
    result.add_row("learned from at once", f"{steps.pass_size} by each process")
    result.add_row("steps", f"{steps.total:,}; {steps.epoch:,.1f} an epoch")
    return result


def memory_table(plan: RunPlan) -> Table:
    """The memory of each process, part by part."""
    sizes = plan.to_json()["memory"]
    unit, name = (2**30, "GiB") if sizes["peak"] > 2**30 else (2**20, "MiB")
    result = Table("part", title="memory of each process, estimated")
    result.add_column(name, justify="right")
    for key, label in PARTS.items():
        if sizes[key]:
            if key == "learning":
                result.add_section()
            result.add_row(label, f"{sizes[key] / unit:,.1f}")
    return result


def unchecked_table(plan: RunPlan) -> Table:
    """What only the run itself will show."""
    result = Table("not checked")
    for line in plan.unchecked:
        result.add_row(line)
    return result
