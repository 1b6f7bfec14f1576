"""Tokens: the same ids as the training, by another tokenizer if need be, and refused otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from desk import ROOT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tuneyard.control.environments import ask_worker
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.files import write_json
from tuneyard.core.fingerprint import TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.core.specs import ServeSpec
from tuneyard.serve import tokens, verbs

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path, model_type: str, chat: str | None = CHAT) -> Path:
    """A model folder, without weights, whose tokenizer.json is its own and not what its type would have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **({"chat_template": chat} if chat else {})}))
    sizes = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **sizes}))
    return folder


def trained(runs: Path, model_type: str, chat: str | None = CHAT) -> tuple[ModelRef, RunFolder]:
    """A run with the model that it trained, and a run that is to serve it."""
    run = create_run(runs, "train", "tokens")
    write_json(run.spec, {"kind": "train"})
    run.artifacts.mkdir()
    write_tokenizer(run.model, model_type, chat)
    serving = create_run(runs, "serve", "tokens")
    serving.artifacts.mkdir()
    return ModelRef(reference=f"run:{run.id}", path=str(run.model), run=run.id), serving


def leave_fingerprint(runs: Path, model: ModelRef, found: Fingerprint) -> None:
    write_json(RunFolder(runs / str(model.run)).fingerprint, found.model_dump())


def as_trained(model: ModelRef) -> Fingerprint:
    """What the training worker, in its own environment, makes of a model."""
    return Fingerprint(**ask_worker(find_workspace(ROOT), "train", "fingerprint", str(model.path)))


@pytest.mark.slow
def test_a_qwen2_folder_with_its_own_tokenizer_is_served_with_the_ids_of_its_training(tmp_path: Path) -> None:
    model, serving = trained(tmp_path, "qwen2")
    training = as_trained(model)
    leave_fingerprint(tmp_path, model, training)
    here = verbs.fingerprint(model)
    assert first_difference(training, here) is not None  # this transformers overrules the class that the folder names

    choice = tokens.choose(ServeSpec(model=model), serving)
    assert choice.tokenizer is not None
    assert choice.tokenizer == str(serving.artifacts / "tokenizer")
    found = tokens.fingerprint_of(choice.tokenizer)
    assert first_difference(training, found) is None
    assert found.conversation_ids == training.conversation_ids


@pytest.mark.parametrize("model_type", ["llama", "gemma"])
def test_llama_and_gemma_folders_with_a_tokenizer_of_their_own_keep_it(tmp_path: Path, model_type: str) -> None:
    model, serving = trained(tmp_path, model_type)
    raw = Tokenizer.from_file(f"{model.path}/tokenizer.json").encode(TEXT, add_special_tokens=False).ids
    found = verbs.fingerprint(model)
    assert found.text_ids == raw
    leave_fingerprint(tmp_path, model, found.model_copy(update={"chat": True}))
    assert tokens.choose(ServeSpec(model=model), serving) == tokens.Choice(None)


def test_other_ids_than_the_trainings_are_refused_with_the_first_differing_text(tmp_path: Path) -> None:
    model, serving = trained(tmp_path, "llama")
    found = verbs.fingerprint(model)
    other = found.model_copy(
        update={"text_ids": [1, *found.text_ids[1:]], "text_tokens": ["X", *found.text_tokens[1:]]}
    )
    leave_fingerprint(tmp_path, model, other)
    with pytest.raises(RequestError, match="the first difference is token 0: 'X' against") as refused:
        tokens.choose(ServeSpec(model=model), serving)
    assert "allow_token_mismatch" in str(refused.value)
    allowed = tokens.choose(ServeSpec(model=model, allow_token_mismatch=True), serving)
    assert "token mismatch allowed" in allowed.warnings[0]


def test_a_chat_template_that_training_did_not_use_does_not_count(tmp_path: Path) -> None:
    model, serving = trained(tmp_path, "llama")
    found = verbs.fingerprint(model)
    leave_fingerprint(tmp_path, model, found.model_copy(update={"conversation_ids": [1], "chat": False}))
    assert tokens.choose(ServeSpec(model=model), serving).tokenizer is None


def test_an_adapter_brings_the_template_that_it_was_trained_in(tmp_path: Path) -> None:
    base = ModelRef(reference="base", path=str(write_tokenizer(tmp_path / "base", "llama", None)))
    adapter, serving = trained(tmp_path, "llama")
    found = verbs.fingerprint(adapter)
    leave_fingerprint(tmp_path, adapter, found.model_copy(update={"chat": True}))
    choice = tokens.choose(ServeSpec(model=base, adapters={"a": adapter}), serving)
    assert choice.tokenizer == adapter.path
    assert choice.chat_template


def test_adapters_of_different_templates_are_not_served_together(tmp_path: Path) -> None:
    one, serving = trained(tmp_path, "llama")
    other, _ = trained(tmp_path, "llama", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for adapter in (one, other):
        leave_fingerprint(tmp_path, adapter, verbs.fingerprint(adapter).model_copy(update={"chat": True}))
    with pytest.raises(RequestError, match="the chat templates differ") as refused:
        tokens.choose(ServeSpec(model=one, adapters={"other": other}), serving)
    assert refused.value.where == "adapters.other"


def test_a_folder_without_a_tokenizer_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(RequestError, match="no tokenizer"):
        verbs.fingerprint(ModelRef(reference=str(tmp_path), path=str(tmp_path)))
