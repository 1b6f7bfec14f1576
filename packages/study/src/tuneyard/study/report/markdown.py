"""report.md: the report for whoever reads text, a coding agent among them."""

from __future__ import annotations

from tuneyard.study.report.content import Content


def markdown(content: Content) -> str:
    """The report as Markdown."""
    about = content.about
    parts = [f"# {_inline(about.name)}"]
    told = [
        about.question and f"**Question.** {_inline(about.question)}",
        about.hypothesis and f"**Hypothesis.** {_inline(about.hypothesis)}",
    ]
    byline = ", ".join(text for text in (about.researcher, about.date, " ".join(about.tags)) if text)
    parts += [text for text in (_inline(byline), *told, _inline(about.notes)) if text]
    parts.append(f"{content.counts}. Report of {content.made}.")
    parts.append("## What was found\n\n" + _list(content.findings))
    if content.cautions:
        parts.append("What limits it:\n\n" + _list(content.cautions))
    for title, head, rows in content.score_tables:
        parts.append(f"## {title}\n\n{_table(head, rows)}")
    parts.append("## Design\n\n" + _table(("", ""), content.design))
    parts.append(_table(*content.matrix))
    parts.append("## Cost\n\n" + _table(("", "runs", "wall time", "devices"), content.cost))
    parts.append("## Failures\n\n" + (_table(*content.failures) if content.failures[1] else "None."))
    if content.retried:
        parts.append(_list(content.retried))
    parts.append("## Environment")
    parts += [f"{title}\n\n{_table(('', ''), facts)}" for title, facts in content.environments]
    parts.append("## How the numbers were made\n\n" + _list(content.method))
    return "\n\n".join(parts) + "\n"


def _list(texts: list[str]) -> str:
    return "\n".join(f"- {_inline(text)}" for text in texts)


def _table(head, rows) -> str:
    lines = ["| " + " | ".join(map(_inline, head)) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_inline(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
