"""What is wrong between environments, and what changed in one since a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.core.fingerprint import CONVERSATION, TEXT
from tuneyard.data.tiny import write_tiny

if TYPE_CHECKING:
    from conftest import Clinic, Prefix

ROOT = Path(__file__).parents[3]

CONFIG = """
    from dataclasses import dataclass
    @dataclass
    class LoraConfig:
        peft_type: str
        peft_version: str
        r: int = 8
        lora_alpha: int = 8
"""


def training(clinic: Clinic, name: str = "train-arithmetic-261121-1000-abc", **adapter: Any) -> Path:
    """A run folder of a training that left an adapter."""
    run = clinic.path / "runs" / name
    (run / "artifacts" / "adapter").mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"schema_version": 1, "kind": "train"}))
    config = {"peft_type": "LORA", "r": 8, **adapter}
    (run / "artifacts" / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return run


def noted(run: Path, **environment: Any) -> None:
    """What the run's worker noted of its environment."""
    attempt = run / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "environment.json").write_text(json.dumps(environment))


def with_peft(clinic: Clinic, name: str = "eval", version: str = "0.18.1") -> Prefix:
    return clinic.healthy(name).install("peft", version, peft__tuners__lora__config=CONFIG)


def test_an_adapter_that_a_newer_peft_wrote_with_a_setting_that_the_reader_lacks(clinic: Clinic) -> None:
    with_peft(clinic)
    training(clinic, peft_version="0.19.2", use_something_new=True, not_in_use=None)
    seen = clinic.diagnose("eval")
    found = seen.findings("eval")["adapter-newer-peft"]
    assert (seen.code, found["severity"]) == (1, "broken")
    assert found["message"].startswith("1 adapter was written by peft 0.19.2, and eval has 0.18.1")
    assert "does not know use_something_new" in found["evidence"]
    assert "not_in_use" not in found["evidence"]


def test_an_adapter_that_a_newer_peft_wrote_and_the_reader_may_understand(clinic: Clinic) -> None:
    with_peft(clinic)
    training(clinic, peft_version="0.19.2@unknown")
    seen = clinic.diagnose("eval")
    assert (seen.code, seen.findings("eval")["adapter-newer-peft"]["severity"]) == (0, "risky")


def test_the_runs_own_note_tells_which_peft_wrote_an_older_adapter(clinic: Clinic) -> None:
    with_peft(clinic, version="0.15.0")
    noted(training(clinic), versions={"peft": "0.17.1"})
    assert "peft 0.17.1" in clinic.diagnose("eval").findings("eval")["adapter-newer-peft"]["message"]


@pytest.mark.parametrize("version", ["0.18.1", "0.18.2", "0.17.0", "no version"])
def test_adapters_that_the_reader_knows(clinic: Clinic, version: str) -> None:
    with_peft(clinic)
    run = training(clinic, peft_version=version)
    other = run.with_name("train-arithmetic-261121-1001-abc")
    shutil.copytree(run, other)
    (other / "artifacts" / "adapter" / "adapter_config.json").write_text("{ broken")
    assert clinic.diagnose("eval").findings("eval") == {}


def test_what_changed_since_a_run(clinic: Clinic) -> None:
    clinic.healthy("train").install("transformers", "5.6.0").install("numpy", "2.3.0")
    versions = {"llamafactory": "0.9.5", "torch": "2.13.0+cpu", "transformers": "5.6.0", "numpy": "2.2.0", "gone": "1"}
    run = training(clinic)
    torch = {"version": "2.13.0", "cuda": "13.0", "gpus": [{"name": "Card"}]}
    noted(run, python="3.11.1", versions=versions, torch=torch, variables=["HF_HOME", "PATH"])
    seen = clinic.diagnose("--since", run.name[:24])
    assert seen.code == 0
    changes = {change["id"]: change for change in seen.told["changes"]}
    assert changes["changed-version"]["message"] == "llamafactory 0.9.5 -> 1.0"
    assert "pip install llamafactory==0.9.5" in changes["changed-version"]["way_out"]
    assert "gone 1 -> (not there); numpy 2.2.0 -> 2.3.0" in changes["changed-versions"]["evidence"]
    assert changes["changed-cuda"]["message"] == "CUDA of torch: 13.0 -> none"
    assert changes["changed-gpus"]["message"] == "GPUs: Card -> none"
    assert changes["changed-system"]["message"].startswith("Python: 3.11.1 -> ")
    assert "-HF_HOME" in changes["changed-variables"]["message"]
    assert [e["name"] for e in seen.told["environments"]] == ["train"]
    assert "changed since the run" in clinic.run("--since", run.name).out


def test_nothing_changed_since_a_run(clinic: Clinic) -> None:
    prefix = clinic.healthy("train")
    run = training(clinic)
    versions = {"llamafactory": "1.0", "torch": "2.13.0+cpu"}
    noted(run, versions=versions, executable=str(prefix.python), variables=list(clinic.variables))
    assert clinic.diagnose("--since", run.name).told["changes"] == []


def test_a_run_that_noted_nothing_is_refused(clinic: Clinic) -> None:
    clinic.healthy("train")
    seen = clinic.run("--since", training(clinic).name)
    assert seen.code == 2
    assert "noted nothing of its environment" in seen.err


