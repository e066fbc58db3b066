"""From (configuration, seed, i) to the plan of sample `i`.

The task comes from `balance`; a layout that shows it is then searched for. Only the layout is
drawn again when a rule does not hold, never the task, so the rules cannot bend the balance.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import product

import numpy as np

from star_tvr.scenes.balance import Balance, Task
from star_tvr.scenes.cameras import Camera, angle_between
from star_tvr.scenes.config import DatasetConfig, LightVariationConfig, ShellConfig
from star_tvr.scenes.errors import ConfigError, PlanError
from star_tvr.scenes.plan import Light, Plan
from star_tvr.scenes.rules import hidden_changes, hidden_in_some_form
from star_tvr.scenes.seeds import sample_seed, stream
from star_tvr.scenes.states import SceneObject, State, on_grid
from star_tvr.scenes.transformations import apply, move
from star_tvr.scenes.visibility import Silhouette
from star_tvr.scenes.world import APPEARANCE, World

Rng = np.random.Generator
Appearance = dict[str, str]
"""Shape, size, color and material of an object."""
Steps = tuple[tuple[str, str], ...]
"""(attribute, value) changes of one object, in order."""
Triple = tuple[float, float, float]
Shift = tuple[float, float]

DRAWS_APART = 2**40
"""Where the next draw of a sample lies in the endless row of plans."""

CAMERA_TRIES = 100
MOST_MOVES = 50
"""Moves of objects that could be hidden, until a layout is given up."""

_CURES = {
    "no-overlap": "ask for fewer or smaller objects",
    "observable": "ask for fewer objects or lower visibility.min_pixels",
    "camera-angle": "widen cameras.shell.angle or the ranges of the shell",
}


class Rejected(Exception):
    """A layout that breaks a rule; `args[0]` names the rule. Another layout is tried."""


@dataclass(frozen=True)
class Sampler:
    """Plans the samples of one configuration.

    >>> from star_tvr.schemas.config import load_config
    >>> plan = Sampler.from_config(load_config("star")).plan(0)
    >>> plan == Sampler.from_config(load_config("star")).plan(0)
    True
    """

    config: DatasetConfig
    balance: Balance
    combinations: Callable[[Steps], list[Appearance]]

    @classmethod
    def from_config(cls, config: DatasetConfig) -> "Sampler":
        """Prepare for a resolved configuration.

        Raises:
            ConfigError: no scene can satisfy it.
        """
        world = config.world
        combinations = lru_cache(1024)(partial(_combinations, world))
        objects, changes = config.objects, config.transformations
        balance = Balance(
            seed=config.scene_seed,
            visible=objects.visible,
            total=objects.total,
            count=changes.count,
            attributes=changes.attributes,
            values={a: world.values(a) for a in changes.attributes},
            moves=changes.moves,
            fixed=len(objects.fixed),
            possible=lambda steps: bool(combinations(steps)),
        )
        _refuse_full_area(world, balance)
        return cls(config, balance, combinations)

    @property
    def world(self) -> World:
        """What objects can be and where."""
        return self.config.world

    @cached_property
    def _moves(self) -> list[Shift]:
        """Every displacement that a move can be, if things can move."""
        if "position" not in self.config.transformations.attributes:
            return []
        return [move(value, self.world) for value in self.world.values("position")]

    @cached_property
    def _reach(self) -> float:
        """The longest of them."""
        return max((float(np.hypot(*step)) for step in self._moves), default=0.0)

    @cached_property
    def _inner_world(self) -> World:
        """The world with the visible area from where every move stays in it."""
        longest = max((abs(d) for step in self._moves for d in step), default=0.0)
        area = self.world.visible_area - longest
        return self.world.model_copy(update={"visible_area": area})

    def plan(self, index: int, draw: int = 0) -> Plan:
        """The plan of sample `index`: a pure function of the configuration and the arguments.

        Args:
            draw: which of the plans that the sample can have: 0 is the one of a data set that is
                rendered in one go; others take its place where that cannot be rendered.

        Raises:
            PlanError: no layout was found in the allowed number of tries.
        """
        place = index + draw * DRAWS_APART
        seed = sample_seed(self.balance.seed, place)
        task = self.balance.task(place)
        failures: Counter[str] = Counter()
        for attempt in range(self.config.tries):
            try:
                plan = self._attempt(index, seed, task, stream(seed, "layout", attempt))
            except Rejected as broken:
                failures[str(broken)] += 1
            else:
                return replace(plan, draw=draw)
        hardest = ", ".join(f"{rule} {times} times" for rule, times in failures.most_common())
        cure = _CURES[failures.most_common(1)[0][0]]
        raise PlanError(
            f"sample {index:06d}: no layout in {self.config.tries} tries "
            f"(rules that failed: {hardest}); {cure}, or raise tries"
        )

    def _attempt(self, index: int, seed: int, task: Task, rng: Rng) -> Plan:
        cameras, views = self._cameras(rng)
        if self.config.intermediate:
            finals = [camera for state, camera in views if state == "final"]
            views += tuple(
                (f"step-{k}", camera)
                for k in range(1, len(task.transformations))
                for camera in finals
            )
        initial = self._place(task, self._attributes(task, rng), rng)
        if self.config.visibility.unbiased:
            initial = self._uncovered(initial, cameras.values(), rng)
        final = initial
        for transformation in task.transformations:
            final = apply(final, transformation, self.world)
        if "rotation" in self.config.transformations.distractors:
            final = _turned(initial, final, rng)
        plan = Plan(
            id=f"{index:06d}",
            seed=seed,
            preset=self.config.preset,
            cameras=cameras,
            views=views,
            lights=self._lights(rng),
            initial=initial,
            final=final,
            transformations=task.transformations,
        )
        image, visibility = self.config.image, self.config.visibility
        if not visibility.unbiased and hidden_changes(
            plan, self.world, visibility.min_pixels, image.width, image.height
        ):
            raise Rejected("observable")
        return plan

    def _attributes(self, task: Task, rng: Rng) -> list[Appearance]:
        """Attributes of all objects at the start; a value to be given later is never there yet.

        Raises:
            ConfigError: a fixed object is not allowed by the constraints.
        """
        fixed = self.config.objects.fixed
        first_fixed = task.visible - len(fixed)
        objects = []
        for index in range(task.total):
            steps = tuple(
                (t.attribute, t.value)
                for t in task.transformations
                if t.object == index and t.attribute != "position"
            )
            options = self.combinations(steps)
            if first_fixed <= index < task.visible:
                asked = fixed[index - first_fixed]
                options = [o for o in options if all(o[k] == v for k, v in asked.items())]
                if not options:
                    raise ConfigError(f"objects.fixed: {asked} is against world.constraints")
            objects.append(options[int(rng.integers(len(options)))])
        return objects

    def _place(self, task: Task, attributes: list[Appearance], rng: Rng) -> State:
        """Find a place for every object that is free in every state.

        Objects with most changes are placed first, while there is most room.

        Raises:
            Rejected: an object finds no place.
        """
        tracks = [_track(k, attributes[k], task, self.world) for k in range(task.total)]
        changes = Counter(t.object for t in task.transformations)
        if self.config.visibility.unbiased:  # as if any of them could change in any way
            largest = max(self.world.sizes.values())
            radii = [
                largest + self._reach if k < task.visible else largest for k in range(task.total)
            ]
            tracks = [_Track((radius,), ((0.0, 0.0),)) for radius in radii]
            changes.clear()
        tie = rng.permutation(task.total)
        order = sorted(
            range(task.total), key=lambda k: (-max(tracks[k].radii), -changes[k], tie[k])
        )
        kinds = {t.object: m for t, m in zip(task.transformations, task.moves, strict=True) if m}
        places: dict[int, tuple[float, float]] = {}
        for k in order:
            zone = _Zone(self.world, k < task.visible, kinds.get(k), tracks[k].shifts[-1])
            if self.config.visibility.unbiased and k < task.visible:
                zone = _Zone(self._inner_world, True, None, (0.0, 0.0))
            circles = [
                circle
                for other, place in places.items()
                for circle in _circles(tracks[k], tracks[other], place, self.world.gap)
            ]
            places[k] = zone.draw(circles, rng)
        turns = rng.uniform(0.0, 2 * np.pi, task.total)
        return tuple(
            SceneObject(
                index=k,
                x=places[k][0],
                y=places[k][1],
                rotation=on_grid(float(turns[k])),
                **attributes[k],
            )
            for k in range(task.total)
        )

    def _uncovered(self, state: State, cameras: Iterable[Camera], rng: Rng) -> State:
        """Move objects that could be hidden to other places until none could.

        Raises:
            Rejected: it took too many moves.
        """
        world, image, least = self.world, self.config.image, self.config.visibility.min_pixels
        apart = (2 * (max(world.sizes.values()) + self._reach) + world.gap - 1e-9) ** 2
        size = image.width, image.height
        known: dict[tuple[SceneObject, Camera], Silhouette] = {}
        for _ in range(MOST_MOVES):
            hidden = hidden_in_some_form(state, cameras, world, least, *size, self._moves, known)
            if not hidden:
                return state
            k = hidden[int(rng.integers(len(hidden)))]
            circles = [(o.x, o.y, apart) for o in state if o.index != k]
            x, y = _Zone(self._inner_world, True, None, (0.0, 0.0)).draw(circles, rng)
            state = tuple(replace(o, x=x, y=y) if o.index == k else o for o in state)
        raise Rejected("observable")

    def _cameras(self, rng: Rng) -> tuple[dict[str, Camera], tuple[tuple[str, str], ...]]:
        """The cameras of a sample and its images in the order of rendering."""
        block = self.config.cameras
        cameras: dict[str, Camera] = {}
        views: list[tuple[str, str]] = []
        firsts: list[str] = []
        for name in block.initial:
            firsts.append(self._add(cameras, name, None, rng))
            views.append(("initial", firsts[-1]))
        for name in block.final:
            first = cameras[firsts[0]]
            if name == "same":
                added = firsts
            elif name == "orbit":
                circle = _orbit(first, block.orbit)
                cameras.update(circle)
                added = list(circle)
            else:
                added = [self._add(cameras, name, first, rng)]
            views += [("final", c) for c in added if ("final", c) not in views]
        return cameras, tuple(views)

    def _add(self, cameras: dict[str, Camera], name: str, first: Camera | None, rng: Rng) -> str:
        """Make sure that the camera called `name` is there, and say what it is called."""
        block = self.config.cameras
        if name == "random":
            drawn = sum(k.startswith("view-") for k in cameras)
            name = f"view-{drawn}"
            cameras[name] = _random_camera(block.shell, first, rng)
        elif name not in cameras:
            named = block.named[name]
            cameras[name] = Camera(
                position=_jittered(named.position, block.jitter, rng),
                target=_triple(named.target),
                focal_length=named.focal_length,
            )
        return name

    def _lights(self, rng: Rng) -> dict[str, Light]:
        block = self.config.lights
        lights = {
            name: Light(
                position=_jittered(lamp.position, block.jitter, rng),
                color=_triple(lamp.color),
                size=lamp.size,
                power=lamp.power,
            )
            for name, lamp in block.lamps.items()
        }
        vary = block.vary
        if vary.count is not None:
            count = int(rng.integers(vary.count[0], vary.count[1] + 1))
            lights = {name: lights.get(name) or _anywhere(rng) for name in block.names(count)}
        if vary.power or vary.color:
            lights = {name: _varied(light, vary, rng) for name, light in lights.items()}
        return lights


def _anywhere(rng: Rng) -> Light:
    """A white lamp somewhere above, 7 units from the origin."""
    turn, height = rng.uniform(-np.pi, np.pi), rng.uniform(np.radians(30), np.radians(75))
    x, y = 7 * np.cos(height) * np.cos(turn), 7 * np.cos(height) * np.sin(turn)
    place = (on_grid(float(x)), on_grid(float(y)), on_grid(float(7 * np.sin(height))))
    return Light(position=place, color=(1.0, 1.0, 1.0), size=0.7, power=150.0)


def _varied(light: Light, vary: LightVariationConfig, rng: Rng) -> Light:
    """The lamp with another power and color."""
    factor = float(np.exp(rng.uniform(-vary.power, vary.power)))
    shares = 1 - vary.color * rng.uniform(0, 1, 3)
    red, green, blue = (on_grid(float(c * s)) for c, s in zip(light.color, shares, strict=True))
    return replace(light, color=(red, green, blue), power=on_grid(light.power * factor))


@dataclass(frozen=True)
class _Track:
    """How large an object is, and how far from its start, in every state."""

    radii: tuple[float, ...]
    shifts: tuple[tuple[float, float], ...]


def _track(index: int, attributes: Appearance, task: Task, world: World) -> _Track:
    size, shift = attributes["size"], (0.0, 0.0)
    radii, shifts = [world.sizes[size]], [shift]
    for t in task.transformations:
        if t.object == index and t.attribute == "size":
            size = t.value
        if t.object == index and t.attribute == "position":
            dx, dy = move(t.value, world)
            shift = (shift[0] + dx, shift[1] + dy)
        radii.append(world.sizes[size])
        shifts.append(shift)
    return _Track(tuple(radii), tuple(shifts))


Circle = tuple[float, float, float]
"""Where an object may not start: x, y and squared radius."""


def _circles(track: _Track, other: _Track, place: tuple[float, float], gap: float) -> list[Circle]:
    """Where an object would come too close to one that is placed, in any state."""
    need: dict[tuple[float, float], float] = {}
    for radius, shift, r, s in zip(
        track.radii, track.shifts, other.radii, other.shifts, strict=True
    ):
        relative = (s[0] - shift[0], s[1] - shift[1])
        need[relative] = max(radius + r + gap, need.get(relative, 0.0))
    return [(place[0] + dx, place[1] + dy, (space - 1e-9) ** 2) for (dx, dy), space in need.items()]


@dataclass(frozen=True)
class _Zone:
    """The grid points where one object may start, other objects aside.

    Attributes:
        visible: whether it starts in the visible area.
        kind: of its move, if it moves.
        shift: from its start to its end.
    """

    world: World
    visible: bool
    kind: str | None
    shift: tuple[float, float]

    def draw(self, circles: list[Circle], rng: Rng) -> tuple[float, float]:
        """A random grid point of the zone outside all circles; all are equally likely.

        A few points are tried first, which mostly is enough; then all are listed.

        Raises:
            Rejected: there is none.
        """
        world = self.world
        steps = int((world.visible_area if self.visible else world.valid_area) / world.grid + 1e-6)
        for i, j in rng.integers(-steps, steps + 1, (16, 2)).tolist():
            x, y = on_grid(i * world.grid), on_grid(j * world.grid)
            if self._holds(x, y) and all(
                (x - a) * (x - a) + (y - b) * (y - b) >= c for a, b, c in circles
            ):
                return x, y
        line = np.arange(-steps, steps + 1) * world.grid
        xs, ys = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
        free = np.array([self._holds(a, b) for a, b in zip(xs.tolist(), ys.tolist(), strict=True)])
        for a, b, c in circles:
            free &= (xs - a) ** 2 + (ys - b) ** 2 >= c
        candidates = np.flatnonzero(free)
        if not candidates.size:
            raise Rejected("no-overlap")
        chosen = candidates[int(rng.integers(candidates.size))]
        return on_grid(float(xs[chosen])), on_grid(float(ys[chosen]))

    def _holds(self, x: float, y: float) -> bool:
        """Whether a start at (x, y), and the end that follows from it, are where they should be."""
        world = self.world
        if world.in_visible_area(x, y) != self.visible:
            return False
        if self.kind is None:
            return True
        end = (x + self.shift[0], y + self.shift[1])
        return world.in_visible_area(*end) == (self.kind != "out") and world.in_valid_area(*end)


def _combinations(world: World, steps: Steps) -> list[Appearance]:
    """The looks an object can start with so that every step changes it into an allowed one."""
    legal = []
    for values in product(*(world.values(a) for a in APPEARANCE)):
        looks = start = dict(zip(APPEARANCE, values, strict=True))
        fits = world.allows(looks)
        for attribute, value in steps:
            fits = fits and looks[attribute] != value
            looks = {**looks, attribute: value}
            fits = fits and world.allows(looks)
        if fits:
            legal.append(start)
    return legal


def _turned(initial: State, final: State, rng: Rng) -> State:
    """The final state with every object that did not change turned about its axis."""
    turns = rng.uniform(0.0, 2 * np.pi, len(final)).tolist()
    return tuple(
        replace(o, rotation=on_grid(turn)) if o == before else o
        for before, o, turn in zip(initial, final, turns, strict=True)
    )


def _orbit(first: Camera, views: int) -> dict[str, Camera]:
    """The other cameras of an even circle about the target's vertical axis, `first` being one."""
    circle = {}
    for k in range(1, views):
        angle = 2 * np.pi * k / views
        x, y, z = first.offset
        turned = (
            x * np.cos(angle) - y * np.sin(angle),
            x * np.sin(angle) + y * np.cos(angle),
            z,
        )
        circle[f"orbit-{k}"] = replace(first, position=_triple(np.add(first.target, turned)))
    return circle


