"""Lists under the headings of a Markdown file, edited in place: what is not asked to change keeps every byte.

Works on bytes, so that any encoding that contains ASCII, a byte order mark and any line ending survive. Only as much of
Markdown is read as finding a heading and the items of its list takes; code fences and comments hide what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NOTHING = b"N/A"
"""What stands in a section whose list is empty."""

_BOM = b"\xef\xbb\xbf"
_BREAKS = b"\r\n"
_HEADING = re.compile(rb" {0,3}(#{1,6})(?=[ \t\r\n]|\Z)")
_UNDERLINE = re.compile(rb" {0,3}(=+|-{2,})[ \t]*[\r\n]*\Z")  # one hyphen is an item without text
_RULE = re.compile(rb"(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,})[\r\n]*\Z")
_ITEM = re.compile(rb"(?!%b)[-*+](?:[ \t]|[\r\n]*\Z)" % _RULE.pattern)
_PLAIN = re.compile(rb"[^\s#>|<`~*+=-]")  # begins a line that is text and nothing else
_FENCE = re.compile(rb"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?:(`{3,})[^`]*|(~{3,}).*)\Z", re.DOTALL)
_COMMENT = re.compile(rb" {0,3}<!--")
_COMMENT_END = re.compile(rb"-->")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLACEHOLDER = re.compile(rb"(?:n/a|none)\.?[ \t]*[\r\n]*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class _Heading:
    level: int
    text: bytes
    start: int
    """Its first line."""
    end: int
    """The line behind it."""


@dataclass(frozen=True)
class _Section:
    body: int
    """First line below the heading."""
    end: int
    """The next heading of the same or a higher rank, or the end of the file."""
    items: tuple[tuple[int, int], ...]
    """First line, and line behind the last, of each item at the margin; blank lines behind an item are not its own."""
    placeholder: int | None
    """The line of its `N/A`."""


def items(data: bytes, title: str) -> list[bytes]:
    """The items of the list under a heading as they stand, marker included; empty where there is none."""
    lines = data.splitlines(keepends=True)
    section = _find(lines, title)
    return [b"".join(lines[start:end]) for start, end in section.items] if section else []


def insert_items(data: bytes, title: str, new: Sequence[bytes], *, before: str | None = None) -> bytes:
    """Put items at the top of the list under a heading; the section is made where it is missing.

    Args:
        data: the file.
        title: the heading's text, in whatever case.
        new: items with their markers; their line endings become the file's.
        before: where the section is missing, make it in front of this one; else at the end.
    """
    lines = data.splitlines(keepends=True)
    section = _find(lines, title)
    if section is None:
        return insert_items(_with_section(lines, title, before), title, new)
    if section.items:
        at = section.items[0][0]
        return b"".join([*lines[:at], *_ended(new, _ending_at(lines, at)), *lines[at:]])
    return b"".join(_fill(lines, section, new))


def remove_items(data: bytes, title: str, first: int = 0) -> bytes:
    """Take the items from number `first` on out of a heading's list, and the blank lines between them."""
    lines = data.splitlines(keepends=True)
    section = _find(lines, title)
    gone: set[int] = set()
    behind = 0
    for number, (start, end) in enumerate(section.items if section else ()):
        if number >= first:
            gap = range(behind if number else start, start)
            gone.update(range(start, end), () if b"".join(lines[n] for n in gap).strip() else gap)
        behind = end
    return b"".join(line for number, line in enumerate(lines) if number not in gone)


def set_items(data: bytes, title: str, new: Sequence[bytes], *, before: str | None = None) -> bytes:
    """Replace all items under a heading; an empty list leaves `N/A`. Other text of the section stays."""
    lines = data.splitlines(keepends=True)
    section = _find(lines, title)
    if section is None or not section.items:
        return insert_items(data, title, new or [NOTHING], before=before)
    if section.placeholder is not None:  # somebody wrote items below the `N/A`
        del lines[section.placeholder]
        return set_items(b"".join(lines), title, new)
    if new:
        return remove_items(insert_items(data, title, new), title, first=len(new))
    at = section.items[0][0]
    lines = remove_items(data, title).splitlines(keepends=True)
    ending = _ending_at(lines, at - 1)
    gap = [ending] if b"".join(lines[at : at + 1]).strip() else []  # else the next line could make it a heading
    return b"".join([*lines[:at], NOTHING, ending, *gap, *lines[at:]])


def as_item(text: str) -> bytes:
    """A text as one item on one line, which nothing in it can break out of."""
    line = _CONTROL.sub("", " ".join(text.split())).strip()
    if line.startswith(("```", "~~~")):
        line = "\\" + line
    line = line.replace("-->", "--&gt;")  # a comment that somebody left open must not end here
    return f"- {line}".encode("utf-8", "replace")


def as_text(item: bytes) -> str:
    """What an item says, without its marker, on one line."""
    return " ".join(item[1:].decode("utf-8", "replace").split())


def _find(lines: list[bytes], title: str) -> _Section | None:
    hidden = _hidden(lines)
    headings = _headings(lines, hidden)
    heading = next((h for h in headings if _names(h, title)), None)
    if heading is None:
        return None
    end = next((h.start for h in headings if h.level <= heading.level), len(lines))
    ranges = tuple(_items(lines, hidden, heading.end, end))
    return _Section(heading.end, end, ranges, _placeholder(lines, hidden, heading.end, end))


def _names(heading: _Heading, title: str) -> bool:
    return heading.text.lower() == title.lower().encode()


