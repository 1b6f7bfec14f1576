"""Specs: what a person may write, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.core.references import CodeRef, DatasetSource, ModelRef, kind_of, load_code
from tuneyard.core.specs import EvalSpec, TrainSpec, parse_duration, parse_spec

TRAIN = {"kind": "train", "model": "builtin:tiny", "dataset": "builtin:arithmetic"}


def test_the_shortest_training_spec_names_a_model_and_a_dataset() -> None:
    spec = parse_spec(TRAIN, "spec.yaml")
    assert isinstance(spec, TrainSpec)
    assert spec.model.reference == "builtin:tiny"
    assert [d.source for d in spec.dataset] == ["builtin:arithmetic"]
    assert spec.seed == 42


def test_a_resolved_spec_is_read_back_as_it_was_written() -> None:
    spec = parse_spec({**TRAIN, "engine": {"lora_rank": 8}, "time_limit": "1h30m"}, "spec.yaml")
    assert parse_spec(spec.model_dump(mode="json"), "spec.json") == spec


def test_arguments_of_a_builtin_corpus_stand_beside_its_source() -> None:
    source = DatasetSource.model_validate({"source": "builtin:arithmetic", "digits": 3, "limit": 5})
    assert source.arguments == {"digits": 3}
    assert source.limit == 5


def test_a_file_takes_no_unknown_key() -> None:
    with pytest.raises(RequestError, match=r"unknown key 'dataset\.0\.fromat'") as caught:
        parse_spec({**TRAIN, "dataset": {"source": "rows.jsonl", "fromat": "alpaca"}}, "spec.yaml")
    assert caught.value.way_out == "did you mean 'format'?"


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="unknown kind 'trian'") as caught:
        parse_spec({**TRAIN, "kind": "trian"}, "spec.yaml")
    assert caught.value.way_out == "did you mean 'train'?"


def test_a_spec_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(RequestError, match="a mapping of keys to values"):
        parse_spec(["kind", "train"], "spec.yaml")


@pytest.mark.parametrize("name", ["Über", "a b", "-x", "x" * 25, "", "../x"])
def test_a_name_that_cannot_be_part_of_a_run_id_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="name"):
        parse_spec({**TRAIN, "name": name}, "spec.yaml")


def test_tasks_are_a_name_or_a_list_of_names_and_mappings() -> None:
    one = parse_spec({"kind": "eval", "tasks": "gsm8k"}, "spec.yaml")
    many = parse_spec({"kind": "eval", "tasks": ["gsm8k", {"task": "arithmetic", "arguments": {"digits": 2}}]}, "x")
    assert isinstance(one, EvalSpec) and isinstance(many, EvalSpec)
    assert [t.task for t in one.tasks] == ["gsm8k"]
    assert many.tasks[1].arguments == {"digits": 2}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45m", 2700), ("1h30m", 5400), ("2d", 172800), ("1d2h3m4s", 93784), (7.5, 7.5)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.text(alphabet="0123456789dhms x", max_size=8))
def test_a_duration_is_read_or_refused_and_never_misread(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert isinstance(seconds, int) and seconds >= 0


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("run:train-x", "run"),
        ("builtin:tiny", "builtin"),
        ("Qwen/Qwen2.5-0.5B", "hub"),
        ("./a/b", "folder"),
        ("m", "folder"),
    ],
)
def test_a_reference_says_what_it_is_by_its_spelling(reference: str, kind: str) -> None:
    assert kind_of(reference) == kind


def test_a_folder_of_the_spelling_of_a_hub_id_is_the_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert kind_of("models/mine") == "folder"


def test_a_model_with_a_folder_is_loaded_from_it() -> None:
    assert ModelRef(reference="run:x", path="/runs/x/artifacts/model").name_or_path == "/runs/x/artifacts/model"
    assert ModelRef(reference="Qwen/Qwen2.5-0.5B").name_or_path == "Qwen/Qwen2.5-0.5B"


@pytest.mark.parametrize("text", ["reward.py", "reward:f", "reward.py:1f", "reward.py:a b", "reward.txt:f"])
def test_code_is_a_function_in_a_python_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"path/file\.py:function"):
        CodeRef.model_validate(text)


def test_code_is_imported_from_its_file_and_its_absence_is_told(tmp_path) -> None:
    file = tmp_path / "my code.py"
    file.write_text("def double(x):\n    return 2 * x\n")
    assert load_code(CodeRef.model_validate(f"{file}:double"))(21) == 42
    with pytest.raises(RequestError, match="'treble' not found") as caught:
        load_code(CodeRef.model_validate(f"{file}:treble"))
    assert caught.value.way_out == "it has: double"


def test_code_that_breaks_on_import_is_told_with_its_own_error(tmp_path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module_anywhere\n")
    with pytest.raises(RequestError, match="ModuleNotFoundError: No module named 'no_such_module_anywhere'"):
        load_code(CodeRef.model_validate(f"{file}:f"))
