"""The tasks extension, for clients that declare it; all others see nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from raw_client import NEW, OLD, TRAIN, Client

ABLE = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
SLOW = {**TRAIN, "engine": {"pause": 0.2, "max_steps": 300}}


def start(client: Client, tool: str = "train", **arguments: Any) -> dict[str, Any]:
    return client.ask("tools/call", name=tool, arguments=arguments, capabilities_=ABLE)


def get(client: Client, task: str) -> dict[str, Any]:
    return client.ask("tasks/get", taskId=task, capabilities_=ABLE)


def until(client: Client, task: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (seen := get(client, task))["status"] != status:
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


def test_a_training_is_a_task_that_any_server_knows(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    made = start(client, fields=TRAIN)
    assert made["resultType"] == "task"
    assert made["status"] == "working"
    assert made["ttlMs"] is None
    assert isinstance(made["pollIntervalMs"], int)
    assert "content" not in made
    client.kill()
    seen = until(connect(NEW), made["taskId"], "completed")
    assert seen["resultType"] == "complete"
    assert seen["result"]["isError"] is False
    assert seen["result"]["structuredContent"]["runs"][0] == {
        "id": made["taskId"],
        "state": "succeeded",
        "existing": False,
    }


def test_a_run_that_failed_is_a_completed_task_with_an_error(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    made = start(client, fields={**TRAIN, "engine": {"fail": "no such column"}})
    seen = until(client, made["taskId"], "completed")
    assert seen["result"]["isError"] is True
    assert "no such column" in seen["result"]["content"][0]["text"]


def test_a_task_is_cancelled_as_its_run_is(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    made = start(client, fields=SLOW)
    for _ in range(2):
        acknowledged = client.ask("tasks/cancel", taskId=made["taskId"], capabilities_=ABLE)
        assert acknowledged["resultType"] == "complete"
        assert "taskId" not in acknowledged
        until(client, made["taskId"], "cancelled")
    assert client.call("run_status", run_id=made["taskId"])["state"] == "cancelled"


def test_what_starts_no_single_run_is_no_task(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    assert start(client, fields=TRAIN, dry_run=True)["resultType"] == "complete"
    assert start(client, fields={"model": "/etc"})["isError"]
    models = start(client, "evaluate", models=["builtin:tiny", "builtin:tiny"], tasks=["arithmetic"])
    assert len(models["structuredContent"]["runs"]) == 2
    assert start(client, "list_runs")["resultType"] == "complete"


def test_clients_that_do_not_declare_it_get_run_ids(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    run = client.call("train", fields=TRAIN)["runs"][0]["id"]
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        error = client.refused(method, taskId=run)
        assert error["code"] == -32021
        assert error["data"]["requiredCapabilities"] == ABLE
    assert client.wait(run)["state"] == "succeeded"
    old = connect(OLD)
    assert old.call("train", fields=TRAIN)["runs"][0]["id"] != run


def test_unknown_tasks_and_methods_are_refused(connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        assert client.refused(method, taskId="train-x-261120-1830-abc", capabilities_=ABLE)["code"] == -32602
        assert client.refused(method, taskId="../x", capabilities_=ABLE)["code"] == -32602
    for method in ("tasks/list", "tasks/result"):
        assert client.refused(method, capabilities_=ABLE)["code"] == -32601
    found = client.ask("server/discover", capabilities_=ABLE)
    assert "io.modelcontextprotocol/tasks" in found["capabilities"]["extensions"]
