"""A model and two adapters that `train` made, asked in every way that clients ask."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import torch
from desk import Desk, told
from transformers import AutoModelForCausalLM

from tuneyard.control.run import Run
from tuneyard.control.servers import Served
from tuneyard.core.files import read_json
from tuneyard.core.fingerprint import Fingerprint, first_difference
from tuneyard.core.run_folder import RunFolder

pytestmark = pytest.mark.slow

MODEL = "builtin:tiny"
QUESTION: list[Any] = [{"role": "user", "content": "1 + 2 ="}]


def chat(client: openai.OpenAI, model: str = MODEL, **options) -> str:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, **{"temperature": 0, "max_tokens": 12, **options}
    )
    return answer.choices[0].message.content or ""


def test_it_is_ready_once_it_has_answered_and_tells_its_names(server: Served, low: str, high: str) -> None:
    (ready,) = told(server.run, "ready")
    assert ready["url"] == server.url == f"http://127.0.0.1:{server.spec['port']}/v1"
    assert ready["models"] == [MODEL, low, high] == server.names()
    assert (ready["chat"], ready["key"]) == (True, False)
    log = server.run.attempt(1).stdout.read_text()
    assert log.index("POST /v1/completions") > 0


def test_the_rank_limit_is_the_smallest_that_fits(server: Served) -> None:
    assert server.spec["engine"]["max_lora_rank"] == 32


def test_the_base_and_each_adapter_answer_for_themselves(client: openai.OpenAI, low: str, high: str) -> None:
    answers = {name: chat(client, name) for name in (MODEL, low, high)}
    assert answers[low] != answers[MODEL] != answers[high]
    assert answers == {name: chat(client, name) for name in answers}


PROMPTS = ["1 + 2 =", "12 + 34 = 46, and 5 + 6 =", "7"]


def log_likelihoods(client: openai.OpenAI, model: str, prompts: list[str]) -> list[tuple[list[int], list[float]]]:
    """Tokens of each prompt and of four more, with the log-probability of each but the first."""
    done = client.completions.create(
        model=model,
        prompt=prompts,
        max_tokens=4,
        temperature=0,
        echo=True,
        logprobs=1,
        extra_body={"return_token_ids": True},
    )
    found = []
    for choice in done.choices:
        assert choice.logprobs is not None
        more: dict[str, Any] = choice.model_extra or {}
        ids = [*more["prompt_token_ids"], *more["token_ids"]]
        found.append((ids, [float(value) for value in (choice.logprobs.token_logprobs or [])[1:] if value is not None]))
    return found


def test_each_of_many_at_once_is_answered_by_the_model_it_asked(
    client: openai.OpenAI, low: str, high: str, tiny: Path
) -> None:
    alone = {name: [log_likelihoods(client, name, [prompt])[0] for prompt in PROMPTS] for name in (low, high)}
    names = [MODEL, low, high] * 8
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: log_likelihoods(client, name, PROMPTS), names))
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    for name, answer in zip(names, answers, strict=True):
        for row, (ids, found) in enumerate(answer):
            if name == MODEL:
                with torch.no_grad():
                    scores = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
                expected = scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
            else:
                assert ids == alone[name][row][0]
                expected = alone[name][row][1]
            assert found == pytest.approx(expected, abs=0.05)  # bfloat16


def test_an_adapter_answers_as_it_was_trained_to(client: openai.OpenAI, low: str) -> None:
    assert any(letter.isdigit() for letter in chat(client, low))  # numbers are all that it has seen as answers


def test_completions_take_lists_and_several_answers(client: openai.OpenAI, low: str) -> None:
    done = client.completions.create(model=low, prompt=["1 + 2 =", "3 + 4 ="], n=2, max_tokens=4, seed=1)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert done.usage is not None
    assert done.usage.completion_tokens <= 16


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, low: str) -> None:
    stream = client.chat.completions.create(
        model=low, messages=QUESTION, temperature=0, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    parts = [part for part in stream]
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == chat(client, low)
    assert parts[-1].usage is not None


def test_log_probabilities_are_those_of_the_tokens_that_were_chosen(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert len(tokens) == 3
    assert all(token.logprob == pytest.approx(token.top_logprobs[0].logprob) for token in tokens)


def test_structured_output_obeys_its_schema(client: openai.OpenAI, low: str) -> None:
    schema = {"type": "object", "properties": {"answer": {"enum": [3, 7]}}, "required": ["answer"]}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {**schema, "additionalProperties": False}},
    }
    assert json.loads(chat(client, low, response_format=form, max_tokens=64))["answer"] in (3, 7)


@pytest.mark.parametrize(
    ("form", "allowed"), [({"choice": ["yes", "no"]}, {"yes", "no"}), ({"regex": "a{3}"}, {"aaa"})]
)
def test_structured_output_by_choice_and_by_regex(client: openai.OpenAI, form: dict, allowed: set[str]) -> None:
    assert chat(client, extra_body={"structured_outputs": form}) in allowed


def test_metrics_count_requests(server: Served, client: openai.OpenAI) -> None:
    def successes() -> float:
        lines = server.ask("/../metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total{"))

    before = successes()
    chat(client)
    assert successes() == before + 1


def test_the_server_makes_the_tokens_that_were_trained_on(server: Served, low: str) -> None:
    run = RunFolder(server.run.path.parent / low)
    training = Fingerprint.model_validate(read_json(run.fingerprint))
    assert training.chat
    assert training.conversation_ids == server.fingerprint().conversation_ids
    assert first_difference(training, server.fingerprint()) is None


def test_adapters_come_and_go_while_it_runs(server: Served, client: openai.OpenAI, desk: Desk, low: str) -> None:
    known = server.names()
    added = desk.yard("serve", "add-adapter", server.run.id, f"run:{low}", "--name", "later", "--json")
    assert added.json == {"id": server.run.id, "name": "later", "url": server.url}
    assert chat(client, "later") == chat(client, low)
    assert desk.yard("serve", "list", "--json").json[0]["names"] == [*known, "later"]
    assert desk.yard("serve", "remove-adapter", server.run.id, "later").code == 0
    assert server.names() == known
    with pytest.raises(openai.NotFoundError):
        chat(client, "later")


def test_adapters_that_it_cannot_take_are_refused_before_it_is_asked(server: Served, desk: Desk, low: str) -> None:
    adapter = RunFolder(server.run.path.parent / low).adapter

    def refused(name: str, *options: str, **changes: object) -> str:
        folder = copied(adapter, desk.path / name, **changes)
        done = desk.yard("serve", "add-adapter", server.run.id, folder, *options)
        assert done.code == 2
        return done.err

    assert "rank 1024" in refused("a", r=1024)
    assert "takes at most 32" in refused("b", r=64)
    assert "another base" in refused("c", base_model_name_or_path="owner/other")
    assert "DoRA" in refused("d", use_dora=True)
    assert "already answers to" in refused("e", "--name", low)
    gone = desk.yard("serve", "remove-adapter", server.run.id, "nothing")
    assert (gone.code, "has no adapter" in gone.err) == (2, True)
    assert server.names()[1] == low


def copied(adapter: Path, folder: Path, **changes: object) -> Path:
    folder.mkdir()
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_bad_requests_are_refused_and_harm_nobody(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="512"):
        client.completions.create(model=MODEL, prompt="long " * 600, max_tokens=4)
    broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such type"}}}
    with pytest.raises(openai.BadRequestError):
        chat(client, response_format=broken)
    with pytest.raises(openai.NotFoundError):
        chat(client, "no-such-model")
    with pytest.raises(openai.BadRequestError):
        chat(client, temperature=-1)
    assert chat(client)


def test_a_hundred_clients_at_once_each_get_an_answer_of_the_form_they_asked_for(
    client: openai.OpenAI, low: str
) -> None:
    def asked(n: int) -> str:
        return chat(client, low, extra_body={"structured_outputs": {"regex": f"{n}:[0-9]{{3}}"}})

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(asked, range(100)))
    assert [answer.split(":")[0] for answer in answers] == [str(n) for n in range(100)]


def test_a_client_that_never_reads_holds_nobody_up(server: Served, client: openai.OpenAI) -> None:
    address = urlsplit(server.url)
    body = json.dumps({"model": MODEL, "prompt": "1", "max_tokens": 480, "ignore_eos": True, "stream": True, "n": 8})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.connect((address.hostname, address.port))
        deaf.sendall(f"{head}\r\n\r\n{body}".encode())
        assert all(chat(client) for _ in range(5))
    assert chat(client)


def test_an_address_that_is_taken_is_refused_at_once(server: Served, desk: Desk) -> None:
    done = desk.yard("run", "--kind", "serve", "model=builtin:tiny", f"port={server.spec['port']}")
    assert done.code == 2
    assert "port=0" in done.err


def test_a_run_from_python_tells_its_url(server: Served, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(desk.path))
    assert Run.open(server.run.id).url == server.url


def test_show_tells_where_it_answers(server: Served, desk: Desk) -> None:
    shown = desk.yard("show", server.run.id).out
    assert f"ready: {server.url}" in shown
    assert f"curl {server.url}/chat/completions" in shown
