"""`builtin:tiny` is the same model everywhere, and a whole one."""

import hashlib
import json
import math
import subprocess
from array import array
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest

from tuneyard.core.errors import SetupError
from tuneyard.data.tiny import DEVIATION, HIDDEN, SPECIAL_TOKENS, VOCABULARY, parameters, shapes, write_tiny

FILES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]
SHA256 = "3ca77ac4275db36eb8ded054c93022807a3a19ceb4297a3392a0405fe04fb1e8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "made" / "tiny")


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def weights(folder: Path) -> tuple[dict[str, Any], bytes]:
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for name in FILES:
        whole.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()


def test_the_folder_holds_what_a_published_model_holds(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_it_is_byte_for_byte_the_same_everywhere(folder: Path) -> None:
    assert digest(folder) == SHA256


def test_writing_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert digest(write_tiny(write_tiny(tmp_path))) == digest(folder)


def test_another_seed_changes_every_random_weight_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path, seed=1)
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in FILES if "model." not in name)
    header, first = weights(folder)
    _, second = weights(tmp_path)
    for name, shape in shapes().items():
        start, end = header[name]["data_offsets"]
        assert (first[start:end] == second[start:end]) == (len(shape) == 1), name


def test_it_has_under_a_million_parameters_and_the_file_holds_them_all(folder: Path) -> None:
    assert parameters() < 1_000_000
    assert len(weights(folder)[1]) == 4 * parameters()


def test_the_weights_lie_one_behind_the_other_as_the_header_says(folder: Path) -> None:
    header, data = weights(folder)
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {name: tuple(entry["shape"]) for name, entry in header.items()} == shapes()
    expected = 0
    for entry in header.values():
        start, end = entry["data_offsets"]
        assert (entry["dtype"], start, end - start) == ("F32", expected, 4 * math.prod(entry["shape"]))
        expected = end
    assert expected == len(data)


def test_the_weights_are_aligned_as_the_format_asks(folder: Path) -> None:
    assert int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little") % 8 == 0


def test_norms_start_at_1_and_the_rest_as_random_numbers_around_0(folder: Path) -> None:
    header, data = weights(folder)
    for name, shape in shapes().items():
        start, end = header[name]["data_offsets"]
        numbers = array("f", data[start:end])
        if len(shape) == 1:
            assert set(numbers) == {1.0}
        else:
            assert fmean(numbers) == pytest.approx(0, abs=0.003)
            assert pstdev(numbers) == pytest.approx(DEVIATION, rel=0.02)


def test_the_configuration_agrees_with_the_weights_and_the_tokenizer(folder: Path) -> None:
    config = read(folder, "config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == VOCABULARY == len(read(folder, "tokenizer.json")["model"]["vocab"])
    assert config["hidden_size"] == HIDDEN == config["num_attention_heads"] * config["head_dim"]
    assert len([name for name in shapes() if name.endswith("mlp.up_proj.weight")]) == config["num_hidden_layers"]


def test_every_byte_is_a_token_with_its_own_value_as_id(folder: Path) -> None:
    vocabulary = read(folder, "tokenizer.json")["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(VOCABULARY))
    assert [vocabulary[character] for character in "Add 358".replace(" ", "Ġ")] == list(b"Add 358")
    assert read(folder, "tokenizer.json")["model"]["merges"] == []


def test_generation_stops_at_the_end_of_a_turn(folder: Path) -> None:
    added = {token["content"]: token["id"] for token in read(folder, "tokenizer.json")["added_tokens"]}
    assert tuple(added) == SPECIAL_TOKENS
    end = added["<|end|>"]
    assert read(folder, "config.json")["eos_token_id"] == read(folder, "generation_config.json")["eos_token_id"] == end
    assert read(folder, "tokenizer_config.json")["eos_token"] == "<|end|>"
    assert "<|end|>" in (folder / "chat_template.jinja").read_text()


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("")
    with pytest.raises(FileExistsError):
        write_tiny(tmp_path / "tiny")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(SetupError, match="no space left") as caught:
            write_tiny(tmp_path)
        assert caught.value.exit_code == 3
        assert not (tmp_path / "model.safetensors").exists()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
