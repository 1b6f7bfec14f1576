"""A JSON text read piece by piece: the elements of a list and the keys of an object, without holding all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

_DECODE = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"


class JsonText:
    """A cursor in a JSON text of which only the part around the cursor is in memory."""

    def __init__(self, file: IO[str], size: int) -> None:
        """
        Args:
            file: the text.
            size: how many characters are read at once.
        """
        self._file = file
        self._size = size
        self._text = ""
        self._at = 0
        self._ended = False
        self._line, self._counted = 1, 0  # the line at a place up to which newlines have been counted

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        """Step over the next character, which must be one of `wanted`."""
        if not (found := self.peek()) or found not in wanted:
            raise self.error(f"Expecting {' or '.join(wanted)}")
        self._at += 1

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        start = self._at
        while True:
            try:
                value, self._at = _DECODE(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._is_cut(error) or not self._more():
                    raise
            else:
                # A number may go on behind what has been read: `1` and `1e+` may be the beginning of `1e+16`.
                may_go_on = not isinstance(value, str | list | dict) and len(self._text) - self._at <= 2
                if not may_go_on or not self._more():
                    return value
                self._at = start

    def elements(self) -> Iterator[tuple[int, Any]]:
        """The elements of the list that begins here, each with the line it begins on."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            self.peek()
            line = self.line()
            yield line, self.value()
            self._forget()
            closed = self.peek() == "]"
            self.take(",]")
            if closed:
                return

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; after each, whoever asks takes its value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting property name enclosed in double quotes")
            key = self.value()
            self.take(":")
            yield key
            self._forget()
            closed = self.peek() == "}"
            self.take(",}")
            if closed:
                return

    def line(self) -> int:
        """Number of the line at the cursor, from 1."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def line_at(self, place: int) -> tuple[int, str]:
        """Number and text of the line at a place that an error names."""
        start = self._text.rfind("\n", 0, place) + 1
        end = self._text.find("\n", place)
        number = self._line + self._text.count("\n", self._counted, start)
        return number, self._text[start : end if end >= 0 else None]

    def error(self, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._text, self._at)

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may only be broken because the rest of it has not been read."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 16

    def _more(self) -> bool:
        """Read on; more at a time the longer the value, so that long ones are not tried too often."""
        piece = "" if self._ended else self._file.read(max(self._size, len(self._text) - self._at))
        self._ended = not piece
        self._text += piece
        return bool(piece)

    def _forget(self) -> None:
        if self._at > self._size:
            self.line()
            self._text = self._text[self._at :]
            self._at = self._counted = 0
