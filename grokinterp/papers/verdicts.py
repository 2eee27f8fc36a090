"""All papers at one glance: how many claims have each verdict, why the rest is not run, and a figure with a square for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from grokinterp.papers.claims import VERDICTS, Verdict
from grokinterp.papers.reproduction import Reproduction, markdown_table
from grokinterp.plots import BLUE, ORANGE, SKY, VERMILLION

COLOURS: dict[Verdict, str] = {"reproduced": BLUE, "differs": VERMILLION, "finding": SKY, "calibration": ORANGE, "not run": "#BBBBBB"}
ORDER: tuple[Verdict, ...] = ("reproduced", "differs", "not run", "finding", "calibration")
SIDE, GAP, A_ROW, LEFT = 11, 2, 50, 130  # pixels, and squares in a row


def overview(papers: Sequence[Reproduction]) -> str:
    """Two Markdown tables: the verdicts by paper, and what the claims that are not run need."""
    header = ["paper", "claims", "reproduced", "differs", "not run", "findings", "calibrations"]
    rows = [_counts(f"[{paper.paper}](results/{paper.paper}.md)", [paper]) for paper in papers]
    rows.append(_counts("all", papers))
    reasons = Counter(claim.missing for paper in papers for claim in paper.claims if paper.verdict(claim) == "not run")
    why = [[reason, str(count)] for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))]
    return f"{markdown_table(header, rows)}\n\n{markdown_table(['what the rest needs', 'claims'], why)}"


def _counts(name: str, papers: Iterable[Reproduction]) -> list[str]:
    tally: Counter[Verdict] = Counter()
    for paper in papers:
        tally.update(paper.tally)
    counts = [tally[verdict] for verdict in ORDER]
    return [name, str(sum(counts[:3])), *map(str, counts)]


def glance(papers: Sequence[Reproduction]) -> str:
    """An SVG with a square for each claim, finding and calibration of each paper, coloured by its verdict."""
    shapes, y = [], 10
    for paper in papers:
        verdicts = [verdict for verdict in ORDER for claim in paper.claims if paper.verdict(claim) == verdict]
        shapes.append(f'<text x="0" y="{y + SIDE - 1}">{paper.paper}</text>')
        for i, verdict in enumerate(verdicts):
            row, column = divmod(i, A_ROW)
            x, top = LEFT + column * (SIDE + GAP), y + row * (SIDE + GAP)
            shapes.append(f'<rect x="{x}" y="{top}" width="{SIDE}" height="{SIDE}" fill="{COLOURS[verdict]}"/>')
        y += (1 + (len(verdicts) - 1) // A_ROW) * (SIDE + GAP) + SIDE
    x = LEFT
    for verdict in ORDER:
        shapes.append(f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" fill="{COLOURS[verdict]}"/>')
        shapes.append(f'<text x="{x + SIDE + 5}" y="{y + SIDE - 1}">{verdict}</text>')
        x += 8 * len(verdict) + 45
    width, height = LEFT + A_ROW * (SIDE + GAP), y + 2 * SIDE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
    label = "; ".join(f"{paper.paper}: {', '.join(f'{paper.tally[verdict]} {verdict}' for verdict in VERDICTS)}" for paper in papers)
    style = 'font-family="sans-serif" font-size="13" fill="#777777"'
    return "\n".join([f'{head} aria-label="Verdicts. {label}" {style}>', *shapes, "</svg>"]) + "\n"
