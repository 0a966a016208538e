"""Draw bars as SVG, legible on light and dark, without scripts or font files."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH = 760
LABELS = 250  # pixels to the left of the bars
NUMBERS = 70  # pixels to their right
BAR, GAP = 18, 6
HEAD = 44  # pixels of each panel
MARGIN = 16

STYLE = """\
<style>
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 14px; }
  .page { fill: #ffffff; }
  .ours { fill: #0969da; }
  .other { fill: #a8b1bb; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .page { fill: #0d1117; }
    .ours { fill: #4493f8; }
    .other { fill: #59636e; }
  }
</style>"""


@dataclass(frozen=True)
class Bar:
    """A value with its label."""

    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars of one unit under a title, with `digits` after the point."""

    title: str
    bars: list[Bar]
    digits: int

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return HEAD + len(self.bars) * (BAR + GAP)

    def draw(self, top: int) -> list[str]:
        """Yield the elements, from a height on."""
        title = f'<text class="title" x="{MARGIN}" y="{top + 28}">{escape(self.title)}</text>'
        longest = max((bar.value for bar in self.bars), default=0) or 1
        rows = [
            self.row(bar, top + HEAD + number * (BAR + GAP), bar.value / longest)
            for number, bar in enumerate(self.bars)
        ]
        return [title, *rows]

    def row(self, bar: Bar, top: int, part: float) -> str:
        """Yield one bar with its label and its number."""
        width = round(max(part * (WIDTH - LABELS - NUMBERS), 1), 1)
        kind, line = "ours" if bar.ours else "other", top + 14
        return (
            f'<text x="{LABELS - 10}" y="{line}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{width}" height="{BAR}" rx="2"/>'
            f'<text x="{LABELS + width + 8}" y="{line}">{bar.value:,.{self.digits}f}</text>'
        )


def draw(panels: list[Panel]) -> str:
    """Return an SVG document with the panels below one another."""
    elements, top = [], 0
    for panel in panels:
        elements += panel.draw(top)
        top += panel.height
    height = top + MARGIN
    said = escape("; ".join(panel.title for panel in panels))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    root = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{said}">'
    page = f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>'
    return "\n".join([root, STYLE, page, *elements, "</svg>\n"])
