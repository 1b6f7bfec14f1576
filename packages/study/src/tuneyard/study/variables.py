"""From what is varied to the combinations, made one at a time: full factorial, keys that go together, random draws."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.core.errors import RequestError, unknown

Values = dict[str, Any]
"""Variable -> value: one combination, or a part of one."""

ZIP, RANDOM = "zip", "random"
SAMPLERS = ("uniform", "log_uniform", "integer")


@dataclass(frozen=True)
class Axis:
    """Variables that take their values together."""

    points: tuple[Values, ...]
    """Every one has the same keys."""
    sampled: bool = False
    """Whether the points were drawn."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.points[0])


@dataclass(frozen=True)
class Design:
    """All that is varied; combinations are its product, the last axis fastest."""

    axes: tuple[Axis, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The variables, in the order in which they were written."""
        return tuple(key for axis in self.axes for key in axis.keys)

    def __len__(self) -> int:
        return math.prod(len(axis.points) for axis in self.axes)

    def combinations(self) -> Iterator[Values]:
        """One mapping of all variables at a time; nothing is kept."""
        for parts in itertools.product(*(axis.points for axis in self.axes)):
            yield {key: value for part in parts for key, value in part.items()}

    def values_of(self, key: str) -> list[Any]:
        """The different values of a variable, in order."""
        found: list[Any] = []
        for axis in self.axes:
            for point in axis.points:
                if key in point and not any(same(point[key], old) for old in found):
                    found.append(point[key])
        return found


def same(a: Any, b: Any) -> bool:
    """Whether two values are one: 1 and 1.0 are, 1 and true are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def design_of(variables: Mapping[str, Any], where: str) -> Design:
    """The design that `variables` of an experiment describe.

    Args:
        variables: `key: [values]`; `zip: {key: [values], …}` or a list of such; `random: {budget: N, seed: S, key:
            {log_uniform: [low, high]}, …}`, each draw combined with all that is not random.
        where: the file, for messages.

    Raises:
        RequestError: an empty list, lists of different lengths under `zip`, an unknown way to draw, a key twice.
    """
    axes: list[Axis] = []
    for key, value in variables.items():
        if key == ZIP:
            axes += [_zipped(group, where) for group in (value if isinstance(value, list) else [value])]
        elif key == RANDOM:
            axes.append(_random(value, where))
        else:
            axes.append(Axis(tuple({key: entry} for entry in _values(key, value, where))))
    _refuse_repeated([key for axis in axes for key in axis.keys], where)
    return Design(tuple(axes))


def _values(key: str, value: Any, where: str) -> Sequence[Any]:
    place = f"{where}: variables.{key}"
    if isinstance(value, dict) and set(value) & set(SAMPLERS):
        raise RequestError(
            f"{key} is drawn, and nothing says how often",
            where=place,
            way_out=f"write it under `random`: {{budget: 20, {key}: {value}}}",
        )
    if not isinstance(value, list):
        raise RequestError(f"a variable is a list of values (got {value!r})", where=place, way_out=f"[{value}]")
    if not value:
        raise RequestError("the list of values is empty", where=place, way_out="name at least one value")
    for number, entry in enumerate(value):
        if any(same(entry, earlier) for earlier in value[:number]):
            raise RequestError(f"the value {entry!r} stands twice", where=place, way_out="seeds repeat a combination")
    return value


def _zipped(group: Any, where: str) -> Axis:
    place = f"{where}: variables.{ZIP}"
    if not isinstance(group, dict) or not group:
        raise RequestError("zip is a mapping of keys to lists", where=place)
    for key, value in group.items():
        if not isinstance(value, list) or not value:
            raise RequestError(f"zip.{key} must be a list with at least one value (got {value!r})", where=place)
    lengths = {key: len(value) for key, value in group.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise RequestError(f"lists under zip go together and must be equally long: {told}", where=place)
    return Axis(tuple(dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)))


def _random(given: Any, where: str) -> Axis:
    place = f"{where}: variables.{RANDOM}"
    if not isinstance(given, dict):
        raise RequestError("random is a mapping: budget, seed, and the keys to draw", where=place)
    budget, seed = given.get("budget"), given.get("seed", 0)
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
        raise RequestError(f"random.budget must be a whole number from 1 (got {budget!r})", where=place)
    if not isinstance(seed, int):
        raise RequestError(f"random.seed must be a whole number (got {seed!r})", where=place)
    drawn = {key: value for key, value in given.items() if key not in ("budget", "seed")}
    if not drawn:
        raise RequestError("random draws nothing: name at least one key", where=place)
    generator = random.Random(seed)
    points = tuple({key: _draw(key, how, generator, place) for key, how in drawn.items()} for _ in range(budget))
    return Axis(points, sampled=True)


def _draw(key: str, how: Any, generator: random.Random, place: str) -> Any:
    if isinstance(how, list):
        if not how:
            raise RequestError(f"random.{key}: the list of values is empty", where=place)
        return generator.choice(how)
    if not isinstance(how, dict) or len(how) != 1:
        raise RequestError(f"random.{key} is a list, or one of {', '.join(SAMPLERS)} (got {how!r})", where=place)
    ((name, limits),) = how.items()
    if name not in SAMPLERS:
        raise unknown("way to draw", str(name), SAMPLERS, where=place)
    low, high = _limits(key, name, limits, place)
    if name == "integer":
        return generator.randint(int(low), int(high))
    if name == "uniform":
        return _readable(generator.uniform(low, high))
    return _readable(math.exp(generator.uniform(math.log(low), math.log(high))))


def _limits(key: str, name: str, limits: Any, place: str) -> tuple[float, float]:
    numbers = isinstance(limits, list) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in limits
    )
    if not numbers or len(limits) != 2 or limits[0] >= limits[1]:
        raise RequestError(f"random.{key}: {name} takes [low, high] (got {limits!r})", where=place)
    if name == "log_uniform" and limits[0] <= 0:
        raise RequestError(f"random.{key}: log_uniform takes numbers above 0 (got {limits!r})", where=place)
    return limits[0], limits[1]


def _readable(value: float) -> float:
    """Four digits: a learning rate of 0.00012346789 says nothing more than 0.0001235."""
    return float(f"{value:.4g}")


def _refuse_repeated(keys: list[str], where: str) -> None:
    for key in keys:
        if keys.count(key) > 1:
            raise RequestError(f"{key} is varied twice", where=f"{where}: variables", way_out="name it once")
