r"""Names and sentences of any characters in Markdown, HTML and LaTeX: a reader sees what was meant, and nothing else.

Names of image sets are those of files, which may hold `$`, `_`, `|` or a line break.
"""

import re
from unicodedata import normalize

MARKDOWN = re.compile(r"[\\`*|<>$~&]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # a_b is no emphasis, _b_ is
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "ℓ∞": r"$\ell_\infty$",
    "ℓ₂": r"$\ell_2$",
    "∞": r"$\infty$",
    "n₀": "$n_0$",
    "σ": r"$\sigma$",
    "ε": r"$\varepsilon$",
    "α": r"$\alpha$",
    "†": r"$\dagger$",
    "¼": r"$\frac{1}{4}$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "–": "--",
}
LIGATURE = r"([-',])(?=\1)"  # two of these in a row would become another character
KEYS = re.compile("|".join([*map(re.escape, sorted(TEX, key=len, reverse=True)), LIGATURE]))
LATIN = "\u017f"  # the last letter that LaTeX's own fonts have


def printable(text: str) -> str:
    r"""The text in one line: what cannot be printed, such as a line break, as the escape of a Python string."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def markdown(text: str) -> str:
    """Plain text as Markdown and as HTML: what either would take for markup is written as an entity."""
    return MARKDOWN.sub(lambda found: ENTITIES.get(found[0], f"&#{ord(found[0])};"), printable(text))


def tex(text: str) -> str:
    """Plain text as LaTeX: special characters escaped, signs in math mode, other scripts than Latin as code points."""
    escaped = KEYS.sub(lambda found: TEX.get(found[0], f"{found[0]}{{}}"), printable(normalize("NFC", text)))
    return "".join(one if one <= LATIN else rf"\texttt{{U+{ord(one):04X}}}" for one in escaped)


def tex_cell(text: str) -> str:
    r"""A table's cell as LaTeX: a bracket or star at its start would be taken for an argument of the \\ before it."""
    return f"{{}}{tex(text)}" if text.startswith(("[", "*")) else tex(text)
