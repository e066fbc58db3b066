"""Samples that could not be made: one bad sample ends no run, many do."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from star_tvr.generator.blender_process import RenderedSample, RenderJob
from star_tvr.generator.errors import RenderError
from star_tvr.scenes.errors import PlanError, TvrError

Outcome = tuple[RenderJob, RenderedSample | TvrError]
"""A job, and what came of it."""

MOST_FAILURES = 5
"""Samples that may fail before a run in which more fail than succeed is stopped."""


@dataclass
class Failures:
    """The samples that could not be made, reported together once the others are.

    Attributes:
        asked: number of samples to make.
        made: number of samples that were.
    """

    asked: int
    made: int = 0
    errors: list[TvrError] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Number of samples that were neither made nor failed."""
        return self.asked - self.made - len(self.errors)

    def add(self, error: TvrError) -> None:
        """Note a sample that failed; raise at once for what is no sample's fault.

        Also raises when more than a few samples have failed, and more than were made.
        """
        if not isinstance(error, PlanError | RenderError):
            raise error
        self.errors.append(error)
        if len(self.errors) > max(MOST_FAILURES, self.made):
            self.report()

    def report(self) -> None:
        """Raise the first error, if there is one, saying how many more samples failed.

        Without an error, fewer samples than asked for are one.
        """
        if self.errors:
            others = len(self.errors) - 1
            more = f" (and {others} more failed)" if others else ""
            raise type(self.errors[0])(f"{self.errors[0]}{more}")
        if self.left:
            raise RenderError(
                f"{self.made} of {self.asked} samples were made; run the same command again"
            )


def render_all(outcomes: Generator[Outcome | None], asked: int) -> Iterator[RenderedSample]:
    """The samples that come of some jobs; those that could not be made are reported at the end.

    Raises:
        TvrError: as `Failures.add` and `Failures.report`.
    """
    failures = Failures(asked)
    with closing(outcomes):
        for outcome in outcomes:
            if outcome is None:
                continue
            if isinstance(outcome[1], TvrError):
                failures.add(outcome[1])
            else:
                failures.made += 1
                yield outcome[1]
            if not failures.left:
                break
    failures.report()