def _headings(lines: list[bytes], hidden: Sequence[int]) -> Iterator[_Heading]:
    for number, raw in enumerate(lines):
        if hidden[number]:
            continue
        line = raw.removeprefix(_BOM) if number == 0 else raw
        match = _HEADING.match(line)
        if match:
            yield _Heading(len(match[1]), _heading_text(line[match.end() :]), number, number + 1)
        elif _PLAIN.match(line) and (under := _UNDERLINE.match(b"".join(lines[number + 1 : number + 2]))):
            yield _Heading(1 if under[1].startswith(b"=") else 2, line.strip(), number, number + 2)


def _heading_text(rest: bytes) -> bytes:
    """What follows the opening marks of a heading, without closing ones."""
    text = rest.strip()
    open_end = text.rstrip(b"#")
    return open_end.rstrip() if not open_end or open_end[-1:] in b" \t" else text


def _items(lines: list[bytes], hidden: Sequence[int], body: int, end: int) -> Iterator[tuple[int, int]]:
    number = body
    while number < end:
        if hidden[number] or not _ITEM.match(lines[number]):
            number += 1
            continue
        behind = _behind_item(lines, hidden, number, end)
        yield number, behind
        number = behind


def _behind_item(lines: list[bytes], hidden: Sequence[int], start: int, end: int) -> int:
    """The line behind the last of the item that begins at `start`: indented lines, and text that runs on."""
    behind = start + 1
    for number in range(start + 1, end):
        line = lines[number]
        if not line.strip():
            continue
        runs_on = behind == number and not hidden[number] and _PLAIN.match(line)
        if not runs_on and line[:1] not in (b" ", b"\t"):
            break
        behind = number + 1
    return behind


def _placeholder(lines: list[bytes], hidden: Sequence[int], body: int, end: int) -> int | None:
    """The line of a section's `N/A`, where an item in its place would swallow nothing that follows."""
    for number in range(body, end):
        stands = _PLACEHOLDER.match(lines[number]) and not hidden[number]
        if stands and _behind_item(lines, hidden, number, end) == number + 1:
            return number
    return None


def _hidden(lines: list[bytes]) -> Sequence[int]:
    """For each line whether it stands inside a code fence or a comment. One that is never closed hides nothing."""
    hidden = bytearray(len(lines))
    in_vain: set[re.Pattern[bytes]] = set()  # closings that were not found; keeps the time linear
    number = 0
    while number < len(lines):
        closing = _closing(lines[number])
        if closing and closing not in in_vain:
            first = number if closing is _COMMENT_END else number + 1
            last = next((n for n in range(first, len(lines)) if closing.search(lines[n])), None)
            if last is None:
                in_vain.add(closing)
            else:
                hidden[number + 1 : last + 1] = b"\1" * (last - number)
                number = last
        number += 1
    return hidden


def _closing(line: bytes) -> re.Pattern[bytes] | None:
    """What closes the fence or comment that a line opens; None where it opens none."""
    if _COMMENT.match(line):
        return _COMMENT_END
    match = _FENCE.match(line)
    if not match:
        return None
    mark = match[1] or match[2]
    return re.compile(rb"\A[ \t]*%b{%d,}[ \t]*[\r\n]*\Z" % (mark[:1], len(mark)))


def _ending_at(lines: list[bytes], number: int) -> bytes:
    """The line ending of a line; where it has none, that of the file's first line; else a line feed."""
    for line in (*lines[number : number + 1], *lines[:1]):
        ending = line[len(line.rstrip(_BREAKS)) :]
        if ending:
            return ending
    return b"\n"


def _fill(lines: list[bytes], section: _Section, new: Sequence[bytes]) -> list[bytes]:
    """The file with the first items of a section, behind the text that stands there; a placeholder makes way."""
    placeholder = section.placeholder
    if placeholder is not None:
        chunk = _ended(new, _ending_at(lines, placeholder))
        return [*lines[:placeholder], *chunk, *lines[placeholder + 1 :]]
    at = section.end
    while at > section.body and not lines[at - 1].strip():
        at -= 1
    blank = lines[at : min(at + 1, section.end)]  # where one stands already, it parts text and items
    ending = _ending_at(lines, at - 1 + len(blank))
    head = [*lines[: at - 1], _whole(lines[at - 1], ending), _whole(b"".join(blank), ending)]
    rest = lines[at + len(blank) :]
    gap = [ending] if rest and rest[0].strip() else []
    return [*head, *_ended(new, ending), *gap, *rest]


def _ended(new: Sequence[bytes], ending: bytes) -> list[bytes]:
    return [line + ending for item in new for line in item.splitlines()]


def _whole(line: bytes, ending: bytes) -> bytes:
    """The line with an ending, which the last of a file may lack."""
    return line if line.endswith((b"\n", b"\r")) else line + ending


def _with_section(lines: list[bytes], title: str, before: str | None) -> bytes:
    """The file with an empty section."""
    start = next((h.start for h in _headings(lines, _hidden(lines)) if before and _names(h, before)), None)
    ending = _ending_at(lines, len(lines) - 1 if start is None else start)
    heading = b"## " + title.encode() + ending
    if start is not None:
        bom = _BOM if lines[start].startswith(_BOM) else b""
        return b"".join([*lines[:start], bom, heading, ending, lines[start].removeprefix(bom), *lines[start + 1 :]])
    if lines:
        lines[-1] = _whole(lines[-1], ending)
    gap = [ending] if lines and lines[-1].strip() else []
    return b"".join([*lines, *gap, heading])
