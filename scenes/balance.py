"""What sample `i` is about, so that every stretch of samples is balanced, without a memory.

Every factor is dealt like cards: its values are shuffled by a hash of the seed and dealt out in
full before the next deal begins. Where sample `i` stands in a deal follows from `i` alone, so
samples can be planned in any order and on any machine.

The outermost deal is over cells (visible objects, transformations). Within a cell a pattern of
distinct (object, attribute) pairs is drawn and then shifted through all objects and all
attributes at once, in the way of a Latin square; that balances both and keeps the pairs distinct.
Values and kinds of moves are dealt for each cell and attribute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm

from scenes.errors import ConfigError
from scenes.seeds import shuffled, stream
from scenes.transformations import Transformation


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
    values: dict[str, tuple[str, ...]]
    moves: tuple[str, ...]
    fixed: int
    possible: Callable[[tuple[tuple[str, str], ...]], bool]

    def task(self, index: int) -> Task:
        """The task of sample `index`; a pure function of the data set's factors."""
        cells = self.cells()
        block, place = divmod(index, len(cells))
        visible, count = self._cell_order(block)[place]
        total = self._total(visible, index)
        pairs, uses = self._pairs((visible, count), block)
        transformations: list[Transformation] = []
        moves: list[str | None] = []
        here = dict.fromkeys(self.attributes, 0)
        for target, attribute in pairs:
            position = uses[attribute] + here[attribute]
            here[attribute] += 1
            key = (visible, count, attribute)
            earlier = tuple(
                (t.attribute, t.value)
                for t in transformations
                if t.object == target and t.attribute != "position"
            )
            value = self._value(attribute, position, key, earlier)
            move = None
            if attribute == "position":
                alone = sum(o == target for o, _ in pairs) == 1
                hidden = shuffled(total - visible, self.seed, "entering", index)
                hidden = hidden[sum(m == "in" for m in moves) :]
                move = self._move(position, key, alone, len(hidden))
                if move == "in":
                    target = visible + hidden[0]
            transformations.append(Transformation(target, attribute, value))
            moves.append(move)
        return Task(visible, total, tuple(transformations), tuple(moves))

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
        cells = self.cells()
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

    def _pairs(
        self, cell: tuple[int, int], occurrence: int
    ) -> tuple[list[tuple[int, str]], dict[str, int]]:
        """The (object, attribute) pairs of one sample of a cell.

        Also how often each attribute was used in the cell's earlier samples; the sample is number
        `occurrence` of its cell.
        """
        visible, count = cell[0] - self.fixed, cell[1]
        kinds = len(self.attributes)
        period = lcm(visible, kinds)
        block, place = divmod(occurrence, period)
        chosen = stream(self.seed, "pairs", *cell, block).choice(visible * kinds, count, False)
        pattern = [divmod(int(p), kinds) for p in chosen]
        objects = shuffled(visible, self.seed, "object shift", *cell, block)
        attributes = shuffled(kinds, self.seed, "attribute shift", *cell, block)
        pairs = [
            (
                (o + objects[place % visible]) % visible,
                self.attributes[(a + attributes[place % kinds]) % kinds],
            )
            for o, a in pattern
        ]
        # Every whole period uses every attribute equally often.
        uses = dict.fromkeys(self.attributes, block * period * count // kinds)
        for earlier in range(place):
            for _, a in pattern:
                uses[self.attributes[(a + attributes[earlier % kinds]) % kinds]] += 1
        return pairs, uses

    def _value(
        self,
        attribute: str,
        position: int,
        key: tuple[int | str, ...],
        earlier: tuple[tuple[str, str], ...],
    ) -> str:
        """The value dealt, or else the next of the deck that constraints allow after `earlier`.

        Raises:
            ConfigError: constraints allow none.
        """
        values = self.values[attribute]
        deck, place = divmod(position, len(values))
        order = shuffled(len(values), self.seed, "value", *key, deck)
        for k in (*order[place:], *order[:place]):
            if attribute == "position" or self.possible((*earlier, (attribute, values[k]))):
                return values[k]
        raise ConfigError(f"world.constraints: no {attribute} can be given to an object")

    def _move(self, position: int, key: tuple[int | str, ...], alone: bool, hidden: int) -> str:
        """The kind of a move: the one dealt, or else the next one that is possible."""
        order = [self._deal(self.moves, position, "move", *key), *self.moves]
        possible = {"inner": True, "out": alone, "in": hidden > 0}
        for kind in order:
            if possible[kind]:
                return kind
        raise ConfigError(
            f"transformations.moves: none of {', '.join(self.moves)} is possible in a scene of "
            f"{key[0]} visible and {hidden} other objects; allow inner, or raise objects.total"
        )

    def _deal(self, cards: Sequence[str], position: int, *key: int | str) -> str:
        """The card at `position` of the endless row of shuffled decks that `key` names."""
        deck, place = divmod(position, len(cards))
        return cards[shuffled(len(cards), self.seed, *key, deck)[place]]
