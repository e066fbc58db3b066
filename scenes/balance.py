"""What sample `i` is about, so that every stretch of samples is balanced, without a memory.

Every factor is randomised in permuted blocks: a block holds each of its values once, in an order
shuffled by a hash of the seed. Where sample `i` stands in a block follows from `i` alone, so
samples can be planned in any order and on any machine.

The outermost blocks are over cells (visible objects, transformations). Within a cell the first
transformation, the second and so on each have blocks of their own, of objects and of attributes
apart. Values and kinds of moves have blocks for each (number of transformations, place, attribute),
which the cells of that number fill in turns. So all of these are balanced, and none of them tells
anything about another: what follows the first transformation of a sample is as open as if it were
drawn by lot from all that is possible.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import lcm

import numpy as np

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.seeds import derive, shuffled, stream
from star_tvr.scenes.transformations import Transformation

Pairs = list[tuple[int, str]]
"""(object, attribute) of every transformation of a sample."""

_MOVE_BLOCK = 48

_SWAPS = 2000
"""Swaps after which a block keeps pairs that are there twice; only very full cells need as many."""


@dataclass(frozen=True)
class Task:
    """What a sample has to show.

    Attributes:
        visible: number of objects in the visible area at the start; they have the first indices,
            and the fixed ones the last of these.
        total: number of objects.
        transformations: in the order in which they happen.
        moves: for every transformation `inner`, `out` or `in`, or None where nothing moves.
    """

    visible: int
    total: int
    transformations: tuple[Transformation, ...]
    moves: tuple[str | None, ...]


@dataclass(frozen=True)
class Balance:
    """The factors of a data set.

    Attributes:
        seed: of the whole data set.
        visible, count: ranges of the number of visible objects and of transformations.
        total: range of the number of objects; None for just the visible ones.
        attributes: those that may change.
        values: all values of each attribute.
        moves: the kinds of moves that may happen.
        fixed: number of visible objects that never change.
        possible: whether some object can go through these (attribute, value) changes in order.
    """

    seed: int
    visible: tuple[int, int]
    total: tuple[int, int] | None
    count: tuple[int, int]
    attributes: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    moves: tuple[str, ...]
    fixed: int
    possible: Callable[[tuple[tuple[str, str], ...]], bool]

    def task(self, index: int) -> Task:
        """The task of sample `index`; a pure function of the data set's factors."""
        block, place = divmod(index, len(self.cells))
        cell = self._cell_order(block)[place]
        visible, total = cell[0], self._total(cell[0], index)
        pairs = self._pairs(cell, block, index)
        turn = block // len(self.attributes)  # so often a place had each attribute before
        moves = self._moves(cell, pairs, turn, total - visible, index)
        leaving = {o for (o, _), m in zip(pairs, moves, strict=True) if m == "out"}
        pairs = self._relocated(pairs, leaving, visible, index) or pairs
        hidden = iter(shuffled(total - visible, self.seed, "entering", index))
        transformations: list[Transformation] = []
        for k, ((target, attribute), kind) in enumerate(zip(pairs, moves, strict=True)):
            target = visible + next(hidden) if kind == "in" else target
            earlier = tuple(
                (t.attribute, t.value)
                for t in transformations
                if t.object == target and t.attribute != "position"
            )
            position = self._position(cell, self._columns[cell[1]], turn, "value", k, attribute)
            value = self._value(attribute, position, (cell[1], k, attribute), earlier)
            transformations.append(Transformation(target, attribute, value))
        return Task(visible, total, tuple(transformations), moves)

    @cached_property
    def cells(self) -> list[tuple[int, int]]:
        """All (visible objects, transformations) for which distinct pairs exist.

        Raises:
            ConfigError: there is none.
        """
        cells = [
            (v, c)
            for v in range(self.visible[0], self._most_visible() + 1)
            for c in range(self.count[0], self.count[1] + 1)
            if c <= (v - self.fixed) * len(self.attributes)
        ]
        if not cells:
            raise ConfigError(
                f"transformations.count: {self.count[0]} transformations need more objects or more "
                f"attributes: an attribute of an object changes only once"
            )
        return cells

    def _most_visible(self) -> int:
        return self.visible[1] if self.total is None else min(self.visible[1], self.total[1])

    def _total(self, visible: int, index: int) -> int:
        if self.total is None:
            return visible
        smallest = max(self.total[0], visible)
        options = range(smallest, self.total[1] + 1)
        return options[int(stream(self.seed, "total", index).integers(len(options)))]

    def _cell_order(self, block: int) -> list[tuple[int, int]]:
        """The cells in an order whose every stretch is nearly balanced in both numbers."""
        cells = self.cells
        rows = sorted({v for v, _ in cells})
        columns = sorted({c for _, c in cells})
        row_order = shuffled(len(rows), self.seed, "visible", block)
        column_order = shuffled(len(columns), self.seed, "count", block)
        period = lcm(len(rows), len(columns))
        walk = [
            (
                rows[row_order[k % len(rows)]],
                columns[column_order[(k + k // period) % len(columns)]],
            )
            for k in range(len(rows) * len(columns))
        ]
        allowed = set(cells)
        return [cell for cell in walk if cell in allowed]

    def _pairs(self, cell: tuple[int, int], occurrence: int, index: int) -> Pairs:
        """The (object, attribute) pairs of sample `index`, number `occurrence` of its cell."""
        visible, count = cell[0] - self.fixed, cell[1]
        kinds = len(self.attributes)
        block, place = divmod(occurrence, lcm(visible, kinds))
        pairs = _distinct_pairs(visible, kinds, count, derive(self.seed, "pairs", *cell, block))
        chosen = list(dict.fromkeys(pairs[place]))
        if len(chosen) < count:  # a very full cell: what is there twice gives way to what is not
            rest = shuffled(visible * kinds, self.seed, "rest", index)
            free = [p for p in (divmod(k, kinds) for k in rest) if p not in chosen]
            chosen += free[: count - len(chosen)]
        return [(o, self.attributes[a]) for o, a in chosen]

    @cached_property
    def _columns(self) -> dict[int, list[tuple[int, int]]]:
        """The cells of every number of transformations."""
        return {n: [cell for cell in self.cells if cell[1] == n] for _, n in self.cells}

    @cached_property
    def _alike(self) -> dict[tuple[int, int], tuple[tuple[str, ...], list[tuple[int, int]]]]:
        """Of every cell, the kinds of moves that are possible, and the cells that share its blocks.

        These are those of its number of transformations that have the same kinds.
        """
        kinds = {cell: self._cell_moves(cell) for cell in self.cells}
        return {
            cell: (here, [other for other in self._columns[cell[1]] if kinds[other] == here])
            for cell, here in kinds.items()
        }

    def _position(
        self, cell: tuple[int, int], sharing: list[tuple[int, int]], turn: int, *key: int | str
    ) -> int:
        """Where a cell stands in blocks that several cells share, each once in every turn."""
        order = shuffled(len(sharing), self.seed, "turn", *key, cell[1], turn)
        return turn * len(sharing) + order[sharing.index(cell)]

    def _value(
        self,
        attribute: str,
        position: int,
        key: tuple[int | str, ...],
        earlier: tuple[tuple[str, str], ...],
    ) -> str:
        """The value whose turn it is, or the next of its block that constraints allow.

        Raises:
            ConfigError: constraints allow none.
        """
        values = self.values[attribute]
        block, place = divmod(position, len(values))
        order = shuffled(len(values), self.seed, "value", *key, block)
        for k in (*order[place:], *order[:place]):
            if attribute == "position" or self.possible((*earlier, (attribute, values[k]))):
                return values[k]
        raise ConfigError(f"world.constraints: no {attribute} can be given to an object")

    def _moves(
        self, cell: tuple[int, int], pairs: Pairs, turn: int, hidden: int, index: int
    ) -> tuple[str | None, ...]:
        """The kind of move of every pair: the one whose turn it is, or the next that is possible.

        An object that leaves must not change otherwise; the other changes then go to other
        objects, if there are any. An object can come in only if one is outside.
        """
        if all(attribute != "position" for _, attribute in pairs):
            return (None,) * len(pairs)
        here, sharing = self._alike[cell]
        block = self._move_block(here)
        kinds: list[str | None] = []
        leaving: set[int] = set()
        for k, (target, attribute) in enumerate(pairs):
            if attribute != "position":
                kinds.append(None)
                continue
            possible = {
                "inner": True,
                "out": self._relocated(pairs, leaving | {target}, cell[0], index) is not None,
                "in": kinds.count("in") < hidden,
            }
            position = self._position(cell, sharing, turn, "move", k)
            due = self._from_blocks(block, position, "move", cell[1], k, *here)
            order = (due, *reversed(self.moves))  # inner, always possible, comes last
            kind = next((k for k in order if possible[k]), None)
            if kind is None:
                raise ConfigError(
                    f"transformations.moves: none of {', '.join(self.moves)} is possible in a "
                    f"scene of {cell[0]} visible and {hidden} other objects; allow inner, or raise "
                    f"objects.total"
                )
            if kind == "out":
                leaving.add(target)
            kinds.append(kind)
        return tuple(kinds)

    def _relocated(self, pairs: Pairs, leaving: set[int], visible: int, index: int) -> Pairs | None:
        """The pairs with nothing else happening to the leaving objects; None if impossible."""
        result: Pairs = [(o, a) for o, a in pairs if o not in leaving or a == "position"]
        moved = {}
        others = shuffled(visible - self.fixed, self.seed, "instead", index)
        for o, a in pairs:
            if o in leaving and a != "position":
                new = next((k for k in others if k not in leaving and (k, a) not in result), None)
                if new is None:
                    return None
                moved[o, a] = (new, a)
                result.append((new, a))
        return [moved.get(pair, pair) for pair in pairs]

    def _cell_moves(self, cell: tuple[int, int]) -> tuple[str, ...]:
        """The kinds of moves that are possible in a cell at all."""
        visible, count = cell
        most = visible if self.total is None else self.total[1]
        never = {
            "out": count > 1 and visible - self.fixed == 1,
            "in": most == visible,
        }
        return tuple(m for m in self.moves if not never.get(m)) or self.moves

    def _move_block(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """What a block of moves holds in cells where these kinds are possible.

        Cells where a kind is missing have the others evenly. Cells where all are possible make up
        for it, so that all kinds are equally frequent in the whole data set.
        """
        return kinds if len(kinds) < len(self.moves) else self._even_moves

    @cached_property
    def _even_moves(self) -> tuple[str, ...]:
        share = dict.fromkeys(self.moves, 0.0)
        rest = 0.0
        for cell in self.cells:
            here = self._cell_moves(cell)
            if len(here) == len(self.moves):
                rest += cell[1]
            for kind in here if len(here) < len(self.moves) else ():
                share[kind] += cell[1] / len(here)
        even = (rest + sum(share.values())) / len(self.moves)
        wanted = {kind: max(0.0, even - share[kind]) for kind in self.moves}
        times = {
            kind: round(_MOVE_BLOCK * w / max(sum(wanted.values()), 1e-9))
            for kind, w in wanted.items()
        }
        return tuple(kind for kind, number in times.items() for _ in range(number)) or self.moves

    def _from_blocks(self, block: Sequence[str], position: int, *key: int | str) -> str:
        """What is at `position` of the endless row of permuted blocks that `key` names."""
        number, place = divmod(position, len(block))
        return block[shuffled(len(block), self.seed, *key, number)[place]]


@lru_cache(4096)
def _distinct_pairs(
    objects: int, attributes: int, count: int, seed: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Pairs (object, attribute) of the samples of a block, as far as possible distinct in each.

    Each of a sample's `count` places goes through blocks of all objects and blocks of all
    attributes. A pair that a sample has already is exchanged for one drawn from all pairs: its
    object and its attribute are swapped with those samples of their blocks that have the drawn
    ones. So each pair of a sample is as likely as any other, whatever its other pairs are.
    """
    length = lcm(objects, attributes)
    rng = np.random.Generator(np.random.PCG64(seed))
    samples: list[dict[tuple[int, int], None]] = [{} for _ in range(length)]  # sets with an order
    swaps = _SWAPS
    for _ in range(count):
        lines = [
            [int(v) for _ in range(length // size) for v in rng.permutation(size)]
            for size in (objects, attributes)
        ]
        twice: set[int] = set()
        touched: Iterable[int] = range(length)
        while True:
            for n in touched:
                (twice.add if (lines[0][n], lines[1][n]) in samples[n] else twice.discard)(n)
            if not twice or not swaps:
                break
            swaps -= 1
            n = sorted(twice)[int(rng.integers(len(twice)))]
            touched = [n]
            drawn = divmod(int(rng.integers(objects * attributes)), attributes)
            for line, size, value in zip(lines, (objects, attributes), drawn, strict=True):
                m = line.index(value, n - n % size)
                line[n], line[m] = line[m], line[n]
                touched.append(m)
        for n, pair in enumerate(zip(*lines, strict=True)):
            samples[n][pair] = None
    return tuple(map(tuple, samples))
