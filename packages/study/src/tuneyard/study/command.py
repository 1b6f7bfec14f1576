"""The command `yard study`: finds the module of the word that is named, and imports nothing else.

yard study plan experiment.yaml        what would be run, and what it costs
yard study run experiment.yaml         train, evaluate and report
"""

from __future__ import annotations

from importlib import import_module

from tuneyard.core.errors import unknown

COMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("plan", "what would be run: the matrix, the cost, the disk, what is doubtful"),
    "generate": ("generate", "write configurations, evaluation scripts and batch scripts; --force, --dry-run"),
    "run": ("run", "train and evaluate what is not done yet, then write the report"),
    "status": ("status", "how far it is"),
    "resume": ("run", "as run, and try again what failed or was cancelled"),
    "cancel": ("cancel", "start nothing more and end what runs"),
    "report": ("report", "write report.html, report.md, results.csv and results.parquet"),
    "one": ("one", "train or evaluate one run here, as a task of a batch array does"),
}
"""Word -> the module of tuneyard.study.commands that has it, and what it does."""


def main(arguments: list[str]) -> int:
    """Run `yard study WORD ...`; its exit code."""
    word, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if word in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if word not in COMMANDS:
        raise unknown("command of study", word, COMMANDS)
    return import_module(f"tuneyard.study.commands.{COMMANDS[word][0]}").main(f"study {word}", rest)


def _usage() -> str:
    lines = ["usage: yard study COMMAND EXPERIMENT.yaml [...]", ""]
    lines += [f"  {word:<10} {text}" for word, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "yard study COMMAND --help tells the options of one; --json gives JSON."])
