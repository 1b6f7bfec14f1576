"""`yard compare A B`: two evaluations, document by document."""

from __future__ import annotations

import json
from dataclasses import asdict

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.compare import Changed, Comparison, Difference, compare
from tuneyard.control.workspace import find_workspace


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, "Pair the samples of two evaluations: difference, interval, p, and what changed.")
    parser.add_argument("a", metavar="A", help="id of an evaluation, or the beginning of one")
    parser.add_argument("b", metavar="B", help="the one it is compared with")
    parser.add_argument("--documents", type=int, default=5, metavar="N", help="changed documents to show (default 5)")
    parser.add_json()
    options = parser.parse_args(arguments)
    found = compare(find_workspace().runs, options.a, options.b, documents=max(0, options.documents))
    print(json.dumps(asdict(found), indent=2, ensure_ascii=False) if options.json else _text(found))
    return 0


def _text(found: Comparison) -> str:
    parts = [f"A  {found.a}  ({found.models[0]})\nB  {found.b}  ({found.models[1]})"]
    if found.caveats:
        parts.append("not alike, so take the difference with care:\n" + "\n".join(f"  {c}" for c in found.caveats))
    parts += [_difference_text(difference) for difference in found.differences]
    return "\n\n".join(parts)


def _difference_text(found: Difference) -> str:
    low, high = found.interval
    filter_ = f",{found.filter}" if found.filter != "none" else ""
    lines = [
        f"{found.task}/{found.metric}{filter_} on {found.n} documents",
        f"  A {found.a:.4f}   B {found.b:.4f}   B - A {found.difference:+.4f}   95 % [{low:+.4f}, {high:+.4f}]",
        f"  better in B: {found.improved}   worse in B: {found.worsened}"
        + (f"   McNemar p = {found.p:.3g}" if found.p is not None else ""),
    ]
    total = found.improved + found.worsened
    if found.changed:
        shown = f"the first {len(found.changed)} of {total}" if len(found.changed) < total else "all"
        lines.append(f"  changed ({shown}):")
        lines += [_changed_text(changed) for changed in found.changed]
    return "\n".join(lines)


def _changed_text(changed: Changed) -> str:
    (a, b), (score_a, score_b) = changed.answers, changed.scores
    question = _line(changed.prompt[-300:], 160)
    expected = _line(changed.target.rpartition("####")[2], 60)
    return (
        f"    {changed.id}: … {question}\n"
        f"      expected {expected}; A said {_line(a, 60)} ({score_a:g}), B said {_line(b, 60)} ({score_b:g})"
    )


def _line(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else "… " + flat[-most:]
