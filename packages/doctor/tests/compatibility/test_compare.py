"""`yard doctor compare`: what is printed, written and returned."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control.cli import run as yard
from tuneyard.core.errors import RequestError
from tuneyard.doctor.compatibility import main

if TYPE_CHECKING:
    from conftest import Index

    from tuneyard.doctor.compatibility.uv import Solver

README = """
| Mandatory | Minimum | Recommend |
| --- | --- | --- |
| python | 3.9 | 3.11 |
| models | 3.0 | 4.0 |

```sh
pip install models>=4.0,<5
pip install "models>=6"
```
"""

CODE = """
import models

def load(load_in_4bit):
    if load_in_4bit and vparse(MODELS_VERSION) < vparse("4.5"):
        raise AssertionError
"""


@pytest.fixture
def made_up(index: Index, solver: Solver) -> Index:
    """A trainer and a server that disagree about models, and a judge that agrees with the trainer."""
    for version in ("3.0", "4.0", "4.9", "5.0"):
        index.add("models", version)
    index.add("trainer", "1.0", "models>=4,<5", python=">=3.10", readme=README, code={"trainer/__init__.py": CODE})
    index.add("trainer", "1.1", "models>=4", python=">=3.10")
    index.add("server", "2.0", "models>=5")
    index.add("judge", "3.0", "models>=2")
    return index


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_stacks_that_agree(made_up: Index, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "trainer==1.0", "judge==3.0")
    assert code == 0
    [pair] = found["pairs"]
    assert pair["verdict"] == "agree"
    assert pair["proof"]["together"]["versions"]["models"] == "4.9"
    assert pair["mitigations"] == []


def test_stacks_that_conflict_with_everything_that_belongs_to_it(
    made_up: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = answer(capsys, "trainer==1.0", "server==2.0")
    assert code == 1
    [pair] = found["pairs"]
    row = next(row for row in pair["inventory"] if row["package"] == "models")
    assert row["a"]["declared"] == [{"requirement": "models>=4,<5", "where": "trainer 1.0, Requires-Dist"}]
    assert row["verdict"] == "conflict"
    assert pair["checks"][0]["requirement"] == "models>=4.5"
    assert pair["checks"][0]["condition"] == "load_in_4bit"
    assert pair["checks"][0]["where"] == "trainer/__init__.py:5"
    kinds = [way["kind"] for way in pair["mitigations"]]
    assert kinds == ["move", "split", "relax", "relax", "no dependencies"]
    assert pair["mitigations"][0]["what"] == "move trainer from 1.0 to 1.1"
    assert "trainer/__init__.py" in pair["mitigations"][2]["lost"]


def test_a_readme_that_says_something_else_is_shown(made_up: Index, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "trainer==1.0", "judge==3.0")
    claims = found["pairs"][0]["claims"]
    assert [(claim["says"], claim["problem"].partition(" ")[0]) for claim in claims] == [
        ("python | 3.9 | 3.11", "its"),
        ("models | 3.0 | 4.0", "its"),
        ("pip install models>=4.0,<5", "without"),
        ('pip install "models>=6"', "its"),
    ]
    assert claims[0]["problem"] == "its metadata ask for >=3.10, which refuses 3.9"
    assert claims[0]["where"].startswith("trainer 1.0, README line ")


def test_a_pasted_command_is_read_as_it_was_meant(
    made_up: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "=4.0,").touch()
    code, found = answer(capsys, "pip install models>=4.0,<5", "server==2.0")
    assert code == 1
    messages = [finding["message"] for finding in found["findings"]]
    assert any("writes a file named '=4.0,'" in message for message in messages)
    assert any("the file '=4.0,' was written by an install command" in message for message in messages)


def test_no_release_that_is_not_ancient_is_no_way_out(
    index: Index, solver: Solver, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add("models", "4.0")
    index.add("models", "5.0")
    index.add("trainer", "1.0", "models<5")
    index.add("server", "0.1.2")
    index.add("server", "0.32.0", "models>=5")
    _, found = answer(capsys, "trainer==1.0", "server==0.32.0")
    [way] = [way for way in found["pairs"][0]["mitigations"] if way["kind"] == "no move"]
    assert "0.1.2" in way["what"]
    assert "an old release is no way out" in way["what"]
    code, found = answer(capsys, "trainer==1.0", "server")
    assert code == 1
    assert found["pairs"][0]["verdict"] == "far behind"


def test_dropping_an_extra_is_a_way_out(index: Index, solver: Solver, capsys: pytest.CaptureFixture[str]) -> None:
    index.add("models", "1")
    index.add("models", "2")
    index.add("trainer", "1.0", 'models<2; extra == "old"', extras=("old",))
    index.add("server", "2.0", "models>=2")
    _, found = answer(capsys, "trainer[old]==1.0", "server==2.0")
    [way] = [way for way in found["pairs"][0]["mitigations"] if way["kind"] == "extra"]
    assert way["what"].startswith("install trainer 1.0 without its extra old")


def test_without_proof_the_declared_ranges_decide(made_up: Index, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "trainer==1.0", "server==2.0", "--no-proof")
    assert code == 1
    assert found["pairs"][0]["proof"] is None
    assert answer(capsys, "trainer==1.0", "judge==3.0", "--no-proof")[0] == 0


def test_without_uv_the_static_part_works_and_the_proof_is_not_attempted(
    made_up: Index, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("models>=4,<5\n")
    (tmp_path / "b.txt").write_text("models>=2\n")
    (tmp_path / "c.txt").write_text("models>=5\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(tmp_path))
    code, found = answer(capsys, "a.txt", "b.txt")
    assert code == 3
    assert "no uv" in found["not_attempted"]
    assert found["pairs"][0]["inventory"][0]["verdict"] == "agree"
    assert found["pairs"][0]["verdict"] == "unknown"
    assert answer(capsys, "a.txt", "c.txt")[0] == 1
    assert main(["a.txt", "b.txt"]) == 3
    assert "proof: not attempted: no uv" in capsys.readouterr().out


def test_without_a_network_the_proof_is_not_attempted(
    made_up: Index, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("models>=4,<5\n")
    (tmp_path / "b.txt").write_text("models>=2\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    code, found = answer(capsys, "a.txt", "b.txt")
    assert code == 3
    assert "could not be reached" in found["pairs"][0]["proof"]["not_attempted"]
    assert found["pairs"][0]["inventory"][0]["both"] == ">=4,<5"


def test_a_requirement_with_an_address_is_left_undecided(
    made_up: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("models @ https://example.org/models-1.tar.gz\n")
    code, found = answer(capsys, "a.txt", "judge==3.0", "--no-proof")
    assert code == 3
    assert found["pairs"][0]["inventory"][0]["verdict"] == "unknown"
    assert any("comes from an address" in finding["message"] for finding in found["findings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one==1"], "one stack is nothing to compare"),
        (["a==1", "a==1"], "named twice"),
        (["a==1", "missing.txt"], "no such file"),
        (["a==1", "b", "--frobnicate"], "unrecognized"),
        (["a==1", "b==1", "--claims", "missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_solved(
    made_up: Index, arguments: list[str], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        main(arguments)


def test_a_broken_pyproject_is_exit_2_with_its_place(
    made_up: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert yard(["doctor", "compare", "pyproject.toml", "judge==3.0", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "no valid TOML" in error["message"]
    assert error["where"].endswith("pyproject.toml")


CLAIMS = """
claims:
  - claim: "the ranges do not overlap"
    together: ["models>=4,<5", "models>=2"]
    says: conflict
  - claim: "trainer and server cannot be installed together"
    together: ["trainer==1.0", "server==2.0"]
    says: conflict
  - claim: "Python 3.9 is enough for the trainer"
    together: ["trainer==1.0"]
    python: "3.9"
    says: resolves
