"""Prompts: what a person may ask an agent to do, with what is known put into the text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mcp_types import Prompt, PromptArgument

from tuneyard.control.catalogue import examples
from tuneyard.control.compare import compare
from tuneyard.control.log_views import trouble
from tuneyard.control.summary import describe, failure_lines
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import find_run
from tuneyard.mcp.answers import clip

LONGEST = 15_000
"""Characters of a prompt."""


@dataclass(frozen=True)
class PromptForm:
    """One prompt."""

    title: str
    description: str
    required: Mapping[str, str]
    """Argument -> what it is."""
    text: Callable[[Workspace, Mapping[str, str]], str]
    optional: Mapping[str, str] = field(default_factory=dict)

    def definition(self, name: str) -> Prompt:
        """What clients are told of it."""
        arguments = [PromptArgument(name=n, description=d, required=True) for n, d in self.required.items()]
        arguments += [PromptArgument(name=n, description=d, required=False) for n, d in self.optional.items()]
        return Prompt(name=name, title=self.title, description=self.description, arguments=arguments)


def prompt_text(workspace: Workspace, name: str, arguments: Mapping[str, str]) -> str:
    """The text of a prompt.

    Raises:
        RequestError: no such prompt, an argument is missing or unknown, or names a run that is not there.
    """
    if name not in PROMPTS:
        raise unknown("prompt", name, PROMPTS)
    form = PROMPTS[name]
    known = [*form.required, *form.optional]
    for given in arguments:
        if given not in known:
            raise unknown("argument", given, known, where=name)
    missing = [n for n in form.required if not arguments.get(n, "").strip()]
    if missing:
        raise RequestError(f"the argument {missing[0]!r} is missing", where=name, way_out=form.required[missing[0]])
    return clip(mask_secrets(form.text(workspace, arguments)), LONGEST)


def _plan(workspace: Workspace, given: Mapping[str, str]) -> str:
    known = "\n".join(f"- {e.name} ({e.kind}): {e.purpose}" for e in examples(workspace))
    return f"""Plan a fine-tune with tuneyard.

Goal: {given["goal"]}
Model: {given.get("model") or "not decided"}
Data: {given.get("data") or "not decided"}

1. Look at what is there: describe() for the topics, then examples, models, datasets and the fields of a spec.
2. Settle how success is measured before anything is trained: which tasks, which baseline, how many documents.
   evaluate the untrained model on it first; a gain is a difference to that.
3. Write the spec into a file inside the workspace, beginning from the nearest example. Check it with
   train(spec=…, dry_run=true) and read the resolved spec and the library's arguments.
4. Try it small (a few steps, a part of the data) to see the loss fall, then the whole.
5. Tell the person: the spec, the expected time and memory, what could go wrong, and how the outcome will be judged.
   Start nothing long before they agree.

Examples in this workspace:
{known or "none"}"""


def _why(workspace: Workspace, given: Mapping[str, str]) -> str:
    run = find_run(workspace.runs, given["run_id"])
    seen = describe(run)
    failure = (seen["result"] or {}).get("failure")
    latest = run.latest()
    bad = trouble(latest.stderr) if latest and latest.stderr.exists() else []
    return f"""Find out why the run {run.id} failed, and how to mend it.

State: {seen["state"]}{f" ({seen['reason']})" if seen["reason"] else ""}, attempt {seen["attempt"]}
{chr(10).join(failure_lines(failure)) if failure else "It left no failure."}

Lines of its log that speak of trouble:
{chr(10).join(bad) or "none"}

1. Read the log where it matters: run_logs(run_id="{run.id}"), then mode="grep" or mode="window" around the first error;
   the first error is the cause, the later ones follow from it.
2. Look at the spec: the resource tuneyard://runs/{run.id}/spec.
3. Where a library cannot be imported or has the wrong version: env_diagnose().
4. Say what happened, the evidence (file and line), and the smallest change that mends it. If the spec is right and the
   machine was at fault, run_resume goes on from the last checkpoint; else start a new run with the change, after
   train(…, dry_run=true)."""


def _write_up(workspace: Workspace, given: Mapping[str, str]) -> str:
    found = compare(workspace.runs, given["a"], given["b"], documents=3)
    rows = [
        f"- {d.task}/{d.metric} ({d.filter}), n = {d.n}: A {d.a:.4f}, B {d.b:.4f}, B - A {d.difference:+.4f}, "
        f"95 % interval [{d.interval[0]:+.4f}, {d.interval[1]:+.4f}], p = {d.p}, "
        f"better in B {d.improved}, worse {d.worsened}"
        for d in found.differences
    ]
    changed = [c for d in found.differences[:2] for c in d.changed]
    documents = [json.dumps({"id": c.id, "prompt": c.prompt[-300:], "answers": c.answers}) for c in changed]
    return f"""Write up the comparison of two evaluations for somebody who was not there.

A: {found.a} ({found.models[0]})
B: {found.b} ({found.models[1]})
Not alike: {"; ".join(found.caveats) or "nothing; the scores compare as they stand"}
{chr(10).join(rows)}

Documents that changed, some of them:
{chr(10).join(documents) or "none"}

State first what was compared and the answer in one sentence, with the difference, its interval and n. An interval that
holds 0 is no difference: say so. Name every caveat. Then what changed: read more documents with
compare_runs(a="{found.a}", b="{found.b}", response_format="detailed") and look for a pattern, such as one kind of
problem or of mistake. End with what was not tested. Numbers come from the tools alone; invent none."""


PROMPTS: dict[str, PromptForm] = {
    "plan_fine_tune": PromptForm(
        "Plan a fine-tune",
        "From a goal to a spec that has been checked, and how success will be measured",
        {"goal": "What the model is to do better"},
        _plan,
        {"model": "The model to begin from", "data": "What it is trained on"},
    ),
    "why_run_failed": PromptForm(
        "Find out why a run failed",
        "Failure, log and spec of a run, and how to go about it",
        {"run_id": "Id of the run"},
        _why,
    ),
    "write_up_comparison": PromptForm(
        "Write up a comparison",
        "Two evaluations, what differs and how sure that is",
        {"a": "Id of an evaluation", "b": "The one it is compared with"},
        _write_up,
    ),
}