TOKENIZER = """
    class AutoTokenizer:
        chat_template = {template!r}
        @classmethod
        def from_pretrained(cls, model, **options):
            print("noise of a library")
            return cls()
        def __len__(self): return 99
        def encode(self, text, add_special_tokens): return [hash_of(piece) for piece in pieces(text)]
        def convert_ids_to_tokens(self, ids): return pieces({text!r})
        def apply_chat_template(self, turns, tokenize, add_generation_prompt):
            return self.chat_template.join(turn["content"] for turn in turns)
    def hash_of(piece): return sum(ord(char) * 31**n for n, char in enumerate(piece)) % 10**9
    def pieces(text): return text.split({by!r})
"""


def transformers(clinic: Clinic, name: str, version: str, by: str = " ", template: str | None = "|") -> None:
    """An environment that has transformers and nothing of ours."""
    prefix = clinic.environment(name)
    source = TOKENIZER.format(by=by, template=template, text=TEXT)
    prefix.install("transformers", version, transformers=source).install("tokenizers", "0.22")
    clinic.name_interpreter(name, prefix.python)


def model(clinic: Clinic) -> str:
    write_tiny(clinic.path / "a model")
    return "a model"


def test_environments_that_make_other_tokens(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    transformers(clinic, "other", "5.23.0", by="o")
    seen = clinic.diagnose("--model", model(clinic), "eval", "other")
    found = seen.findings("other")["tokens-differ"]
    assert (seen.code, found["severity"]) == (1, "broken")
    assert "the first difference is token 0: 'The' against 'The quick br'" in found["evidence"]
    assert seen.told["tokens"]["counts"] == {"eval": len(TEXT.split(" ")), "other": len(TEXT.split("o"))}
    assert "transformers==5.6.0" in found["way_out"]


def test_environments_whose_chat_templates_differ(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    transformers(clinic, "other", "5.6.1", template=" | ")
    found = clinic.diagnose("--model", model(clinic), "eval", "other").findings("other")
    assert "chat-templates-differ" in found
    assert "the chat templates differ" in found["chat-templates-differ"]["evidence"]
    assert len(CONVERSATION) > 1


def test_environments_that_agree(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    transformers(clinic, "other", "5.6.0")
    seen = clinic.diagnose("--model", model(clinic), "eval", "other")
    assert (seen.code, seen.findings("other")) == (0, {})
    assert "tokens of a fixed text" in clinic.run("--model", "a model", "eval", "other").out


def test_a_chat_template_that_only_one_has(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    transformers(clinic, "other", "5.6.0", template=None)
    assert "chat-template-missing" in clinic.diagnose("--model", model(clinic), "eval", "other").findings("other")


def test_an_environment_in_which_the_tokenizer_does_not_load(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    clinic.environment("other").install("transformers", "4.0", transformers='raise RuntimeError("too old")')
    clinic.name_interpreter("other", clinic.path / ".pixi/uv/other/bin/python")
    found = clinic.diagnose("--model", model(clinic), "eval", "other").findings("other")
    assert "RuntimeError: too old" in found["fingerprint-fails"]["message"]


def test_a_model_that_does_not_exist_is_refused(clinic: Clinic) -> None:
    transformers(clinic, "eval", "5.6.0")
    seen = clinic.run("--model", "./no model", "eval")
    assert seen.code == 2
    assert "no model" in seen.err


MERGES = [("e", "Ġ"), ("Ġ", "q"), ("1", "2"), ("1", "/"), ("s", "Ġ"), (",", "Ġ")]
"""Merges across the borders that a Qwen2 tokenizer cuts at first, and this folder's own does not."""


def qwen2(folder: Path) -> Path:
    """A model folder of the type qwen2 with a tokenizer of its own, which newer transformers replace by theirs."""
    write_tiny(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first = max([*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])]) + 1
    vocabulary |= {a + b: first + n for n, (a, b) in enumerate(MERGES)}
    tokenizer["model"]["merges"] = [list(pair) for pair in MERGES]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": first + len(MERGES)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_a_real_model_that_two_releases_of_transformers_tokenize_differently(clinic: Clinic, tmp_path: Path) -> None:
    from tuneyard.control.environments import worker_python
    from tuneyard.control.workspace import Workspace

    clinic.name_interpreter("train", worker_python(Workspace(ROOT), "train"))
    newer = tmp_path / "newer"
    subprocess.run([sys.executable, "-m", "venv", newer], check=True)
    install = [newer / "bin" / "python", "-m", "pip", "install", "-q", "transformers==5.23.0", "jinja2>=3.1"]
    subprocess.run(install, check=True, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    clinic.name_interpreter("newer", newer / "bin" / "python")
    qwen2(clinic.path / "qwen")
    seen = clinic.diagnose("train", "newer", "--model", "qwen")
    found = seen.findings("newer")["tokens-differ"]
    assert seen.code == 1
    assert "transformers 5.6.0" in found["evidence"]
    assert "transformers 5.23.0, Qwen2Tokenizer" in found["evidence"]
    assert "'eĠ' against 'e'" in found["evidence"]
    same = clinic.diagnose("train", "newer", "--model", "builtin:tiny")
    assert "tokens-differ" not in same.findings("newer")