"""


def test_statements_are_confirmed_or_refuted(
    made_up: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "claims.yaml").write_text(CLAIMS)
    _, found = answer(capsys, "trainer==1.0", "judge==3.0", "--claims", "claims.yaml")
    assert [claim["verdict"] for claim in found["claims"]] == ["refuted", "confirmed", "refuted"]
    assert ">=4,<5 and >=2 have >=4,<5 in common" in found["claims"][0]["evidence"]
    assert "every version in >=4,<5 meets >=2 already" in found["claims"][0]["evidence"]
    assert all(len(claim["solve"]["sha256"]) == 12 for claim in found["claims"])


def test_the_page_has_every_part(made_up: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "claims.yaml").write_text(CLAIMS)
    main(["trainer==1.0", "server==2.0", "judge==3.0", "--claims", "claims.yaml", "--markdown", "out.md"])
    page = (tmp_path / "out.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Overview",
        "## Statements held against the facts",
        "## Conflict inventory",
        "## The conflicts, one by one",
        "## Checked at run time",
        "## Documents that say something else, and notes",
        "## Everything that both sides declare",
        "## Next steps",
    ]
    assert "| pair | area | A's requirement | B's requirement | impact |" in page
    row = "`>=4,<5` (trainer 1.0, Requires-Dist) | `>=5` (server 2.0, Requires-Dist) | no version satisfies both |"
    assert row in page
    assert "3 pairs: 2 agree, 0 agree only on versions far behind, 1 conflict." in page
    assert os.fspath(tmp_path) not in page
    assert "trainer==1.0  with  server==2.0: conflict" in capsys.readouterr().out


def test_two_versions_of_one_distribution_are_alternatives(made_up: Index, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "trainer==1.0", "trainer==1.1", "judge==3.0", "--no-proof")
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [
        ("trainer==1.0", "judge==3.0"),
        ("trainer==1.1", "judge==3.0"),
    ]


def test_metadata_are_asked_for_once(
    made_up: Index, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "trainer==1.0", "server==2.0", "--no-proof")
    for path in (made_up.folder / "files").iterdir():
        path.unlink()
    _, found = answer(capsys, "trainer==1.0", "server==2.0", "--no-proof")
    assert found["pairs"][0]["inventory"][0]["verdict"] == "conflict"
