"""Rows of every format become records, and records rows, without a loss on the way."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.data.formats import parse
from tuneyard.data.layouts import layout_of
from tuneyard.data.records import Record
from tuneyard.data.rows import FORMS, extras, form_for
from tuneyard.data.turns import IMAGE, BadRow

texts = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda t: IMAGE not in t)
filled = texts.filter(bool)
calls = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    filled,
    st.dictionaries(texts, st.integers() | texts, max_size=2),
)


@st.composite
def conversations(draw: st.DrawFn, answered: bool = True) -> tuple[dict[str, Any], ...]:
    """Turns as LLaMA-Factory wants them: asked and answered in turn, an answer being text or calls of tools."""
    turns: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        called = bool(turns and turns[-1].get("tool_calls"))
        turns.append({"role": "tool" if called else "user", "content": draw(texts)})
        answer: dict[str, Any] = {"role": "assistant", "content": draw(texts)}
        if draw(st.booleans()):
            answer = {"role": "assistant", "content": "", "tool_calls": draw(st.lists(calls, min_size=1, max_size=2))}
        turns.append(answer)
    return tuple(turns if answered else turns[:-1])


talks = st.lists(texts, min_size=2, max_size=6).map(
    lambda t: tuple({"role": ("user", "assistant")[n % 2], "content": x} for n, x in enumerate(t[: len(t) // 2 * 2]))
)
common: dict[str, Any] = {
    "id": st.none() | filled,
    "system": st.none() | filled,
    "target": st.none() | filled,
    "metadata": st.dictionaries(filled.filter(lambda t: t != "metadata"), st.integers() | texts, max_size=2),
}
tools = st.lists(st.dictionaries(filled, texts, min_size=1, max_size=2), max_size=2).map(tuple)
asked = {"prompt": texts, "response": texts}
records: dict[str, st.SearchStrategy[Record]] = {
    "alpaca": st.builds(Record, **asked, **common, tools=tools) | st.builds(Record, messages=talks, **common),
    "sharegpt": st.builds(Record, messages=conversations(), tools=tools, **common),
    "preference": st.builds(Record, prompt=texts, chosen=texts, rejected=texts, **common)
    | st.builds(Record, messages=conversations(answered=False), chosen=texts, rejected=texts, tools=tools, **common),
    "kto": st.builds(Record, prompt=texts, response=filled, label=st.booleans(), **common)
    | st.builds(Record, messages=talks.filter(lambda t: t[-1]["content"]), label=st.booleans(), **common),
    "text": st.builds(Record, text=texts, id=common["id"], target=common["target"], metadata=common["metadata"]),
}


def meaning(record: Record) -> dict[str, Any]:
    """What a record says, however its fields say it."""
    return {
        "turns": record.turns(),
        **{name: getattr(record, name) for name in ("chosen", "rejected", "label", "text", "system", "tools")},
        **{name: getattr(record, name) for name in ("id", "target", "metadata", "images")},
    }


@pytest.mark.parametrize("format", FORMS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_record_written_and_read_again_is_the_same(format: Any, data: st.DataObject) -> None:
    record = data.draw(records[format])
    row = form_for(record, format).make(record, Counter()) | extras(record)
    row = json.loads(json.dumps(row))
    layout = layout_of(row, {}, None, "here")
    assert layout.format == format
    assert meaning(parse(row, layout)) == meaning(record)


@given(conversations())
def test_chat_rows_with_calls_of_tools_are_the_records_own_messages(talk: tuple[dict[str, Any], ...]) -> None:
    row = {"messages": list(talk)}
    assert parse(row, layout_of(row, {}, None, "here")).messages == talk


@pytest.mark.parametrize(
    ("row", "format", "prompt", "response"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, "alpaca", "a\nb", "c"),
        ({"instruction": "a", "input": "", "output": "c"}, "alpaca", "a", "c"),
        ({"instruction": "", "input": "b", "output": "c"}, "alpaca", "b", "c"),
        ({"instruction": "a", "context": "b", "response": "c"}, "alpaca", "a\nb", "c"),
        ({"prompt": "a", "completion": "c"}, "alpaca", "a", "c"),
        ({"question": "a", "answer": "c", "id": 7}, "alpaca", "a", "c"),
        ({"input": "a", "output": "c"}, "alpaca", "a", "c"),
        ({"prompt": "a", "response": "c", "label": 1}, "alpaca", "a", "c"),
        ({"prompt": "a", "completion": "c", "label": False}, "kto", "a", "c"),
    ],
)
def test_columns_are_known_by_their_usual_names(row: dict[str, Any], format: str, prompt: str, response: str) -> None:
    layout = layout_of(row, {}, None, "here")
    record = parse(row, layout)
    assert (layout.format, record.prompt, record.response) == (format, prompt, response)


def test_columns_that_mean_nothing_to_us_become_metadata() -> None:
    row = {"prompt": "a", "response": "b", "source": "web", "id": 7, "metadata": '{"x": [1]}'}
    record = parse(row, layout_of(row, {}, None, "here"))
    assert (record.id, record.metadata) == ("7", {"source": "web", "x": [1]})


def test_roles_may_be_given_by_llamafactorys_names_or_alpacas() -> None:
    row = {"q": "a", "more": "b", "a": "c", "good": True}
    for columns in (
        {"prompt": "q", "query": "more", "response": "a", "kto_tag": "good"},
        {"instruction": "q", "input": "more", "output": "a", "label": "good"},
    ):
        record = parse(row, layout_of(row, columns, None, "here"))
        assert (record.prompt, record.response, record.label) == ("a\nb", "c", True)


@pytest.mark.parametrize("word", ["true", "True", "1", 1, True])
def test_labels_may_be_texts_or_numbers_where_kto_was_asked_for(word: Any) -> None:
    row = {"prompt": "a", "completion": "b", "label": word}
    assert parse(row, layout_of(row, {}, "kto", "here")).label is True


def test_lists_may_stand_as_text_as_they_must_in_csv() -> None:
    row = {
        "conversations": '[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]',
        "tools": '[{"name": "t"}]',
    }
    record = parse(row, layout_of(row, {}, None, "here"))
    assert [m["content"] for m in record.turns()] == ["a", "b"]
    assert record.tools == ({"name": "t"},)


def test_a_preference_between_whole_conversations_is_one_between_their_ends() -> None:
    fore = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    row = {
        "prompt": "q",
        "chosen": [*fore, {"role": "assistant", "content": "good"}],
        "rejected": [*fore, {"role": "assistant", "content": "bad"}],
    }
    record = parse(row, layout_of(row, {}, None, "here"))
    assert (record.system, record.chosen, record.rejected) == ("s", "good", "bad")
    assert record.turns() == fore[1:]


def test_a_function_call_may_be_preceded_by_a_thought() -> None:
    call = '<think>hm</think>{"name": "add", "arguments": {"a": 1}}'
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": call}]}
    record = parse(row, layout_of(row, {}, None, "here"))
    written = form_for(record).make(record, Counter())["conversations"][1]
    assert written == {
        "from": "function_call",
        "value": '<think>\nhm\n</think>\n\n{"name": "add", "arguments": {"a": 1}}',
    }


def test_text_beside_a_call_is_left_out_and_told() -> None:
    call = {"function": {"name": "add", "arguments": {}}}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "I add.", "tool_calls": [call]}]
    row = {"messages": messages}
    record = parse(row, layout_of(row, {}, None, "here"))
    notes: Counter[str] = Counter()
    assert form_for(record).make(record, notes)["conversations"][1]["from"] == "function_call"
    assert [count for note, count in notes.items() if "left out" in note] == [1]


def test_images_get_their_places_in_the_text_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    path = str(tmp_path / "a.png")
    parts = [{"type": "image_url", "image_url": {"url": path}}, {"type": "text", "text": "What?"}]
    answer = {"role": "assistant", "content": "a"}
    for row in (
        {"question": "What?", "answer": "a", "image": path},
        {"messages": [{"role": "user", "content": parts}, answer]},
        {"messages": [{"role": "user", "content": "What?"}, answer], "images": [path]},
        {"question": "<image>What?", "answer": "a", "images": [path]},
    ):
        record = parse(row, layout_of(row, {}, None, "here"))
        assert record.images == (path,)
        assert record.turns()[0]["content"] == "<image>What?"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"instruction": "a"}, "there is no column 'output'"),
        ({"instruction": "a", "output": None}, "'output' must be text, not null"),
        ({"instruction": "a", "output": 3}, "'output' must be text, not a number"),
        ({"instruction": ["a"], "output": "b"}, "'instruction' must be text, not a list"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "pairs of texts"),
        ({"instruction": "a", "output": "b", "history": "c"}, "must be a list"),
        ({"instruction": "a", "output": "b", "images": ["nowhere.png"]}, "there is no image"),
        ({"instruction": "a", "output": "b", "images": ["https://x/a.png"]}, "not fetched"),
        ({"instruction": "<image><image>", "output": "b", "images": [__file__]}, "1 images, but 2 places"),
    ],
)
def test_alpaca_rows_that_cannot_be_used(row: dict[str, Any], says: str) -> None:
    full = {"instruction": "", "input": "", "output": "", "history": [], "images": []}
    with pytest.raises(BadRow, match=says):
        parse(row, layout_of(full, {}, None, "here"))


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ("hello", "must be a list of turns"),
        (["hello"], "must be an object"),
        ([{"value": "a"}], "no 'role'"),
        ([{"from": "alien", "value": "a"}], "unknown from 'alien'"),
        ([{"from": "human"}], "no text"),
        ([{"from": "human", "value": 3}], "must be text, not a number"),
        ([{"from": "function_call", "value": "add(1)"}], "must be JSON"),
        ([{"from": "function_call", "value": '{"name": "add"}'}], "needs name and arguments"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "text or image, not input_audio"),
    ],
)
def test_conversations_that_cannot_be_used(turns: Any, says: str) -> None:
    with pytest.raises(BadRow, match=says):
        parse({"conversations": turns}, layout_of({"conversations": []}, {}, None, "here"))


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ([], "no turn"),
        (["assistant", "user"], "turn 1 of the conversation is assistant's"),
        (["user"], "ends with user, where an answer"),
        (["user", "user", "assistant"], "turn 2"),
        (["user", "assistant", "system", "assistant"], "turn 3 of the conversation is system's"),
    ],
)
def test_conversations_that_llamafactory_would_leave_out_are_refused(roles: list[str], says: str) -> None:
    record = Record(messages=tuple({"role": role, "content": "x"} for role in roles))
    with pytest.raises(BadRow, match=says):
        form_for(record).make(record, Counter())


def test_alpaca_rows_hold_no_calls_of_tools() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]}
    record = Record(messages=({"role": "user", "content": "q"}, call))
    with pytest.raises(BadRow, match="sharegpt"):
        form_for(record, "alpaca").make(record, Counter())


@pytest.mark.parametrize(
    ("row", "columns", "format", "words"),
    [
        ({"question": "a", "output": "b"}, {"prompt": "qestion"}, None, ["'qestion'", "did you mean 'question'"]),
        ({"a": "b"}, {"promt": "a"}, None, ["role in `columns`", "'promt'", "did you mean 'prompt'"]),
        ({"url": "a", "titel": "b"}, {}, None, ["no format fits the columns url, titel", "docs/data.md"]),
        ({"prompt": "a", "ouput": "b"}, {}, "alpaca", ["(output or response", "prompt, ouput", "{response: ouput}"]),
        ({"text": "a"}, {}, "sharegpt", ["conversations or messages", "text"]),
        ({"chosen": "a", "rejected": "b"}, {}, None, ["preference needs a column for prompt"]),
    ],
)  # fmt: skip
def test_a_wrong_column_is_answered_with_what_was_expected_and_what_there_is(
    row: dict[str, Any], columns: dict[str, str], format: Any, words: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        layout_of(row, columns, format, "here")
    assert caught.value.where == "here"
    for word in words:
        assert word in str(caught.value)
