"""What the data carry, in sentences. Nothing is called better unless test and interval say so, and seeds allow it."""

from __future__ import annotations

from collections.abc import Iterator

from tuneyard.study.report.statistics import FEW_SEEDS, LEVEL, Estimate, Pair, best_against_others
from tuneyard.study.variables import Values

NONE = "\N{EN DASH}"
"""Stands where there is no number."""

MINUS = "\N{MINUS SIGN}"


def score(value: float) -> str:
    """A score: three decimals between -1 and 1, four digits beyond."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.4g}"


def interval(pair: tuple[float, float] | None) -> str:
    """`0.41 to 0.52`; a dash where there is none."""
    return NONE if pair is None else f"{score(pair[0])} to {score(pair[1])}"


def p_value(p: float | None) -> str:
    """A p value: three decimals, or the bound that it is under."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def combination(values: Values) -> str:
    """`lora_rank=8, lora_alpha=16`, without the library's prefix."""
    return ", ".join(f"{key.removeprefix('engine.')}={value}" for key, value in values.items()) or "the base"


def verdict(each: Estimate) -> str:
    """What may be said of a setting against the baseline, in a few words."""
    against = each.against
    if against is None:
        return "not measured"
    if against.p is None:
        return "not tested"
    if not against.significant:
        return "none shown"
    direction = "higher" if against.difference > 0 else "lower"
    return f"{direction}, this one training" if len(each.values) == 1 else direction


def findings(by_task: dict[str, list[Estimate]]) -> list[str]:
    """What a reader should take away, a sentence each."""
    return [text for task, found in by_task.items() for text in (*_baseline(task, found), *_best(task, found))]


def _baseline(task: str, found: list[Estimate]) -> Iterator[str]:
    tested = [each for each in found if each.against is not None and each.against.p is not None]
    if not tested:
        return
    up = [each for each in tested if verdict(each).startswith("higher")]
    down = [each for each in tested if verdict(each).startswith("lower")]
    rest = len(tested) - len(up) - len(down)
    parts = [f"{len(some)} {_differ(len(some))} {word}" for some, word in ((up, "higher"), (down, "lower")) if some]
    parts += [f"for {rest} no difference is shown"] if rest else []
    yield (
        f"{task}: of {len(tested)} setting{'s' if len(tested) > 1 else ''} tested against the baseline, "
        f"{', '.join(parts)} (p < {LEVEL} after Holm's correction, and a 95 % interval without 0)."
    )
    if any(len(each.values) == 1 for each in tested):
        yield (
            f"{task}: a setting trained with one seed says something of that one model, not of the setting: another "
            "seed may differ as much."
        )


def _differ(count: int) -> str:
    return "scores" if count == 1 else "score"


def _best(task: str, found: list[Estimate]) -> Iterator[str]:
    pairs = best_against_others(found)
    if not pairs:
        return
    best = pairs[0].best
    if all(pair.other.mean == best.mean for pair in pairs):
        yield f"{task}: every setting has the same mean, {score(best.mean)}."
        return
    head = f"{task}: the highest mean, {score(best.mean)}, is of {combination(best.combination)}"
    seeds = min(len(each.values) for each in found)
    if seeds == 1:
        yield f"{head}; with one seed that is no evidence that this setting is better than any other."
        return
    unsure = [pair for pair in pairs if not pair.told_apart]
    if not unsure:
        caution = _caution(seeds)
        yield f"{head}; it is told apart from each of the others, the intervals of the differences exclude 0{caution}."
        return
    yield f"{head}. It cannot be told apart from {_listed(unsure)}: the interval of the difference contains 0."
    sure = len(pairs) - len(unsure)
    if sure:
        were = "is" if sure == 1 else "are"
        yield f"{task}: {sure} other setting{'s' if sure > 1 else ''} {were} lower{_caution(seeds)}."


def _caution(seeds: int) -> str:
    return f", with the reserve that {seeds} seeds measure their spread poorly" if seeds < FEW_SEEDS else ""


def _listed(pairs: list[Pair], most: int = 4) -> str:
    names = [combination(pair.other.combination) for pair in pairs]
    if len(names) > most:
        return f"{len(names)} other settings"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} or {names[-1]}"


def cautions(found: list[Estimate]) -> list[str]:
    """What limits the report as a whole."""
    texts = []
    if not found:
        return ["There is no score yet: nothing can be concluded."]
    seeds = min(len(each.values) for each in found)
    if seeds == 1:
        texts.append(
            "At least one setting was trained once. The spread between trainings is unknown, and its intervals are "
            "over documents only."
        )
    elif seeds < FEW_SEEDS:
        texts.append(
            f"With {seeds} seeds a bootstrap over seeds gives intervals that are narrower than they should be."
        )
    short = [each for each in found if len(each.values) < each.planned]
    if short:
        texts.append(
            f"{len(short)} estimate(s) rest on fewer seeds than were planned, since runs failed or are missing."
        )
    unlike = sorted({each.task for each in found if each.against is not None and not each.against.alike})
    texts += [
        f"{task}: the baseline was asked other documents or by other prompts (a chat template, other arguments): its "
        "difference is not of the training alone."
        for task in unlike
    ]
    if any(each.interval is None for each in found):
        texts.append("Where no interval is given, the score is no mean over documents, or the documents were not kept.")
    return texts
