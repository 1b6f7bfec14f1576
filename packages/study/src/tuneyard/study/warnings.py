"""What is doubtful about a design, said before anything runs. None of it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuneyard.study.study import Study
from tuneyard.study.variables import Design, same

MANY = 100
"""Combinations from which a study is called large."""

ASK = 10_000
"""Combinations from which a study wants `--yes`."""


def warnings_of(study: Study) -> list[str]:
    """What a person should know before a study is run, a sentence each."""
    return [*study.notes, *_of_rank(study), *_of_size(study), *_of_seeds(study)]


def _of_rank(study: Study) -> Iterator[str]:
    """alpha / rank scales what an adapter adds: vary the rank alone and two things vary."""
    rank, alpha = (_key(study, name) for name in ("lora_rank", "lora_alpha"))
    if rank is None or len(study.design.values_of(rank)) < 2:
        return
    if alpha is None:
        fixed = study.base.get("engine", {}).get("lora_alpha")
        if fixed is None:
            # LLaMA-Factory fills in twice the rank, which is what most want; the file should still say so
            yield (
                f"{rank} varies and lora_alpha is not given: LLaMA-Factory takes twice the rank. Say which you mean: "
                "put lora_alpha beside it under `zip`, or hold it fixed under `controls`"
            )
        else:
            yield (
                f"the design is confounded: lora_alpha is fixed at {fixed} while {rank} varies, so alpha/rank varies "
                "with it. An effect may come from either; put both under `zip` to keep the ratio"
            )
    elif not _zipped(study.design, rank, alpha):
        yield f"{rank} and {alpha} vary independently, so alpha/rank is a third thing that varies"
    elif not _constant_ratio(study.design, rank, alpha):
        yield f"the design is confounded: alpha/rank differs between the pairs of {rank} and {alpha}"


def _key(study: Study, name: str) -> str | None:
    return next((key for key in study.design.keys if study.fields[key] == f"engine.{name}"), None)


def _zipped(design: Design, *keys: str) -> bool:
    return any(set(keys) <= set(axis.keys) for axis in design.axes)


def _constant_ratio(design: Design, rank: str, alpha: str) -> bool:
    axis = next(axis for axis in design.axes if rank in axis.keys)
    if axis.sampled:
        return False
    ratios = [_ratio(point[alpha], point[rank]) for point in axis.points]
    return all(same(ratio, ratios[0]) for ratio in ratios)


def _ratio(a: Any, b: Any) -> float | None:
    return a / b if isinstance(a, int | float) and isinstance(b, int | float) and b else None


def _of_size(study: Study) -> Iterator[str]:
    axes = [axis for axis in study.design.axes if len(axis.points) > 1]
    if len(axes) > 2:
        yield (
            f"{len(axes)} things vary independently: with more than two, an effect is hard to attribute and the report "
            "shows each one averaged over the others"
        )
    if len(study.design) >= MANY:
        yield f"{len(study.design):,} combinations: consider `random` with a budget, or fewer values"


def _of_seeds(study: Study) -> Iterator[str]:
    seeds = study.experiment.seeds or ([*study.design.values_of("seed")] if "seed" in study.design.keys else [])
    if len(seeds) < 2:
        yield (
            "one seed: the spread between two trainings of the same setting is not measured, so no difference between "
            "settings can be told from chance. Three seeds are the least, five are better"
        )
    if len(set(seeds)) < len(seeds):
        yield "a seed stands twice: both runs are the same and count once"
