"""A pasted install command: what was meant, and what a shell makes of it.

`pip install trl>=0.8.6,<=0.9.6` installs nothing of the kind. To a shell `>` and `<` are redirections: it writes a file
named `=0.8.6,` and looks for one named `=0.9.6`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tuneyard.core.errors import RequestError

_INSTALL = re.compile(
    r"^\s*(?:\$\s+|!|%)?\s*(?:(?:\S*python[\d.]*\s+-m\s+)?(?:uv\s+)?pip[\d.]*\s+install|uv\s+add)\b(.*)$"
)
_WITH_VALUE = {"-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-f", "-t"}
_WITH_VALUE |= {"--find-links", "--target", "--python", "-p", "--index", "--prefix", "--platform", "--python-version"}
_WRITTEN = re.compile(r"^=+\d[\w.*,]*$")


@dataclass(frozen=True)
class InstallCommand:
    """One command line."""

    text: str
    meant: list[str]
    """The requirements that its author had in mind."""
    files: list[str]
    """Requirements files that it names."""
    writes: list[str]
    """Files that a shell would write because a `>` is not quoted."""
    reads: list[str]
    """Files that a shell would want to read because a `<` is not quoted; it stops where one is missing."""

    @property
    def misread(self) -> bool:
        return bool(self.writes or self.reads)

    def quoted(self) -> str:
        """The command as it has to be written."""
        options = " ".join(f"-r {shlex.quote(file)}" for file in self.files)
        return " ".join(
            filter(None, ["pip install", options, *(shlex.quote(requirement) for requirement in self.meant)])
        )

    def explain(self) -> str:
        """What a shell does with it, one sentence."""
        parts = [f"writes a file named {name!r}" for name in self.writes]
        parts += [f"looks for a file named {name!r}, and stops where there is none" for name in self.reads]
        return f"without quotes the shell {' and '.join(parts)}; pip never sees these bounds"


def read_install_command(text: str) -> InstallCommand | None:
    """The command in a line of text; None where it is no install command.

    Raises:
        RequestError: a quote is not closed.
    """
    found = _INSTALL.match(text)
    if not found:
        return None
    try:
        words = _words(found[1])
    except ValueError as error:
        raise RequestError(f"cannot be read as a command: {error}", where=text, way_out="close the quote") from error
    meant, files, skip = [], [], ""
    for word in words:
        if skip:
            files += [word.meant] if skip in ("-r", "--requirement") else []
            skip = ""
        elif word.meant in _WITH_VALUE:
            skip = word.meant
        elif not word.meant.startswith("-"):
            meant.append(word.meant)
    writes = [name for word in words for name in word.writes]
    reads = [name for word in words for name in word.reads]
    return InstallCommand(text.strip(), meant, files, writes, reads)


@dataclass(frozen=True)
class _Word:
    meant: str
    writes: list[str]
    reads: list[str]


def _words(text: str) -> list[_Word]:
    """The words of a command as its author meant them, each with the redirections that a shell sees in it."""
    found: list[_Word] = []
    skip_target = False
    for word in _split(text):
        plain = "".join(char for char, _ in word)
        if skip_target:
            skip_target = False
        elif re.match(r"\d*[<>]", plain) and not word[0][1]:  # a redirection that is meant: `> log.txt`, `2>&1`
            skip_target = plain[-1] in "<>"
        else:
            found.append(_Word(plain, _targets(word, ">"), _targets(word, "<")))
    return found


def _split(text: str) -> list[list[tuple[str, bool]]]:
    """Words of the first command, as characters with whether each is quoted.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[list[tuple[str, bool]]] = [[]]
    quote = ""
    characters = iter(text)
    for char in characters:
        if quote:
            quote = "" if char == quote else quote
            words[-1] += [] if not quote else [(char, True)]
        elif char in "\"'":
            quote = char
        elif char == "\\":
            words[-1].append((next(characters, ""), True))
        elif (char in ";&|" and not (words[-1] and words[-1][-1] == (">", False))) or (char == "#" and not words[-1]):
            break
        elif char.isspace():
            words.append([])
        else:
            words[-1].append((char, False))
    if quote:
        raise ValueError("a quote is not closed")
    return [word for word in words if word]


def _targets(word: list[tuple[str, bool]], sign: str) -> list[str]:
    """The files named behind each unquoted `sign` in a word."""
    marked = "".join("\0" + char if char in "<>" and not quoted else char for char, quoted in word)
    return [part[1:] for part in marked.split("\0")[1:] if part[0] == sign and part[1:]]


def written_files(folder: Path) -> list[str]:
    """Files in a folder that such a command left behind: `=0.8.6,`."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
    return [name for name in names if _WRITTEN.match(name)]
