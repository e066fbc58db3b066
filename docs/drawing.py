"""The drawing of docs/architecture.md, made from the imports in the code.

Every folder is a box. Its files stand in rows: each needs only files of the rows above it, so no
two files need each other. An arrow between two boxes says how many imports go that way; those of
commands/ are drawn as far as the next row only.
"""

import ast
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

PACKAGE = "star_tvr"
LINE, CHARACTER, PAD, WIDTH = 17, 7.3, 12, 560
STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}"
    ".room{fill:#f6f8fa;stroke:#57606a}.name{font-weight:bold;font-size:14px}"
    ".arrow{stroke:#0969da;stroke-width:1.6;fill:none;marker-end:url(#tip)}"
    ".count{fill:#0969da}.level{fill:#8c959f}"
)
PLACES = {
    "commands": (0.5, 0),
    "generator": (0, 1),
    "training": (1, 1),
    "schemas": (0.5, 2),
    "scenes": (0.5, 3),
}
"""Column and row of every box."""


def imports(root: Path) -> dict[str, set[str]]:
    """For every module below the package the modules of the package that it imports.

    Names are `folder.file`; files in a folder of a folder belong to `folder.folder`.
    """
    found: dict[str, set[str]] = {}
    for path in sorted((root / PACKAGE).glob("*/**/*.py")):
        module = _name(path.relative_to(root).with_suffix("").parts[1:])
        if module is None:
            continue
        needs = found.setdefault(module, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                parts = (node.module or "").split(".")[1:]
                names = [
                    _name((*parts, a.name)) if len(parts) == 1 else _name(parts) for a in node.names
                ]
                needs |= {name for name in names if name is not None and name != module}
    return {module: needs & found.keys() for module, needs in found.items()}


def _name(parts: Iterable[str]) -> str | None:
    kept = [p for p in parts if p != "__init__"][:2]
    return ".".join(kept) if len(kept) == 2 else None


def levels(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules in rows, each of which needs only modules of earlier rows.

    Raises:
        ValueError: some need each other; names them.
    """
    left, rows = dict(needs), []
    while left:
        row = sorted(m for m, wanted in left.items() if not wanted & left.keys())
        if not row:
            raise ValueError(f"these import each other: {', '.join(sorted(left))}")
        rows.append(row)
        left = {m: wanted for m, wanted in left.items() if m not in row}
    return rows


def draw(root: Path) -> str:
    """The drawing as SVG."""
    needs = imports(root)
    rooms = {
        room: [
            [m.partition(".")[2] for m in row]
            for row in levels({m: n for m, n in needs.items() if m.startswith(f"{room}.")})
        ]
        for room in PLACES
    }
    texts = {room: _wrapped(rows) for room, rows in rooms.items()}
    heights = {room: LINE * (len(lines) + 1) + 2 * PAD for room, lines in texts.items()}
    tops: dict[str, float] = {}
    y = 20.0
    for row in range(4):
        members = [r for r, (_, k) in PLACES.items() if k == row]
        tops |= dict.fromkeys(members, y)
        y += max(heights[r] for r in members) + 70
    boxes = {
        room: (20 + column * (WIDTH + 60), tops[room], WIDTH, heights[room])
        for room, (column, _) in PLACES.items()
    }
    counts: dict[tuple[str, str], int] = {}
    for module, wanted in needs.items():
        for other in wanted:
            pair = module.partition(".")[0], other.partition(".")[0]
            if pair[0] != pair[1] and pair[0] in boxes and pair[1] in boxes:
                counts[pair] = counts.get(pair, 0) + 1
    width, height = 2 * WIDTH + 100, y - 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
        f'width="{width}" height="{height:g}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#0969da"/></marker></defs>',
        f'<rect width="{width}" height="{height:g}" fill="#ffffff"/>',
    ]
    arrows = (_arrow(boxes, pair, count) for pair, count in sorted(counts.items()))
    parts += filter(None, arrows)
    for room, lines in texts.items():
        x, top, w, h = boxes[room]
        parts.append(f'<rect class="room" x="{x}" y="{top:g}" width="{w}" height="{h}" rx="6"/>')
        parts.append(f'<text class="name" x="{x + PAD}" y="{top + 22:g}">{room}/</text>')
        for k, (level, line) in enumerate(lines, start=2):
            place = top + PAD + k * LINE
            parts.append(f'<text class="level" x="{x + PAD}" y="{place:g}">{level}</text>')
            parts.append(f'<text x="{x + PAD + 26}" y="{place:g}">{escape(line)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _wrapped(rows: list[list[str]]) -> list[tuple[str, str]]:
    """(number of the row where it begins, text) of every line."""
    most = int((WIDTH - 2 * PAD - 26) / CHARACTER)
    lines: list[tuple[str, str]] = []
    for number, row in enumerate(rows, start=1):
        label, line = str(number), ""
        for word in row:
            if line and len(line) + 3 + len(word) > most:
                lines.append((label, line))
                label, line = "", ""
            line = f"{line} · {word}" if line else word
        lines.append((label, line))
    return lines


Box = tuple[float, float, float, float]


def _arrow(boxes: Mapping[str, Box], pair: tuple[str, str], count: int) -> str:
    """An arrow down to the next row, or past it along the edge; empty for what goes farther."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = boxes[pair[0]], boxes[pair[1]]
    rows = PLACES[pair[1]][1] - PLACES[pair[0]][1]
    if rows == 1:
        left, right = max(x0, x1), min(x0 + w0, x1 + w1)
        x = (left + right) / 2
        points = [(x, y0 + h0), (x, y1)]
    elif pair[0] != "commands":
        side = x0 < x1
        x, y = (x0 + 40 if side else x0 + w0 - 40), y1 + h1 / 2
        points = [(x, y0 + h0), (x, y), (x1 if side else x1 + w1, y)]
    else:
        return ""
    line = "L".join(f"{u:g} {v:g}" for u, v in points)
    label = f'<text class="count" x="{points[0][0] + 6:g}" y="{points[0][1] + 38:g}">{count}</text>'
    return f'<path class="arrow" d="M{line}"/>{label}'
