"""The report: what it says and what it does not, its tables, each run read once, and how a browser shows it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.core.run_folder import RunFolder
from tuneyard.study.execute import Execution
from tuneyard.study.journal import Journal
from tuneyard.study.report.charts import Bar, Cell, Grid, Line, bars_chart, heat_map, lines_chart, number, ticks
from tuneyard.study.report.statistics import Against, Estimate, best_against_others
from tuneyard.study.report.wording import cautions, findings, verdict
from tuneyard.study.report.write import write_report
from tuneyard.study.state import jobs_of
from tuneyard.study.study import Study

if TYPE_CHECKING:
    from conftest import Write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def run(study: Study) -> None:
    Execution(study, lambda text: None).run()


def estimate(right: list[int], n: int = 40, baseline: int | None = None, **against: Any) -> Estimate:
    """A setting whose trainings answer so many of n documents rightly."""
    rows = [{(str(d), 0): float(d < k) for d in range(n)} for k in right]
    values = [k / n for k in right]
    mean = sum(values) / len(values)
    made = Estimate("quiz", "exact_match", {"rank": right[0]}, values, [*range(len(right))], mean, None, (0, 1))
    made.rows, made.planned = rows, len(right)
    if baseline is not None:
        made.against = Against(baseline / n, mean - baseline / n, **against)
    return made


def test_one_seed_is_never_evidence_for_a_setting() -> None:
    found = [estimate([10]), estimate([39])]
    told = " ".join(findings({"quiz": found}))
    assert "with one seed that is no evidence" in told
    assert "told apart from each" not in told
    assert any("trained once" in text for text in cautions(found))


def test_overlapping_settings_are_not_called_different() -> None:
    told = " ".join(findings({"quiz": [estimate([20, 22, 24]), estimate([21, 22, 25])]}))
    assert "cannot be told apart" in told


def test_settings_far_apart_are_with_a_word_on_few_seeds() -> None:
    told = " ".join(findings({"quiz": [estimate([2, 3, 2]), estimate([38, 39, 38])]}))
    assert "the intervals of the differences exclude 0" in told
    assert "3 seeds measure their spread poorly" in told


def test_equal_settings_are_called_equal() -> None:
    assert findings({"quiz": [estimate([0, 0]), estimate([0, 0])]}) == ["quiz: every setting has the same mean, 0.000."]


def test_higher_needs_both_the_corrected_test_and_the_interval() -> None:
    sure: dict[str, Any] = {"interval": (0.1, 0.3), "p": 0.001, "corrected": 0.01}
    assert verdict(estimate([30, 31], baseline=10, **sure)) == "higher"
    assert verdict(estimate([30], baseline=10, **sure)) == "higher, this one training"
    assert verdict(estimate([2, 3], baseline=10, **sure)) == "lower"
    assert verdict(estimate([30, 31], baseline=10, **{**sure, "corrected": 0.06})) == "none shown"
    assert verdict(estimate([30, 31], baseline=10, **{**sure, "interval": (-0.01, 0.3)})) == "none shown"
    assert verdict(estimate([30, 31], baseline=10, interval=None, p=None)) == "not tested"
    assert verdict(estimate([30, 31])) == "not measured"


def test_the_best_is_compared_on_the_documents_that_both_have() -> None:
    (pair,) = best_against_others([estimate([2, 3]), estimate([38, 39])])
    assert pair.interval is not None
    assert 0.75 < pair.interval[0] < 0.9 < pair.interval[1] < 1.0


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.0013, 0.0087)[0] == pytest.approx(0.002)
    assert ticks(5, 5) == [5]
    assert [number(v) for v in (0, 0.00001, 0.25, 1e6, 1234.5)] == ["0", "1e-5", "0.25", "1e6", "1234.5"]


def test_charts_stand_values_that_no_axis_has() -> None:
    nan = float("nan")
    assert lines_chart([Line([(0, nan), (1, 2.0)], 0, "a")], "t", "x", "y").count("<polyline") == 1
    assert lines_chart([], "t", "x", "y") == ""
    assert "<circle" in bars_chart([Bar("a<b", 0.0, None)], "t", "x", "y")
    assert "a&lt;b" in bars_chart([Bar("a<b", 0.0, None)], "t", "x", "y")
    assert heat_map(Grid(["1"], ["2"], [Cell(0, 0, 0.5)]), "t", "x", "y", str).count("<rect") == 1


@pytest.fixture
def reported(write: Write) -> Study:
    """A study of two variables and two seeds, one run of which fails."""
    variables = {"lora_rank": [2, 32], "learning_rate": [1e-4, 1e-3]}
    study = write(variables=variables, seeds=[1, 2, 3], controls={"fail_at": 3})
    run(study)
    write_report(study)
    return study


class Page(HTMLParser):
    """What a page links to, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags[tag] += 1
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag in ("script", "img", "iframe") or given.get("rel") == "stylesheet":
            self.loaded.append(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_report_of_a_study_from_end_to_end(reported: Study) -> None:
    place = reported.folder.report
    html = (place / "report.html").read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.loaded == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert "prefers-color-scheme:dark" in html
    assert page.tags["svg"] == 4  # loss, heat map, two variables
    for link in page.links:
        assert (place / link.replace("%20", " ").replace("%27", "'").replace("%22", '"').replace("%C3%BC", "ü")
                .replace("%C3%AF", "ï")).exists(), link  # fmt: skip
    for text in (
        "Does rank matter?",
        "Yes, up to 32.",
        "the loss is not a number",
        "a smaller learning rate",
        "2 of 3",
    ):
        assert text in html
    text = (place / "report.md").read_text()
    assert "quiz: the highest mean" in text
    assert "rest on fewer seeds than were planned" in text
    check_tables(place)
    check_each_run_was_read_once(reported)
    check_in_a_browser(place)


def check_tables(place: Path) -> None:
    from pyarrow import parquet

    with open(place / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13  # a baseline, eight scores, four that failed
    scored = [row for row in rows if row["metric"] == "exact_match,none" and row["run"] != "baseline"]
    assert len(scored) == 8
    assert {row["lora_rank"] for row in scored} == {"2", "32"}
    table = parquet.read_table(place / "results.parquet").to_pylist()
    assert [row["run"] for row in table] == [row["run"] for row in rows]
    assert [row["value"] for row in table if row["value"] is not None] == [
        float(r["value"]) for r in rows if r["value"]
    ]


OPENED: Counter[str] = Counter()
"""Every file that this process has opened since `opened_by` was first asked."""


@cache
def count_opens() -> None:
    sys.addaudithook(lambda event, given: OPENED.update([str(given[0])]) if event == "open" else None)


def opened_by(action: Callable[[], Any], folder: Path) -> dict[str, int]:
    """File below a folder -> how often an action opens it."""
    count_opens()
    OPENED.clear()
    action()
    return {path: count for path, count in OPENED.items() if path.startswith(f"{folder}/")}


def check_each_run_was_read_once(study: Study) -> None:
    opened = opened_by(lambda: write_report(study), study.workspace.runs)
    assert set(opened.values()) == {1}


def leave(run: RunFolder, status: str = "succeeded") -> None:
    """Every file that a report reads of a run which took two attempts."""
    for n in (1, 2):
        attempt = run.attempt(n)
        attempt.folder.mkdir(parents=True)
        result = {"status": status if n == 2 else "failed", "seconds": 1.0, "metrics": {}, "failure": None}
        if run.kind == "eval":
            result["metrics"] = {"quiz/exact_match,none": {"value": 0.5, "standard_error": 0.1, "n": 2}}
        attempt.result.write_text(json.dumps(result))
        attempt.environment.write_text("{}")
        attempt.events.write_text('{"event": "progress", "step": 1, "loss": 2.0}\n')
    run.artifacts.mkdir()
    run.spec.write_text("{}")
    if run.kind == "eval":
        rows = [
            {"task": "quiz", "document_sha256": str(n), "scores": {"none": {"exact_match": float(n)}}} for n in (0, 1)
        ]
        run.samples.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        run.evaluation.write_text('{"tasks": [{"task": "quiz", "documents_sha256": "d", "prompts_sha256": "p"}]}')


def test_no_file_of_a_run_is_opened_twice_for_one_report(write: Write) -> None:
    study = write()
    journal = Journal(study.folder.journal)
    for place, job in enumerate(jobs_of(study)):
        name = f"{job.kind}-rank-260101-0000-aa{place}"
        if job.key == "003/lm-eval":
            name = run_of(study, "002/lm-eval")  # a run that does the job of two
        else:
            leave(RunFolder(study.workspace.runs / name), "failed" if job.key == "001/train" else "succeeded")
        journal.write(job, "started", name)
    opened = opened_by(lambda: write_report(study), study.workspace.runs)
    assert set(opened.values()) == {1}
    counted = Counter(Path(path).name for path in opened)
    # four trainings and four evaluations, the baseline's among them, of two attempts each
    assert counted["result.json"] == 16
    assert counted["events.jsonl"] == 8
    assert counted["samples.jsonl"] == counted["evaluation.json"] == 4
    text = (study.folder.report / "report.md").read_text()
    assert "4 trainings: 3 succeeded, 1 failed; 5 evaluations: 5 succeeded" in text


def run_of(study: Study, key: str) -> str:
    return str(Journal(study.folder.journal).entries()[key].run)


BROWSE = """
() => ({width: document.documentElement.scrollWidth, charts: document.querySelectorAll('svg').length})
"""


def check_in_a_browser(place: Path) -> None:
    """The page in Chromium: drawn in both colours, nothing told on the console, every chart with something in it."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    drawn = [screenshot(place, dark) for dark in (False, True)]
    assert all(size > 50_000 for size, _, _ in drawn)
    assert drawn[0][1] != drawn[1][1], "light and dark look the same"
    for _, _, said in drawn:
        assert "CONSOLE" not in said, said
    page = subprocess.run(
        [*browser(place), "--dump-dom", url(place)], capture_output=True, text=True, check=True
    ).stdout
    assert page.count("<svg") == 4
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert re.search(r"<(polyline|circle|rect)", chart)


def browser(place: Path) -> list[str]:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,3600"]
    return [str(CHROMIUM), *options, f"--user-data-dir={place / '.chromium'}", "--enable-logging=stderr", "--v=0"]


def url(place: Path) -> str:
    return (place / "report.html").as_uri()


def screenshot(place: Path, dark: bool) -> tuple[int, bytes, str]:
    """Size and bytes of a picture of the page, and what the browser said."""
    target = place / f"screenshot-{'dark' if dark else 'light'}.png"
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    command = [*browser(place), *colours, f"--screenshot={target}", url(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    data = target.read_bytes()
    assert data.startswith(b"\x89PNG")
    return len(data), data, done.stderr


def test_a_report_before_anything_ran_says_so(write: Write) -> None:
    study = write(evaluation=None)
    written = write_report(study)
    text = written[1].read_text()
    assert "No setting has a score yet." in text
    assert "nothing can be concluded" in text
    assert "4 trainings: 4 planned" in text


def test_text_of_a_person_stays_text(write: Write) -> None:
    nasty = '<script>alert(1)</script> & | "quotes"'
    study = write(experiment={"name": nasty, "question": nasty}, evaluation=None)
    html, markdown = (path.read_text() for path in write_report(study)[:2])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in markdown
