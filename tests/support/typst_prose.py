"""What a reader gets to see of a typst source: its prose, without code and mathematics, which are given apart."""

import re

STATEMENT = re.compile(r"(let|set|show|import|include|if|for|while|context)\b")
NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


class Prose:
    """The parts of a source: prose, and mathematics; numbers with a decimal point and no unit in code are prose too."""

    def __init__(self, source):
        self._source, self._place = re.sub(r"(?<!:)//.*", "", source), 0
        self.prose, self.mathematics = "", ""
        self._markup(end=None)

    def _markup(self, end):
        while self._place < len(self._source):
            char = self._source[self._place]
            self._place += 1
            if char == end:
                return
            if char == "\\":
                self._place += 1
            elif char == "[":
                self._markup("]")
            elif char == "$":
                self._maths()
            elif char == "`":
                self._place = self._source.index("`", self._place) + 1
            elif char == "#":
                self._embedded()
            elif char in "@<" and (found := re.compile(r"[\w-]+>?").match(self._source, self._place)):
                self._place = found.end()  # a reference or a label
            else:
                self.prose += char

    def _embedded(self):
        if STATEMENT.match(self._source, self._place):
            self._code(end="\n")
            return
        if found := NAME.match(self._source, self._place):
            self._place = found.end()
        while self._place < len(self._source) and self._source[self._place] in "([.{":
            char = self._source[self._place]
            if char == ".":
                found = re.compile(r"\.[\w-]+(?=[(\[.])").match(self._source, self._place)
                if not found:
                    return
                self._place = found.end()
                continue
            self._place += 1
            if char == "[":
                self._markup("]")
            else:
                self._code({"(": ")", "{": "}"}[char])
        self.prose += " "

    def _code(self, end):
        while self._place < len(self._source):
            char = self._source[self._place]
            if found := re.compile(r"\d+\.\d+(?!pt|em|cm|fr|\d)").match(self._source, self._place):
                self.prose += f" {found[0]} "
                self._place = found.end()
                continue
            self._place += 1
            if char == end:
                return
            if char == '"':
                close = self._source.index('"', self._place)
                text = self._source[self._place : close]
                self.prose += f" {text} " if " " in text else ""
                self._place = close + 1
            elif char == "[":
                self._markup("]")
            elif char == "$":
                self._maths()
            elif char in "({":
                self._code({"(": ")", "{": "}"}[char])

    def _maths(self):
        close = self._source.index("$", self._place)
        self.mathematics += self._source[self._place : close] + " "
        self._place = close + 1
