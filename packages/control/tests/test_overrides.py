"""`a.b=VALUE` words: which word is the SPEC, what a value is read as, and where it goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control.resolving.anchors import anchored, standing_folder
from tuneyard.control.resolving.overrides import Override, apply, from_fields, parse_override, parse_words
from tuneyard.core.errors import RequestError

ODD_NAMES = [
    "it's",
    'a "b"',
    "c: d",
    "e #f",
    "[g]",
    "{h}",
    "i, j",
    "k\nl",
    "ünï 北京",
    "&m",
    "*n",
    "!o",
    "- p",
    "q\tr",
    "5",
]


def value(word: str, base: Path = Path("/nowhere")) -> Any:
    [override] = parse_words([word], base)[1]
    return override.value


def changed(given: dict[str, Any], *words: str, base: Path = Path("/nowhere")) -> dict[str, Any]:
    return apply(given, parse_words(words, base)[1])


def test_a_bare_word_is_the_spec_and_the_rest_are_overrides() -> None:
    spec, overrides = parse_words(["engine.lora_rank=8", "train.yaml", "seed=1"], Path("/"))
    assert spec == "train.yaml"
    assert [(o.name, o.value) for o in overrides] == [("engine.lora_rank", 8), ("seed", 1)]


def test_two_bare_words_are_refused() -> None:
    with pytest.raises(RequestError, match="one SPEC at a time"):
        parse_words(["a.yaml", "b.yaml"], Path("/"))


def test_a_file_with_an_equals_sign_is_a_spec_when_a_folder_stands_in_front() -> None:
    assert parse_words(["./lr=3e-4.yaml"], Path("/"))[0] == "./lr=3e-4.yaml"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("engine.learning_rate=3e-4", 3e-4),
        ("engine.learning_rate=1E5", 1e5),
        ("limit=null", None),
        ("limit=", None),
        ("merge=true", True),
        ("engine.report_to='no'", "no"),
        ("engine.a={b: [1, 2]}", {"b": [1, 2]}),
        ("engine.lora_target=q_proj,v_proj", "q_proj,v_proj"),
        ("tasks=gsm8k,arithmetic", ["gsm8k", "arithmetic"]),
        ("tasks=[gsm8k, arithmetic]", ["gsm8k", "arithmetic"]),
        ("dataset=builtin:arithmetic,builtin:gsm8k", ["builtin:arithmetic", "builtin:gsm8k"]),
        ("model=run:train-a-261120-1830-k3f", "run:train-a-261120-1830-k3f"),
        ("name=a=b", "a=b"),
    ],
)
def test_a_value_is_yaml(word: str, expected: Any) -> None:
    assert value(word) == expected


@pytest.mark.parametrize("word", ["engine.a={b: 1, b: 2}", "engine.a=[1", "engine.a=b: c: d"])
def test_a_value_that_is_not_yaml_names_its_key(word: str) -> None:
    with pytest.raises(RequestError) as refused:
        value(word)
    assert "engine.a=" in str(refused.value)


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("key", ["model", "dataset", "dataset.source", "data", "engine.deepspeed"])
def test_a_path_needs_no_quotes_whatever_is_in_it(tmp_path: Path, key: str, name: str) -> None:
    (tmp_path / name).mkdir()
    assert value(f"{key}={name}", tmp_path) == str(tmp_path / name)
    assert value(f"{key}={tmp_path / name}", Path("/")) == str(tmp_path / name)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_task_folder_is_written_with_a_slash(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert value(f"tasks=./{name}", tmp_path) == str(tmp_path / name)


def test_a_bare_word_is_the_librarys_task_although_a_folder_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    assert value("tasks=gsm8k", tmp_path) == "gsm8k"
    assert value("data=gsm8k", tmp_path) == str(tmp_path / "gsm8k")


def test_a_number_stays_a_number_although_a_file_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "5").touch()
    assert value("limit=5", tmp_path) == 5


def test_paths_are_meant_from_the_folder_the_user_stands_in(tmp_path: Path) -> None:
    assert value("dataset=./new.jsonl", tmp_path) == str(tmp_path / "new.jsonl")
    assert value("dataset={source: ../new.jsonl, filter: keep.py:f}", tmp_path / "x") == {
        "source": str(tmp_path / "new.jsonl"),
        "filter": f"{tmp_path / 'x' / 'keep.py'}:f",
    }
    assert value("callbacks=stop.py:stop", tmp_path) == f"{tmp_path / 'stop.py'}:stop"
    assert value("tasks=mine.py@quiz", tmp_path) == f"{tmp_path / 'mine.py'}@quiz"
    assert value("data=~/gsm8k", tmp_path) == os.path.expanduser("~/gsm8k")


def test_names_are_no_paths(tmp_path: Path) -> None:
    for word in ("tasks=gsm8k", "tasks=inspect_evals/gsm8k", "model=Qwen/Qwen2.5-0.5B", "model=builtin:tiny"):
        assert value(word, tmp_path) == word.partition("=")[2]


def test_a_folder_wins_over_a_hub_id_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "Qwen" / "Qwen2.5-0.5B").mkdir(parents=True)
    assert value("model=Qwen/Qwen2.5-0.5B", tmp_path) == str(tmp_path / "Qwen" / "Qwen2.5-0.5B")


def test_a_setting_is_added_to_those_that_are_there() -> None:
    given = {"engine": {"lora_rank": 8}}
    assert changed(given, "engine.learning_rate=1e-4") == {"engine": {"lora_rank": 8, "learning_rate": 1e-4}}
    assert changed(given, "engine={learning_rate: 1e-4}") == {"engine": {"lora_rank": 8, "learning_rate": 1e-4}}
    assert given == {"engine": {"lora_rank": 8}}


def test_the_last_of_two_settings_counts() -> None:
    assert changed({}, "seed=1", "seed=2") == {"seed": 2}


def test_a_key_below_a_shorthand_makes_it_a_mapping() -> None:
    assert changed({"dataset": "builtin:arithmetic"}, "dataset.limit=9") == {
        "dataset": {"source": "builtin:arithmetic", "limit": 9}
    }
    assert changed({"tasks": "arithmetic"}, "tasks.arguments.digits=2") == {
        "tasks": {"task": "arithmetic", "arguments": {"digits": 2}}
    }


@pytest.mark.parametrize("dataset", [{"source": "a"}, [{"source": "a"}], "a", ["a"]])
def test_an_only_entry_is_number_0_whether_or_not_it_stands_in_a_list(dataset: Any) -> None:
    for word in ("dataset.0.limit=9", "dataset.limit=9"):
        after = changed({"dataset": dataset}, word)["dataset"]
        assert after in ({"source": "a", "limit": 9}, [{"source": "a", "limit": 9}])


def test_one_of_several_entries_has_to_be_named() -> None:
    given = {"dataset": ["a", "b"]}
    assert changed(given, "dataset.1.limit=9") == {"dataset": ["a", {"source": "b", "limit": 9}]}
    with pytest.raises(RequestError, match=r"dataset has 2 entries[\s\S]*dataset\.0\.limit"):
        changed(given, "dataset.limit=9")
    with pytest.raises(RequestError, match="has 2 entries"):
        changed(given, "dataset.7.limit=9")


def test_a_key_below_a_plain_value_is_refused() -> None:
    with pytest.raises(RequestError, match="seed is 1"):
        changed({"seed": 1}, "seed.x=2")


def test_python_values_are_taken_as_they_are(tmp_path: Path) -> None:
    overrides = from_fields({"model": Path("m"), "engine.max_steps": 5, "engine": {"a": "1e-4"}}, tmp_path)
    assert apply({}, overrides) == {"model": str(tmp_path / "m"), "engine": {"max_steps": 5, "a": "1e-4"}}


texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co"]), max_size=20)  # what YAML calls printable
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=1, max_size=4), json_values)
def test_any_json_value_comes_through(path: list[str], thing: Any) -> None:
    keys = ["engine", *path]
    override = parse_override(".".join(keys), json.dumps(thing, ensure_ascii=False), Path("/"))
    found: Any = apply({}, [override])
    for key in keys:
        found = found[key]
    assert found == thing


@given(st.text(min_size=1))
def test_any_text_is_a_spec_an_override_or_told_to_be_wrong(word: str) -> None:
    try:
        spec, overrides = parse_words([word], Path("/"))
    except RequestError:
        return
    assert (spec is None) == (len(overrides) == 1)


@given(st.dictionaries(st.sampled_from("abc"), json_values), st.sampled_from("abcd"), json_values)
def test_an_override_changes_its_key_and_no_other(given_spec: dict[str, Any], key: str, thing: Any) -> None:
    after = apply(given_spec, [Override((key,), thing)])
    assert after == {**given_spec, key: thing}


def test_anchoring_twice_changes_nothing(tmp_path: Path) -> None:
    spec = {"model": "./m", "dataset": [{"source": "d.jsonl", "filter": "f.py:g"}], "engine": {"deepspeed": "z.json"}}
    once = anchored(spec, [tmp_path])
    assert anchored(once, [Path("/elsewhere")]) == once


def test_the_user_stands_where_the_launcher_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, typed, elsewhere = (tmp_path / name for name in ("root", "typed", "elsewhere"))
    for folder in (root, typed, elsewhere):
        folder.mkdir()
    monkeypatch.delenv("PIXI_PROJECT_ROOT", raising=False)
    monkeypatch.setenv("INIT_CWD", str(typed))
    monkeypatch.chdir(root)
    assert standing_folder() == typed
    monkeypatch.setenv("PIXI_PROJECT_ROOT", str(root))
    assert standing_folder() == typed
    monkeypatch.chdir(elsewhere)  # in a shell that was started by the launcher
    assert standing_folder() == elsewhere
    monkeypatch.delenv("INIT_CWD")
    assert standing_folder() == elsewhere
