"""The worker's verbs: vLLM's settings, their schema, and the command that serves the same without us."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.resolving.engine_keys import OWNED
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.fingerprint import TEXT
from tuneyard.core.references import ModelRef
from tuneyard.core.specs import ServeSpec
from tuneyard.serve import arguments, explain, variables, verbs


@pytest.fixture(scope="module")
def parser() -> Any:
    return arguments.build_parser()


def served(tiny: Path, **fields: Any) -> ServeSpec:
    model = ModelRef(reference=str(tiny), path=str(tiny))
    return ServeSpec(**{"model": model, "served_name": "tiny", "port": 8123, **fields})


def test_the_schema_is_vllms_own_with_types_and_choices() -> None:
    schema = verbs.schema()
    keys = schema["keys"]
    assert keys["max_lora_rank"]["choices"] == [1, 8, 16, 32, 64, 128, 256, 320, 512]
    assert keys["enforce_eager"]["type"] == "bool"
    assert keys["gpu_memory_utilization"]["type"] == "float"
    assert "half" in keys["dtype"]["choices"]
    assert {"api_key", "config", "headless", "uds"}.isdisjoint(keys)
    assert OWNED["serve"].keys() <= keys.keys()
    assert list(schema["versions"].values()) == ["0.32.0"]


def test_settings_come_through_the_command_line_as_they_were_given(tiny: Path, parser: Any) -> None:
    engine = {
        "enforce_eager": False,
        "max_model_len": 256,
        "hf_overrides": {"rope_theta": 1e4, "note": "a 'b' \"c\""},
        "middleware": ["one.two", "three.four"],
        "allowed_origins": ["http://x", "http://y"],
        "disable_log_stats": True,
        "quantization": None,
        "compilation_config": {"mode": 0},
        "gpu_memory_utilization": 0.5,
    }
    adapters = {"a=b": ModelRef(reference="x", path="/a folder/with, 'all' \"of\" =it")}
    spec = served(tiny, engine=engine, adapters=adapters, seed=7, host="::1")
    parsed = parser.parse_args(arguments.flags(parser, arguments.settings(spec, on_cpu=True)))
    for name, value in engine.items():
        if name != "compilation_config":
            assert getattr(parsed, name) == value, name
    assert [(m.name, m.path) for m in parsed.lora_modules] == [("a=b", adapters["a=b"].path)]
    assert (parsed.model, parsed.served_model_name) == (str(tiny), ["tiny"])
    assert (parsed.host, parsed.port, parsed.seed) == ("::1", 8123, 7)


def test_on_a_cpu_nothing_is_compiled_unless_asked(tiny: Path) -> None:
    assert arguments.settings(served(tiny), on_cpu=True)["enforce_eager"] is True
    assert "enforce_eager" not in arguments.settings(served(tiny), on_cpu=False)
    assert arguments.settings(served(tiny, engine={"enforce_eager": False}), on_cpu=True)["enforce_eager"] is False


def test_a_model_of_the_hub_keeps_its_commit() -> None:
    spec = ServeSpec(model=ModelRef(reference="owner/name", revision="abc"), served_name="x")
    assert arguments.settings(spec, on_cpu=False)["revision"] == "abc"


def test_the_script_is_one_that_a_shell_reads(tiny: Path) -> None:
    told = verbs.arguments(served(tiny, engine={"max_model_len": 256}))
    assert told["command"][-2:] == ["--max-model-len", "256"]
    subprocess.run(["sh", "-n"], input=told["file"], text=True, check=True)
    assert "VLLM_NO_USAGE_STATS=${VLLM_NO_USAGE_STATS:-1}" in told["file"]


def test_the_parsers_refusal_is_a_request_error(tiny: Path) -> None:
    with pytest.raises(RequestError, match="--max-model-len"):
        verbs.arguments(served(tiny, engine={"max_model_len": "many"}))


def test_the_users_own_variables_win_and_the_key_goes_by_vllms_name(tiny: Path) -> None:
    given = {"VLLM_CPU_KVCACHE_SPACE": "7", "TUNEYARD_API_KEY": "k", "HOME": "/h"}
    made = variables.of_server(served(tiny, engine={"enable_lora": True}), True, given)
    assert (made["VLLM_CPU_KVCACHE_SPACE"], made["VLLM_API_KEY"], made["HOME"]) == ("7", "k", "/h")
    assert made["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables.defaults(served(tiny, engine={"kv_cache_memory_bytes": 1}), True)
    several = served(tiny, engine={"enable_lora": True, "data_parallel_size": 2})
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables.defaults(several, False)


def test_the_built_in_model_is_tokenized_as_its_file_says(tiny: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    found = verbs.fingerprint(ModelRef(reference=str(tiny), path=str(tiny)))
    plain = PreTrainedTokenizerFast.from_pretrained(tiny)
    assert found.text_ids == plain.encode(TEXT)
    assert plain.decode(found.conversation_ids).endswith("<|assistant|>")


def test_a_chat_template_can_be_checked(tiny: Path, tmp_path: Path) -> None:
    assert verbs.check(tiny / "chat_template.jinja", None)["rendered"].endswith("<|assistant|>")
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for %}")
    with pytest.raises(RequestError, match="no chat template"):
        verbs.check(broken, None)
    with pytest.raises(RequestError, match="no such file"):
        verbs.check(tmp_path / "nothing", None)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            ["(EngineCore pid=1) ERROR 11-21 10:00:00 [core.py:1] ValueError: No room", "RuntimeError: x"],
            "ValueError: No room",
        ),
        (["(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above."], None),
        (
            ["(EngineCore pid=1) ERROR [x] Worker proc VllmWorker-0 died unexpectedly (exit code: -9)"],
            "VllmWorker-0 died",
        ),
        (["torch.OutOfMemoryError: CUDA out of memory."], "torch.OutOfMemoryError: CUDA out of memory."),
        (["INFO all is well: nothing"], None),
    ],
)
def test_the_first_error_that_follows_from_no_other_is_told(lines: list[str], error: str | None) -> None:
    found = explain.first_error(lines)
    assert (found is None) == (error is None)
    assert error is None or (found is not None and error in found)


def test_a_run_without_a_gpu_is_refused_by_the_vllm_that_needs_one_alone(tiny: Path) -> None:
    without, instead = served(tiny, gpus=0), "a build for CPUs serves too"
    with pytest.raises(SetupError, match="the run has no GPU") as caught:
        arguments.refuse_without_gpu(without, on_cpu=False, instead=instead)
    assert instead in (caught.value.way_out or "")
    arguments.refuse_without_gpu(without, on_cpu=True, instead=instead)
    arguments.refuse_without_gpu(served(tiny, gpus=1), on_cpu=False, instead=instead)


def test_the_folder_of_sockets_is_gone_in_the_end_and_never_too_long_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with variables.sockets({}) as found:
        folder = Path(found["VLLM_RPC_BASE_PATH"])
        (folder / "left behind").touch()
    assert not folder.exists()
    with variables.sockets({"VLLM_RPC_BASE_PATH": "/own"}) as found:
        assert found == {}
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with variables.sockets({}) as found:
        assert found == {}
