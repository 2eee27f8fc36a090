"""The code of a Markdown page: its fenced blocks, in order, and what the page says that they print.

- A ``python`` block runs in the page's one namespace, a ``console`` block line by line where a line begins with ``$``.
- What is printed stands in a ``text`` block right after a ``python`` block, and below the command in a ``console`` block;
  ``…`` stands for anything. Where nothing stands there, anything may be printed.
- ``title="Not run here: …"`` on the opening line says, for the reader too, that a block needs something that a test has not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*)(?P<rest>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r'title="Not run here: ([^"]+)"')
RUNNABLE = ("python", "console", "bash")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        line: of the page, from 1.
        language: python, console or bash.
        body: the code.
        reason: why it is not run, or None.
        printed: what the page says that a python block prints, or None where it does not say.
    """

    line: int
    language: str
    body: str
    reason: str | None
    printed: str | None


def blocks_of(page: Path) -> list[Block]:
    """A page's code, in order."""
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    blocks = []
    for match, following in zip(found, [*found[1:], None]):
        if match["language"] not in RUNNABLE:
            continue
        reason = _NOT_RUN.search(match["rest"])
        says = following is not None and following["language"] == "text" and not text[match.end() : following.start()].strip()
        blocks.append(
            Block(
                line=text[: match.start()].count("\n") + 1,
                language=match["language"],
                body=match["body"],
                reason=reason[1] if reason else None,
                printed=following["body"] if says and following else None,
            )
        )
    return blocks


def commands_of(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with what the page says that it prints ("" where it does not say)."""
    commands: list[tuple[str, list[str]]] = []
    for line in block.body.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:].partition("  # ")[0].strip(), []))
        else:
            commands[-1][1].append(line)
    return [(command, "\n".join(printed)) for command, printed in commands]


def matches(printed: str, said: str) -> bool:
    """Whether something printed is what a page says, ``…`` standing for anything; spaces at the ends of lines do not count."""
    pattern = ".*?".join(re.escape(part) for part in _tidy(said).split("…"))
    return re.fullmatch(pattern, _tidy(printed), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
