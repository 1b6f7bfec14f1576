"""Each tool does what it says, in both eras of the protocol, and says it briefly."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from raw_client import NEW, TRAIN, Client

from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder

SLOW = {**TRAIN, "engine": {"pause": 0.2, "max_steps": 200}}


def evaluate(client: Client, model: str, right: str) -> str:
    """The id of an evaluation in which the small worker gets so many of ten right."""
    return client.call("evaluate", models=[model], tasks=["arithmetic"], fields={"dtype": right})["runs"][0]["id"]


def test_a_whole_round(desk: Workspace, client: Client) -> None:
    started = client.call("train", fields=TRAIN)
    [run] = started["runs"]
    assert run["existing"] is False
    assert started["next"] == [f'run_status(run_id="{run["id"]}", wait_seconds=50)']
    seen = client.wait(run["id"])
    assert seen["state"] == "succeeded", seen
    assert seen["metrics"]["train_loss"]["value"] == 1.25
    scored = [evaluate(client, run["id"], d) for d in ("3", "7")]
    for evaluation in scored:
        assert client.wait(evaluation)["metrics"]["quiz/exact_match"]["n"] == 10
    [difference] = client.call("compare_runs", a=scored[0], b=scored[1])["differences"]
    assert difference["difference"] == pytest.approx(0.4)
    entry = client.call("record_recent_changes", summary="Tried it", run_ids=[run["id"]])
    assert entry["entry"].endswith(f"Tried it (runs: {run['id']})")
    assert {r["id"] for r in client.call("list_runs")["runs"]} == {run["id"], *scored}
    assert client.close() == 0
    assert run["id"] in (desk.path / "AGENTS.md").read_text()


def test_every_tool_has_honest_annotations_and_schemas_that_its_answers_keep(client: Client, ended: Any) -> None:
    tools = {tool["name"]: tool for tool in client.ask("tools/list")["tools"]}
    assert len(tools) == 19
    for tool in tools.values():
        assert tool["inputSchema"]["additionalProperties"] is False
        assert 40 < len(tool["description"]) < 2000
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        jsonschema.Draft202012Validator.check_schema(tool["outputSchema"])
    reading = {name for name, tool in tools.items() if tool["annotations"]["readOnlyHint"]}
    assert reading == {"run_status", "run_logs", "list_runs", "compare_runs", "describe", "env_diagnose", "plan_study"}
    destroying = {name for name, tool in tools.items() if tool["annotations"]["destructiveHint"]}
    assert destroying == {"build_dataset", "run_cancel", "serve_stop", "set_current_tasks"}
    run, evaluation = ended(), ended("eval")
    asked: dict[str, dict[str, Any]] = {
        "run_status": {"run_id": run.id},
        "run_logs": {"run_id": run.id},
        "list_runs": {},
        "compare_runs": {"a": evaluation.id, "b": evaluation.id},
        "describe": {"topic": "train.engine"},
        "env_diagnose": {},
        "train": {"fields": TRAIN, "dry_run": True},
        "evaluate": {"models": ["builtin:tiny"], "tasks": ["arithmetic"], "dry_run": True},
        "record_recent_changes": {"summary": "x"},
        "set_current_tasks": {"tasks": ["x"]},
    }
    for name, arguments in asked.items():
        for form, most in (("concise", 1500), ("detailed", 20_000)):
            result = client.ask("tools/call", name=name, arguments={**arguments, "response_format": form})
            assert not result.get("isError"), result
            jsonschema.validate(result["structuredContent"], tools[name]["outputSchema"])
            assert len(result["content"][0]["text"]) <= most
            assert len(json.dumps(result["structuredContent"], ensure_ascii=False)) <= most


def test_unknown_and_wrong_arguments_are_refused_with_the_nearest(client: Client) -> None:
    assert "did you mean 'run_id'?" in client.error("run_status", runid="x")
    assert "valid integer (got '5')" in client.error("list_runs", limit="5")
    assert "did you mean 'list_runs'?" in client.error("list_run")
    assert "did you mean 'lora_rank'" in client.error("train", fields={**TRAIN, "engine": {"lora_rnk": 8}})
    assert "did you mean 'arithmetic'" in client.error("train", fields={**TRAIN, "dataset": "builtin:arithmetc"})


def test_a_dry_run_starts_nothing(desk: Workspace, client: Client) -> None:
    told = client.call("train", fields=TRAIN, dry_run=True, response_format="detailed")
    assert told["spec"]["kind"] == "train"
    assert told["library"]["command"] == ["small", "library"]
    assert told["runs"] == []
    short = client.call("train", fields=TRAIN, dry_run=True)
    assert short["plan"] == "model builtin:tiny, dataset builtin:arithmetic, method sft, lora, gpus 0"
    assert 'response_format="detailed"' in short["next"][0]
    assert not list(desk.runs.glob("train-*"))


def test_settings_count_from_the_moment_they_are_saved(desk: Workspace, client: Client, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    fields = {**TRAIN, "dataset": str(rows)}
    assert "allowed_paths" in client.error("train", fields=fields, dry_run=True)
    settings = json.loads(desk.settings_file.read_text())
    desk.settings_file.write_text(json.dumps({**settings, "allowed_paths": [str(tmp_path)], "runs": "elsewhere"}))
    run = client.call("train", fields=fields)["runs"][0]["id"]
    assert (desk.path / "elsewhere" / run).is_dir()
    assert client.call("list_runs")["total"] == 1
    assert client.wait(run)["state"] == "succeeded"


def test_what_runs_already_is_not_started_twice(client: Client) -> None:
    first = client.call("train", fields=SLOW)["runs"][0]
    second = client.call("train", fields=SLOW)
    assert second["runs"] == [{"id": first["id"], "state": second["runs"][0]["state"], "existing": True}]
    assert "again=true" in second["notes"][-1]
    third = client.call("train", fields=SLOW, again=True)["runs"][0]
    assert third["id"] != first["id"]
    for run in (first, third):
        client.call("run_cancel", run_id=run["id"])
        assert client.wait(run["id"])["state"] == "cancelled"


def test_specs_come_from_files_examples_and_earlier_runs(desk: Workspace, client: Client) -> None:
    (desk.path / "examples" / "small").mkdir(parents=True)
    (desk.path / "examples" / "small" / "train.yaml").write_text(
        "# A small one\n" + json.dumps({"kind": "train", **TRAIN})
    )
    [entry] = client.call("describe", topic="examples")["entries"]
    assert entry == {"name": "small", "type": "train", "help": "A small one"}
    assert "builtin:tiny" in client.text("describe", topic="examples", query="small")
    by_name = client.call("train", example="small")["runs"][0]["id"]
    by_path = client.call("train", spec="examples/small/train.yaml", fields={"seed": 3})["runs"][0]["id"]
    for run in (by_name, by_path):
        assert (seen := client.wait(run))["state"] == "succeeded", seen
    again = client.call("train", spec=f"run:{by_path}", dry_run=True, response_format="detailed")
    assert again["spec"]["seed"] == 3
    assert "did you mean 'small'?" in client.error("train", example="smal")
    assert "one of them" in client.error("train", example="small", spec="x.yaml")


def test_several_models_are_evaluated_in_a_run_each(client: Client, ended: Callable[..., RunFolder]) -> None:
    models = [ended(merge=True).id, ended(merge=True, seed=5).id]
    runs = client.call("evaluate", models=[*models, "builtin:tiny"], tasks=["arithmetic"], limit=2)["runs"]
    assert len({run["id"] for run in runs}) == 3
    for run, model in zip(runs, [f"run:{models[0]}", f"run:{models[1]}", "builtin:tiny"], strict=True):
        seen = client.call("run_status", run_id=run["id"], wait_seconds=60, wait_for="end", response_format="detailed")
        assert (seen["state"], seen["spec"]["model"]["reference"], seen["spec"]["limit"]) == ("succeeded", model, 2)


def test_waiting_tells_of_progress_and_ends_with_a_change(client: Client) -> None:
    run = client.call("train", fields=SLOW)["runs"][0]["id"]
    while client.call("run_status", run_id=run, wait_seconds=20)["state"] != "running":
        pass
    client.notices.clear()
    start = time.monotonic()
    number = client.begin("tools/call", name="run_status", arguments={"run_id": run, "wait_seconds": 3})
    told = client.notice("notifications/progress")
    assert told["progressToken"] == number
    assert told["message"].startswith("running")
    seen = client.answer(number)["result"]["structuredContent"]
    assert seen["changed"] is False
    assert 2.5 < time.monotonic() - start < 10
    assert seen["progress"]["total"] == 200
    waiting = client.begin("tools/call", name="run_status", arguments={"run_id": run, "wait_seconds": 60})
    assert client.call("list_runs", states=["running"])["total"] == 1  # others are answered meanwhile
    assert client.call("run_cancel", run_id=run)["told"] == "it was asked to end"
    seen = client.answer(waiting)["result"]["structuredContent"]
    assert (seen["state"], seen["changed"]) == ("cancelled", True)


def test_a_failure_is_told_with_cause_and_way_out_and_can_be_resumed(client: Client) -> None:
    run = client.call("train", fields={**TRAIN, "engine": {"fail": "no such column"}})["runs"][0]["id"]
    seen = client.wait(run)
    assert seen["state"] == "failed"
    assert seen["failure"]["message"] == "no such column"
    assert seen["failure"]["way_out"] == "ask for something else"
    assert seen["next"] == [f'run_logs(run_id="{run}")', f'run_resume(run_id="{run}")']
    assert "no such column" in client.text("run_logs", run_id=run)
    assert client.call("run_resume", run_id=run)["told"] == "attempt 2 is started"
    assert client.wait(run)["attempt"] == 2


def test_a_resume_tells_which_file_was_edited_since_the_run_was_made(desk: Workspace, client: Client) -> None:
    file = desk.path / "stop.py"
    file.write_text("def stop(): ...\n")
    fields = {**TRAIN, "callbacks": [f"{file}:stop"], "engine": {"fail": "no such column"}}
    run = client.call("train", fields=fields)["runs"][0]["id"]
    client.wait(run)
    file.write_text("def stop(): return 1\n")
    attempt, _, note = client.call("run_resume", run_id=run)["told"].partition("; ")
    assert attempt == "attempt 2 is started"
    assert note.startswith(f"{file} was edited after the run was made (sha256 ")
    assert note.endswith(f"`yard run run:{run}` starts anew with the new")


def test_acting_on_a_run_takes_its_whole_id(client: Client, ended: Callable[..., RunFolder]) -> None:
    run = ended()
    assert "is not a whole run id" in client.error("run_cancel", run_id=run.id[:-1])
    assert "already ended" in client.error("run_cancel", run_id=run.id)
    assert "succeeded; there is nothing to resume" in client.error("run_resume", run_id=run.id)
    assert client.call("run_status", run_id=run.id[:-1])["id"] == run.id


def test_logs_come_in_pieces_that_lead_to_one_another(client: Client, ended: Callable[..., RunFolder]) -> None:
    run = ended()
    log = run.attempt(1).stderr
    log.write_text("".join(f"line {n} of the log\n" for n in range(3000)) + "RuntimeError: CUDA out of memory\n")
    summary = client.call("run_logs", run_id=run.id)
    assert summary["cause"] == "the GPU's memory did not suffice"
    assert summary["lines"][-1] == "RuntimeError: CUDA out of memory"
    piece = client.call("run_logs", run_id=run.id, mode="tail", lines=500)
    assert piece["more"] == f'run_logs(run_id="{run.id}", mode="tail", lines=500, offset={piece["start"]})'
    before = client.call("run_logs", run_id=run.id, mode="tail", lines=500, offset=piece["start"])
    assert before["end"] == piece["start"]
    found = client.call("run_logs", run_id=run.id, mode="grep", text="OUT OF MEM|line 17 ")
    assert [m["line"] for m in found["matches"]] == ["line 17 of the log", "RuntimeError: CUDA out of memory"]
    around = client.call("run_logs", run_id=run.id, mode="window", offset=found["matches"][0]["offset"], lines=2)
    assert around["lines"] == ["line 17 of the log", "line 18 of the log"]
    seen: list[str] = []
    offset = 0
    while offset < log.stat().st_size:
        part = client.call(
            "run_logs", run_id=run.id, mode="window", offset=offset, lines=500, response_format="detailed"
        )
        seen += part["lines"]
        offset = part["end"]
    assert "\n".join(seen) + "\n" == log.read_text()


def test_pages_of_runs_lead_to_one_another(desk: Workspace, client: Client) -> None:
    for n in range(40):
        folder = desk.runs / f"train-x{n}-2611{1 + n // 10:02d}-18{n % 10:02d}-abc"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text("{}")
    seen: list[str] = []
    page = client.call("list_runs")
    while True:
        seen += [run["id"] for run in page["runs"]]
        if "after" not in page:
            break
        page = client.call("list_runs", after=page["after"])
    assert len(seen) == len(set(seen)) == page["total"] == 40
    assert client.call("list_runs", text="x12-")["total"] == 1
    assert client.call("list_runs", kind="eval") == {"runs": [], "total": 0}


def test_what_can_be_asked_for_is_told(client: Client) -> None:
    assert "train.engine" in client.text("describe")
    rank = client.call("describe", topic="train.engine", query="lora_rank")["entries"]
    assert rank == [{"name": "lora_rank", "type": "int", "default": "8"}]
    names: list[str] = []
    page = client.call("describe", topic="train")
    while "after" in page:
        names += [entry["name"] for entry in page["entries"]]
        page = client.call("describe", topic="train", after=page["after"])
    names += [entry["name"] for entry in page["entries"]]
    assert {"model", "dataset", "effective_batch_size", "engine"} <= set(names)
    assert len(names) == len(set(names))
    assert "arithmetic" in client.text("describe", topic="tasks")
    assert "builtin:tiny" in client.text("describe", topic="models")


def test_environments_are_told_as_they_are(desk: Workspace, connect: Callable[..., Client]) -> None:
    (desk.path / "pixi.toml").write_text("[environments]\ntrain = []\neval = []\nserve = []\n")
    client = connect(NEW)
    told = client.call("env_diagnose")
    assert {e["name"]: e["status"] for e in told["environments"]} == {
        "train": "ready",
        "eval": "ready",
        "serve": "not_built",
    }
    [finding] = [f for f in told["findings"] if f.get("environment")]
    assert (finding["id"], finding["severity"], finding["environment"]) == ("not-built", "note", "serve")
    assert "./pixiw install -e serve" in finding["way_out"]
    assert not [f for f in client.call("env_diagnose", environment="train")["findings"] if f.get("environment")]
    assert client.call("env_diagnose", model="builtin:tiny")["tokens"] == {"train": 1, "eval": 1}
    assert "outside the workspace" in client.error("env_diagnose", model="/etc")
    assert "did you mean 'train'?" in client.error("env_diagnose", environment="trian")


def test_tasks_are_replaced(desk: Workspace, client: Client) -> None:
    assert client.call("set_current_tasks", tasks=["one", "two"])["replaced"] == []
    assert client.call("set_current_tasks", tasks=[])["replaced"] == ["one", "two"]
    assert "## Current tasks\n\nN/A\n" in (desk.path / "AGENTS.md").read_text()


def test_a_draft_of_an_entry_is_made_from_what_git_says(desk: Workspace, client: Client) -> None:
    assert "is no git checkout" in client.error("record_recent_changes")
    subprocess.run(["git", "init", "-q", desk.path], check=True)
    (desk.path / "tool.py").write_text("1\n2\n")
    offered = client.call("record_recent_changes")
    assert "tool.py: +2 -0" in offered["draft"]
    assert "tool.py" in offered["changed"]
    assert not (desk.path / "AGENTS.md").exists()
    client.call("record_recent_changes", summary=offered["draft"], files=["tool.py"])
    assert client.call("record_recent_changes")["draft"] == ""


def test_a_server_without_a_workspace_says_so(tmp_path: Path) -> None:
    client = Client(tmp_path / "nowhere")
    try:
        assert "names no folder" in client.error("list_runs")
        assert len(client.ask("tools/list")["tools"]) == 19
    finally:
        client.kill()
