"""The chat template that is saved makes the very tokens that were trained on; where none can, nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from training_runs import Runs, events, local, speaking, train

from tuneyard.core.errors import RequestError, RunError
from tuneyard.core.fingerprint import CONVERSATION, Fingerprint
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder
from tuneyard.train.fingerprint import Tokens, fingerprint, save_template

pytestmark = pytest.mark.slow

SFT = {"stage": "sft", "finetuning_type": "lora", "max_steps": 1}

THINKING = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}"""
"""Of the form that reasoning models come with."""

CHATML = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n17 + 25 = 42.<|im_end|>\n"


def read_again(run: RunFolder) -> str:
    """The fixed conversation as a reader of the saved tokenizer prompts it; its ids must be those of training."""
    from transformers import AutoTokenizer

    saved: Any = AutoTokenizer.from_pretrained(run.adapter)
    text = saved.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    found = Fingerprint.model_validate(json.loads(run.fingerprint.read_text()))
    assert saved.encode(text, add_special_tokens=False) == found.conversation_ids
    assert len(saved) == found.vocabulary_size
    return text


def test_a_template_read_from_the_tokenizer_is_left_as_it_is(runs: Runs) -> None:
    run = runs.new(SFT)
    train(run)
    assert (run.adapter / "chat_template.jinja").read_text() == (runs.tiny / "chat_template.jinja").read_text()
    assert read_again(run).endswith("number.<|end|><|assistant|>")
    assert events(run, "warning") == []


def test_another_template_is_saved_with_the_model_and_said(runs: Runs, tmp_path: Path) -> None:
    model = speaking(runs.tiny, tmp_path / "chatml", "<|im_start|>", "<|im_end|>")
    run = runs.new({**SFT, "template": "chatml"}, model=local(model))
    train(run)
    assert read_again(run).startswith(CHATML)
    assert "chat template" in events(run, "warning")[0]["message"]


def test_llama3s_template_is_saved(runs: Runs, tmp_path: Path) -> None:
    model = speaking(runs.tiny, tmp_path / "llama3", "<|eot_id|>", "<|eom_id|>")
    run = runs.new({**SFT, "template": "llama3"}, model=local(model))
    train(run)
    assert read_again(run).endswith("number.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")


def test_a_model_without_a_template_gets_the_one_it_is_trained_with(runs: Runs, tmp_path: Path) -> None:
    model = speaking(runs.tiny, tmp_path / "bare", chat_template=None)
    run = runs.new(SFT, model=local(model))
    train(run)
    assert read_again(run).startswith("What is 17 + 25?17 + 25 = 42.And  twice")
    assert "names none" in events(run, "warning")[0]["message"]


def test_a_system_prompt_of_the_spec_goes_into_the_saved_template(runs: Runs, tmp_path: Path) -> None:
    model = speaking(runs.tiny, tmp_path / "brief", "<|im_start|>", "<|im_end|>")
    run = runs.new({**SFT, "template": "chatml", "default_system": "Don't talk."}, model=local(model))
    train(run)
    assert read_again(run).startswith("<|im_start|>system\nDon't talk.<|im_end|>\n")


@pytest.mark.parametrize(("thinks", "end"), [(True, "assistant\n"), (False, "assistant\n<think>\n\n</think>\n\n")])
def test_a_reasoning_model_told_not_to_think_stays_so(runs: Runs, tmp_path: Path, thinks: bool, end: str) -> None:
    model = speaking(runs.tiny, tmp_path / "thinking", "<|im_start|>", "<|im_end|>", chat_template=THINKING)
    run = runs.new({**SFT, "template": "qwen3", "enable_thinking": thinks}, model=local(model))
    train(run)
    assert read_again(run) == CHATML + f"<|im_start|>user\n{CONVERSATION[-1]['content']}<|im_end|>\n<|im_start|>{end}"


def test_a_template_whose_tokens_the_model_lacks_is_refused_before_training(runs: Runs) -> None:
    run = runs.new({**SFT, "template": "chatml"})
    with pytest.raises(RequestError, match=r"<\|im_end\|>") as caught:
        train(run)
    assert "resize_vocab" in str(caught.value.way_out)
    assert events(run, "progress") == []


@pytest.mark.parametrize("template", ["chatglm3", "yuan"])
def test_so_is_one_whose_marks_the_tokenizer_does_not_know(runs: Runs, template: str) -> None:
    with pytest.raises(RequestError, match="tokens that the model does not have"):
        train(runs.new({**SFT, "template": template}))


def test_an_unknown_template_is_refused_with_the_nearest(runs: Runs) -> None:
    with pytest.raises(RequestError, match="lama3") as caught:
        train(runs.new({**SFT, "template": "lama3"}))
    assert "llama3" in str(caught.value.way_out)


def test_a_template_that_no_chat_template_can_say_is_refused(runs: Runs, tmp_path: Path) -> None:
    """chatglm3's template names tokens outright, which LLaMA-Factory cannot turn into a chat template."""
    model = speaking(runs.tiny, tmp_path / "glm", "[gMASK]", "sop", "<|observation|>")
    with pytest.raises(RequestError, match="no chat template makes the tokens"):
        train(runs.new({**SFT, "template": "chatglm3"}, model=local(model)))


def test_pre_training_uses_no_template(runs: Runs) -> None:
    run = runs.new({"stage": "pt", "finetuning_type": "lora", "max_steps": 1, "cutoff_len": 64}, "text")
    train(run)
    found = json.loads(run.fingerprint.read_text())
    assert (found["chat"], found["conversation_ids"]) == (False, None)


def test_a_saved_tokenizer_that_makes_other_tokens_fails_the_run(tiny: Path, tmp_path: Path) -> None:
    trained = fingerprint(ModelRef(reference="x", path=str(tiny)))
    tokens = Tokens(trained, (tiny / "chat_template.jinja").read_text())
    saved = shutil.copytree(tiny, tmp_path / "saved")
    save_template(tokens, saved)
    text = (saved / "tokenizer.json").read_text()
    (saved / "tokenizer.json").write_text(
        text.replace('"merges": []', '"merges": ["q u"]').replace('"Ā": 0', '"qu": 0')
    )
    with pytest.raises(RunError, match="does not make the tokens"):
        save_template(tokens, saved)


def test_the_verb_tells_how_a_model_would_be_encoded(tiny: Path) -> None:
    found = fingerprint(ModelRef(reference="builtin:tiny", path=str(tiny)))
    assert (found.worker, found.chat) == ("train", True)
    assert found.text_ids[:3] == list(b"The")
    assert len(found.text_tokens) == len(found.text_ids)
