"""A study of 8 trainings on 2 CPU slots, against `xargs -P2` over the same trainings by hand, one thread each.

    python benchmarks/study_slots.py [--pairs 3]

Ours is the whole command `yard study run` in a new folder: checking, generating the configurations, preparing data,
waiting for slots, supervising, the report. The rivals are given what the study made: LLaMA-Factory's own command the
configurations, the bare workers (`python -m tuneyard.train run`) the run folders with their data. Prints rows of the
table in docs/benchmarks.md. Needs the environment `train`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from measure import HEADER, Comparison, compare, pairs_from_command_line, seconds
from train_overhead import Bench
from yard import Yard

from tuneyard.control.devices import SLOTS_VARIABLE
from tuneyard.core.run_folder import RunFolder

SLOTS = 2
NAME = f"a study of 8 trainings on {SLOTS} slots"

BOUND = 1.05
"""The most that a study may cost, as a multiple of LLaMA-Factory's own command."""

BARE_BOUND = 1.05
"""The same as a multiple of the bare workers, which are given what the study has to make: configurations and data."""

EXPERIMENT = {
    "experiment": {"name": "slots"},
    "base": "../spec.yaml",
    "variables": {"lora_rank": [4, 8, 16, 32]},
    "seeds": [1, 2],
}


class SlotsBench(Bench):
    """A workspace in which a study is run again and again, each time as if for the first time."""

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def by_hand(self) -> Path:
        """A copy of the study whose configurations LLaMA-Factory's own command trains."""
        return self.folder / "by-hand"

    def prepare(self) -> None:
        """As for one run; and the configurations for the rival."""
        super().prepare()
        self._write(self.by_hand)
        self.yard("study", "generate", str(self.by_hand))

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))

    def ours(self) -> None:
        """The study, from its file to its report. Without the runs of the last time, which it would take over."""
        for place in (self.study, self.folder / "runs"):
            shutil.rmtree(place, ignore_errors=True)
        self._write(self.study)
        self.yard("study", "run", str(self.study))

    def rival(self) -> None:
        """Every configuration by LLaMA-Factory, into new folders, with tables that they share but have to make."""
        shutil.rmtree(self.by_hand / "by_hand", ignore_errors=True)
        with tempfile.TemporaryDirectory() as tables:
            own = {"HF_DATASETS_CACHE": tables, "PYTHONPATH": str(self.folder / "stand-in")}
            command = [str(self.python.with_name("llamafactory-cli")), "train"]
            self._side_by_side(command, sorted(self.by_hand.glob("configs/train_*.yaml")), own)

    def bare_workers(self) -> None:
        """Every run of the study by its worker alone: resolved, its data prepared, nobody watching it."""
        copies = self.folder / "bare"
        shutil.rmtree(copies, ignore_errors=True)
        runs = sorted((self.folder / "runs").glob("train-*"))
        command = [str(self.python), "-P", "-m", "tuneyard.train", "run"]
        self._side_by_side(command, [_bare(run, copies) for run in runs], {"OMP_WAIT_POLICY": "PASSIVE"})

    def _side_by_side(self, command: Sequence[str], arguments: Iterable[Path], own: Mapping[str, str]) -> None:
        listed = self.folder / "arguments"
        listed.write_bytes(b"".join(bytes(path) + b"\0" for path in arguments))
        words = ["xargs", f"-P{SLOTS}", "-0", "-n1", "-a", str(listed), *command]
        seconds(words, env={**self.yard.variables, "CUDA_VISIBLE_DEVICES": "", **own}, cwd=self.folder)


def _bare(run: Path, copies: Path) -> Path:
    """A copy of a run as it was before its worker started."""
    copy = RunFolder(copies / run.name)
    copy.attempt(1).folder.mkdir(parents=True)
    shutil.copy(run / "spec.json", copy.spec)
    shutil.copytree(run / "data", copy.data)
    return copy.path


def measure(pairs: int = 3, warm_up: int = 1) -> Comparison:
    """Time the study and LLaMA-Factory's command in turn; the first of each writes bytecode, and does not count."""
    with _bench() as bench:
        return compare(f"{NAME}, against LLaMA-Factory", bench.ours, bench.rival, pairs=pairs, warm_up=warm_up)


def measure_bare(pairs: int = 3, warm_up: int = 1) -> Comparison:
    """The same against the bare workers."""
    with _bench() as bench:
        return compare(f"{NAME}, against bare workers", bench.ours, bench.bare_workers, pairs=pairs, warm_up=warm_up)


@contextmanager
def _bench() -> Iterator[SlotsBench]:
    with tempfile.TemporaryDirectory(prefix="study slots ") as folder:
        own = {"OMP_NUM_THREADS": "1", SLOTS_VARIABLE: str(SLOTS)}
        bench = SlotsBench(Yard(Path(folder), ["train"], **own))
        bench.prepare()
        yield bench


if __name__ == "__main__":
    wanted = pairs_from_command_line(__doc__ or "")
    print(HEADER)
    print(measure(wanted).row(BOUND))
    print(measure_bare(wanted).row(BARE_BOUND))
