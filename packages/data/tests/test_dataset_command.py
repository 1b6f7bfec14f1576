"""The command `yard dataset`, as a person and a program use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneyard.core.errors import RequestError
from tuneyard.data.command import main

ROWS = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)]
RUN = "import sys; from tuneyard.data.command import main; sys.exit(main(sys.argv[1:]))"


def piped(given: bytes, *words: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    kept = {k: v for k, v in os.environ.items() if k not in ("INIT_CWD", "TUNEYARD_WORKSPACE")}
    command = [sys.executable, "-c", RUN, *words]
    return subprocess.run(command, input=given, cwd=cwd, env=kept, capture_output=True, check=False)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def here(weird_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user stands in, which is not the one the process runs in."""
    monkeypatch.setenv("INIT_CWD", str(weird_path))
    (weird_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return weird_path


def test_a_pipe(tmp_path: Path) -> None:
    given = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    done = piped(given, "build", "-", "--out", "d", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["rows"], told["source"], told["folder"]) == (20, {"source": "-"}, str(tmp_path / "d"))
    assert piped(given.rstrip(), "build", "-", "--out", "d", "--append", cwd=tmp_path).returncode == 0


def test_a_pipe_that_ends_in_the_middle_of_a_line(tmp_path: Path) -> None:
    given = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    for drop in ([], ["--drop", "broken"]):
        done = piped(given[:-5], "build", "-", "--out", "d", *drop, cwd=tmp_path)
        assert done.returncode != 0
        assert b"the pipe ended in the middle of a line" in done.stderr
        assert b"line 20 reads" in done.stderr
    assert not list(tmp_path.iterdir())
    done = piped(b"", "build", "-", "--out", "d", cwd=tmp_path)
    assert b"there is no record" in done.stderr


def test_build_show_check_sample_split_and_merge(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = answer(capsys, "build", "rows.jsonl", "--out", "sums")
    assert (built["rows"], built["folder"]) == (20, str(here / "sums"))
    shown = answer(capsys, "show", "sums")["datasets"][0]
    assert shown["first"] == {"instruction": "0 + 1?", "output": "1"}
    assert shown["read_as"]["columns"] == {"prompt": "instruction", "response": "output"}
    assert answer(capsys, "check", "sums")["faults"] == []
    assert len(answer(capsys, "sample", "sums", "-n", "3")) == 3
    halves = answer(capsys, "split", "sums", "--held-out", "2", "--out", "halves")["datasets"]
    assert sum(entry["rows"] for entry in halves) == 20
    both = [json.dumps({"source": str(here / "halves"), "name": name}) for name in ("train", "test")]
    merged = answer(capsys, "merge", *both, "rows.jsonl", "--out", "merged")
    assert (merged["rows"], merged["duplicates"], len(merged["parts"])) == (20, 20, 3)


def test_what_a_person_reads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "rows.jsonl", "--out", "sums", "--against", "rows.jsonl"]) == 0
    told = capsys.readouterr().out
    assert "train: 20 rows (alpaca)" in told
    assert "warning: 20 rows hold 20 of the 20 documents" in told
    assert main(["check", "sums", "--against", "rows.jsonl"]) == 1
    assert "fault: 20 rows hold documents of the evaluation" in capsys.readouterr().out
    assert main(["show", "sums"]) == 0
    assert main(["sample", "sums"]) == 0
    assert main([]) == 0
    assert "yard dataset build SOURCE" in capsys.readouterr().out


def test_arguments_of_a_corpus_and_of_code_anywhere_among_the_words(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = answer(capsys, "build", "builtin:arithmetic", "--out", "sums", "digits=2", "size=50")
    assert built["source"] == {"source": "builtin:arithmetic", "arguments": {"digits": 2, "size": 50}}
    (here / "make.py").write_text("def rows(text):\n    print('noise')\n    return [{'text': text}]\n")
    assert answer(capsys, "build", "make.py:rows", "text=a b", "--out", "made")["format"] == "text"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["bild"], "did you mean 'build'"),
        (["build", "rows.jsonl"], "--out"),
        (["build", "rows.jsonl", "--out", "x", "--drop", "brokn"], "did you mean 'broken'"),
        (["build", "rows.jsonl", "--out", "x", "--columns", "prompt"], "write role=column"),
        (["build", "rows.jsonl", "size=3", "--out", "x"], "takes no arguments"),
        (["build", "builtin:arithmetic", "digit=3", "--out", "x"], "did you mean 'digits'"),
        (["build", "rows.jsonl", "--out", "x", "--append", "--replace"], "not allowed with"),
        (["build", "nowhere.jsonl", "--out", "x"], "no such file"),
        (["build", "rows.jsonl", "--out", "rows.jsonl"], "nothing is written over it"),
        (["build", "rows.jsonl", "--out", "x", "--against", "builtin:arithmetc"], "did you mean 'arithmetic'"),
        (["build", "rows.jsonl", "--out", "x", "--max-tokens", "0"], "1 or more"),
        (["build", "rows.jsonl", "--out", "x", "--name", "../y"], "cannot be the name"),
        (["show", "nowhere"], "no such folder"),
        (["build", "run:train-x-261120-1830-abc", "--out", "x"], "run"),
    ],
)
def test_what_is_wrong_is_refused_with_a_way_out(here: Path, words: list[str], reason: str) -> None:
    before = sorted(here.rglob("*"))
    with pytest.raises(RequestError, match=reason.replace("../", "")):
        main(words)
    assert sorted(here.rglob("*")) == before
