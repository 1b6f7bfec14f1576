"""No score is taken where this environment tokenizes a model otherwise than its training did, unless it is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest
from eval_runs import Outcome, Runs, of_file, write_quiz
from model_folders import copy_with_tokenizer, write_adapter

from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.references import ModelRef
from tuneyard.eval import tokens


def fingerprint(model: Path, **changes: Any) -> Fingerprint:
    """What training would have left for a model."""
    found = tokens.fingerprint_of(tokens.load(ModelRef(reference=str(model), path=str(model))))
    return found.model_copy(update={"worker": "train", "chat": True, **changes})


def evaluate(runs: Runs, model: Path, training: Fingerprint | None, tmp_path: Path, **spec: Any) -> Outcome:
    run = runs.trained(training)
    named = {"reference": f"run:{run.id}", "path": str(model), "run": run.id}
    return runs.evaluate(of_file(write_quiz(tmp_path)), limit=2, model=named, **spec)


def without_merges(text_ids: list[int]) -> list[int]:
    return [*text_ids[:5], 7, *text_ids[6:]]


def test_the_same_tokens_give_a_score_and_a_note(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    outcome = evaluate(runs, tiny, fingerprint(tiny), tmp_path)
    assert outcome.notes == "chat template applied, as training did"


def test_other_tokens_are_refused_with_the_first_difference(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    training = fingerprint(tiny)
    changed = training.model_copy(update={"text_ids": without_merges(training.text_ids)})
    failure = evaluate(runs, tiny, changed, tmp_path).failure
    assert failure["kind"] == "request" and "the first difference is token 5" in failure["message"]
    assert "allow_token_mismatch=true" in failure["way_out"]


def test_other_tokens_may_be_allowed_and_are_noted(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    training = fingerprint(tiny)
    changed = training.model_copy(update={"text_ids": without_merges(training.text_ids)})
    outcome = evaluate(runs, tiny, changed, tmp_path, allow_token_mismatch=True)
    assert "token mismatch allowed: the text is split" in outcome.notes
    assert "token mismatch" in outcome.events("warning")[0]["message"]


def test_a_class_that_splits_otherwise_gives_way_to_the_tokenizer_as_saved(
    runs: Runs, tiny: Path, tmp_path: Path
) -> None:
    """transformers builds a class of its own for some kinds of model, and drops what tokenizer.json says."""
    model = copy_with_tokenizer(tiny, tmp_path / "qwen", tokenizer_class="Qwen2Tokenizer")
    saved = json.loads((model / "tokenizer.json").read_text())
    saved["model"]["vocab"]["12"] = 264  # Qwen2's own class splits numbers into digits and never gets to this merge
    saved["model"]["merges"] = [["1", "2"]]
    (model / "tokenizer.json").write_text(json.dumps(saved))
    training = fingerprint(copy_with_tokenizer(model, tmp_path / "saved", tokenizer_class="PreTrainedTokenizerFast"))
    assert 264 in training.text_ids
    by_class = tokens.load(ModelRef(reference=str(model), path=str(model)))
    assert tokens.fingerprint_of(by_class).text_ids != training.text_ids, "the class no longer differs: test another"
    outcome = evaluate(runs, model, training, tmp_path)
    assert outcome.code == 0, outcome.result["failure"]
    assert "tokenizer.json is read as training saved it" in outcome.notes


def test_another_chat_template_is_refused_where_it_is_applied(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    training = fingerprint(tiny, conversation_ids=[1, 2, 3])
    failure = evaluate(runs, tiny, training, tmp_path).failure
    assert "the chat templates differ" in failure["message"]
    assert evaluate(runs, tiny, training, tmp_path, apply_chat_template=False).code == 0


def test_a_bos_token_that_training_did_not_put_is_left_out(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = copy_with_tokenizer(tiny, tmp_path / "bos", bos_token="<|system|>")
    document = json.loads((model / "tokenizer.json").read_text())
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|system|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|system|>": {"id": "<|system|>", "ids": [257], "tokens": ["<|system|>"]}},
    }
    (model / "tokenizer.json").write_text(json.dumps(document))
    assert fingerprint(model).conversation_ids == [257, *(fingerprint(tiny).conversation_ids or [])]
    outcome = evaluate(runs, model, fingerprint(tiny), tmp_path)
    assert "no BOS token is put before the chat template" in outcome.notes


def test_without_a_chat_template_one_is_not_made_up(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = copy_with_tokenizer(tiny, tmp_path / "plain")
    (model / "chat_template.jinja").unlink()
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), limit=1, model=model, apply_chat_template=True)
    assert "has no chat template" in outcome.failure["message"]
    assert "apply_chat_template=false" in outcome.failure["way_out"]


def test_the_tokenizer_that_was_saved_with_the_adapter_is_used(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny, tmp_path / "adapter")
    tokenizer = tokens.load(ModelRef(reference="x", path=str(tiny)))
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} ->"
    tokenizer.save_pretrained(str(adapter))
    model = {"reference": "x", "path": str(tiny), "adapter": str(adapter)}
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), limit=1, model=model, apply_chat_template=True)
    assert outcome.samples[0]["prompt"] == "0+1= ->"


def test_a_run_without_fingerprint_is_noted(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    assert "left no fingerprint" in evaluate(runs, tiny, None, tmp_path).notes


def test_a_model_without_tokenizer_is_refused(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = copy_with_tokenizer(tiny, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (model / name).unlink()
    failure = runs.evaluate(of_file(write_quiz(tmp_path)), model=model).failure
    assert failure["kind"] == "request" and "no tokenizer" in failure["message"]


@pytest.mark.parametrize("adds_bos", [None, False])
def test_the_fingerprint_holds_the_ids_that_lm_eval_encodes(tiny: Path, adds_bos: bool | None) -> None:
    from lm_eval.models.huggingface import HFLM

    from tuneyard.core.fingerprint import CONVERSATION, TEXT

    hflm: Any = HFLM
    lm = hflm(pretrained=str(tiny), device="cpu", add_bos_token=adds_bos)
    found = tokens.fingerprint_of(lm.tokenizer, adds_bos)
    assert found.text_ids == lm.tok_encode(TEXT, add_special_tokens=False)
    ids, _ = lm.tok_batch_encode([lm.apply_chat_template(CONVERSATION)])
    assert found.conversation_ids == ids[0].tolist()
