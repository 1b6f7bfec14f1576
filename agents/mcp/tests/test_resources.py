"""Resources, prompts, completions, and notices of what changed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from raw_client import NEW, OLD, TRAIN, Client

from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder

SLOW = {**TRAIN, "engine": {"pause": 0.2, "max_steps": 200}}


def read(client: Client, address: str) -> str:
    [contents] = client.ask("resources/read", uri=address)["contents"]
    assert contents["uri"] == address
    return contents["text"]


def test_a_run_and_its_files_are_resources(client: Client, ended: Callable[..., RunFolder]) -> None:
    run = ended()
    seen = json.loads(read(client, f"tuneyard://runs/{run.id}"))
    assert (seen["id"], seen["state"]) == (run.id, "succeeded")
    assert json.loads(read(client, f"tuneyard://runs/{run.id}/spec"))["kind"] == "train"
    assert json.loads(read(client, f"tuneyard://runs/{run.id}/result"))["metrics"]["train_loss"]["value"] == 1.25
    run.attempt(1).stderr.write_text("first\nlast\n")
    assert read(client, f"tuneyard://runs/{run.id}/log") == "first\nlast"


def test_agents_md_and_the_documentation_are_resources(desk: Workspace, client: Client) -> None:
    (desk.path / "AGENTS.md").write_text("# Notes\n")
    (desk.path / "docs").mkdir()
    (desk.path / "docs" / "architecture.md").write_text("# Architecture\n" + "word " * 10_000)
    listed = {resource["uri"] for resource in client.ask("resources/list")["resources"]}
    assert listed == {"tuneyard://agents-md", "tuneyard://servers", "tuneyard://docs/architecture"}
    assert read(client, "tuneyard://agents-md") == "# Notes\n"
    first = read(client, "tuneyard://docs/architecture")
    assert len(first) < 20_000
    assert first.endswith("more characters: tuneyard://docs/architecture?part=2")
    parts = [read(client, f"tuneyard://docs/architecture?part={n}").partition("\n\n… ")[0] for n in (1, 2, 3)]
    assert "".join(parts) == (desk.path / "docs" / "architecture.md").read_text()
    forms = {t["uriTemplate"] for t in client.ask("resources/templates/list")["resourceTemplates"]}
    assert "tuneyard://runs/{id}/log{?part}" in forms


@pytest.mark.parametrize(
    "address",
    [
        "tuneyard://runs/train-none-261120-1830-abc",
        "tuneyard://runs/../../etc/passwd",
        "tuneyard://docs/../AGENTS",
        "tuneyard://docs/link",
        "tuneyard://docs/none",
        "tuneyard://agents-md?part=7",
        "tuneyard://nothing",
        "file:///etc/passwd",
        "tuneyard://runs/%2e%2e/x",
    ],
)
def test_what_is_not_there_or_lies_outside_is_refused(
    desk: Workspace, connect: Callable[..., Client], address: str
) -> None:
    (desk.path / "AGENTS.md").write_text("# Notes\n")
    (desk.path / "docs").mkdir()
    (desk.path / "docs" / "link.md").symlink_to("/etc/passwd")
    client = connect(NEW)
    error = client.refused("resources/read", uri=address)
    assert error["code"] == -32602
    assert error["data"]["uri"] == address
    assert "root:" not in json.dumps(error)


@pytest.mark.parametrize("era", [OLD, NEW])
def test_a_change_of_a_runs_state_is_noticed(connect: Callable[..., Client], era: str) -> None:
    starter, watcher = connect(OLD), connect(era)
    run = starter.call("train", fields=SLOW)["runs"][0]["id"]
    while starter.call("run_status", run_id=run, wait_seconds=20)["state"] != "running":
        pass
    address = f"tuneyard://runs/{run}"
    if era == OLD:
        watcher.ask("resources/subscribe", uri=address)
    else:
        watcher.begin("subscriptions/listen", notifications={"resourceSubscriptions": [address]})
        watcher.notice("notifications/subscriptions/acknowledged")
    starter.call("run_cancel", run_id=run)
    assert watcher.notice("notifications/resources/updated")["uri"] == address
    if era == OLD:
        watcher.ask("resources/unsubscribe", uri=address)
    assert starter.wait(run)["state"] == "cancelled"


def test_a_saved_agents_md_is_noticed(desk: Workspace, connect: Callable[..., Client]) -> None:
    watcher = connect(OLD)
    watcher.ask("resources/subscribe", uri="tuneyard://agents-md")
    time.sleep(1.5)
    assert not watcher.notices
    (desk.path / "AGENTS.md").write_text("# Notes\n")
    assert watcher.notice("notifications/resources/updated")["uri"] == "tuneyard://agents-md"


def test_prompts_hold_what_is_known(client: Client, ended: Callable[..., RunFolder]) -> None:
    failed = ended(engine={"fail": "no such column"})
    names = {prompt["name"] for prompt in client.ask("prompts/list")["prompts"]}
    assert names == {"plan_fine_tune", "why_run_failed", "write_up_comparison"}
    [message] = client.ask("prompts/get", name="why_run_failed", arguments={"run_id": failed.id})["messages"]
    assert "no such column" in message["content"]["text"]
    plan = client.ask("prompts/get", name="plan_fine_tune", arguments={"goal": "add numbers"})
    assert "Goal: add numbers" in plan["messages"][0]["content"]["text"]
    one, two = ended("eval", dtype="3"), ended("eval", dtype="7")
    both = client.ask("prompts/get", name="write_up_comparison", arguments={"a": one.id, "b": two.id})
    assert "B - A +0.4000" in both["messages"][0]["content"]["text"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("why_run_faild", {}, "did you mean 'why_run_failed'?"),
        ("why_run_failed", {}, "the argument 'run_id' is missing"),
        ("why_run_failed", {"run_id": "train-none-261120-1830-abc"}, "there is no run"),
        ("plan_fine_tune", {"goal": "x", "modle": "y"}, "did you mean 'model'?"),
    ],
)
def test_wrong_prompts_are_refused(
    connect: Callable[..., Client], name: str, arguments: dict[str, str], message: str
) -> None:
    assert message in connect(NEW).refused("prompts/get", name=name, arguments=arguments)["message"]


def test_run_ids_are_completed(client: Client, ended: Callable[..., RunFolder]) -> None:
    run = ended()
    reference = {"type": "ref/prompt", "name": "why_run_failed"}
    found = client.ask("completion/complete", ref=reference, argument={"name": "run_id", "value": "train-ari"})
    assert found["completion"]["values"] == [run.id]
    goal = {"type": "ref/prompt", "name": "plan_fine_tune"}
    assert (
        client.ask("completion/complete", ref=goal, argument={"name": "goal", "value": ""})["completion"]["values"]
        == []
    )


def test_listening_ends_with_the_client(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    client.begin("subscriptions/listen", notifications={"resourceSubscriptions": ["tuneyard://agents-md"]})
    client.notice("notifications/subscriptions/acknowledged")
    done = threading.Timer(10, client.kill)
    done.start()
    assert client.close() == 0
    done.cancel()
