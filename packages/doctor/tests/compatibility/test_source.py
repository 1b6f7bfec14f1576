"""Checks that code makes when it runs, read from its syntax trees."""

from __future__ import annotations

import pytest

from tuneyard.doctor.compatibility.source import SourceFacts

CODE = """
import peft
from packaging import version
from packaging.version import parse as vparse
from peft import __version__ as PEFT_VERSION
from . import own

def load(load_in_4bit, device):
    if load_in_4bit and vparse(PEFT_VERSION) < vparse("0.4.0"):
        raise AssertionError("load_in_4bit requires peft >= 0.4.0")
    assert version.parse(transformers.__version__) >= version.parse("4.30.0"), "too old"
    assert (found := vparse(importlib.metadata.version("nltk"))) >= vparse("3.9.1")
    check_version("trl>=0.18.0,<=0.24.0")
    check_version(name)
    check_version("unsloth", mandatory=True)
    if vparse(torch.__version__) >= vparse("2.1"):
        fast = True
"""


def test_checks_that_stop_are_found_with_their_condition() -> None:
    found = SourceFacts.read_from([("lib/model.py", CODE)])
    assert sorted((check.requirement, check.condition) for check in found.checks) == [
        ("nltk>=3.9.1", ""),
        ("peft>=0.4.0", "load_in_4bit"),
        ("transformers>=4.30.0", ""),
        ("trl>=0.18.0,<=0.24.0", ""),
    ]
    assert all(check.where.startswith("lib/model.py:") for check in found.checks)


def test_imports_are_named_by_module_and_its_own_are_left_out() -> None:
    found = SourceFacts.read_from([("lib/model.py", CODE), ("lib/b.py", "import lib.model, numpy as np")])
    assert found.imports["peft"] == ["lib/model.py"]
    assert found.imports["numpy"] == ["lib/b.py"]
    assert "lib" not in found.imports


@pytest.mark.parametrize("text", ["def (", "\0", "{{ template }}"])
def test_what_does_not_parse_is_passed_over(text: str) -> None:
    found = SourceFacts.read_from([("lib/a.py", text), ("lib/b.py", "import x")])
    assert found.imports == {"x": ["lib/b.py"]}