def _random_camera(shell: ShellConfig, first: Camera | None, rng: Rng) -> Camera:
    """A camera on the shell, at an allowed angle from the first one.

    Raises:
        Rejected: the angle was not met in a bounded number of draws.
    """
    for _ in range(CAMERA_TRIES):
        azimuth = np.radians(rng.uniform(*shell.azimuth))
        elevation = np.radians(rng.uniform(*shell.elevation))
        distance = rng.uniform(*shell.distance)
        focal_length = rng.uniform(*shell.focal_length)
        target = rng.uniform(-1.0, 1.0, 3) * shell.target_jitter * (1.0, 1.0, 0.0)
        offset = distance * np.array(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ]
        )
        camera = Camera(
            position=_triple(target + offset),
            target=_triple(target),
            focal_length=on_grid(float(focal_length)),
        )
        if first is None or shell.angle[0] <= angle_between(first, camera) <= shell.angle[1]:
            return camera
    raise Rejected("camera-angle")


def _triple(values: Iterable[float]) -> Triple:
    x, y, z = (on_grid(float(v)) for v in values)
    return (x, y, z)


def _jittered(position: Triple, jitter: float, rng: Rng) -> Triple:
    return _triple(np.asarray(position, dtype=float) + rng.uniform(-1.0, 1.0, 3) * jitter)


def _refuse_full_area(world: World, balance: Balance) -> None:
    """Refuse numbers of objects that cannot fit even if all of them were of the smallest size.

    Circles that keep their distance cover at most pi / sqrt(12) of a plane; half a circle may
    reach over each edge of the area.
    """
    _ = balance.cells  # refuses numbers of changes that cannot be
    radius = min(world.sizes.values()) + world.gap / 2
    room = (2 * world.visible_area + 2 * radius) ** 2 * np.pi / np.sqrt(12)
    most = int(room / (np.pi * radius**2))
    if balance.visible[0] > most:
        raise ConfigError(
            f"objects.visible: {balance.visible[0]} objects cannot stand in the visible area "
            f"without overlap; at most {most} of the smallest size could"
        )
