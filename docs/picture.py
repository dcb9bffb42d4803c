"""Draw the picture of the README, light and dark: `python docs/picture.py` writes docs/assets/graph-*.svg."""

from html import escape
from pathlib import Path

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#8c959f",
    "clip": "#0072b2",
    "text": "#b85c00",
    "box": "#f3f5f7",
}
DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "line": "#6e7681",
    "clip": "#56b4e9",
    "text": "#f0a35e",
    "box": "#161b22",
}
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
SANS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
CLIPS = [(70 + 92 * i, 190) for i in range(5)]
TEXTS = [(92, "Waltz jump"), (254, "back spin"), (416, "spiral")]
LINES = (
    ("guide = ActionGraphGuidance(256, texts.visual)", 40),
    ('attach(model, guide, at="transformer.encoder")', 68),
)


def draw(colours: dict[str, str]) -> str:
    """The picture in one set of colours."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 300" role="img" aria-labelledby="title">',
        "<title id='title'>Left: in the action graph every clip receives from every other clip and every action text. "
        "Right: two lines attach it to a model, behind its encoder.</title>",
        f'<rect width="980" height="300" rx="10" fill="{colours["paper"]}"/>',
        _arrow_heads(colours),
    ]
    parts += [_edge(x, 92, cx, cy - 24, colours["text"]) for x, _ in TEXTS for cx, cy in CLIPS]
    parts += [_arc(CLIPS[i], CLIPS[j], colours["clip"]) for i in range(5) for j in range(i + 1, 5)]
    parts += [_text_node(x, words, colours) for x, words in TEXTS]
    parts += [_clip_node(x, y, i + 1, colours) for i, (x, y) in enumerate(CLIPS)]
    parts += [
        _words(254, 26, "action texts", colours["soft"], 13),
        _words(254, 290, "clips of one performance", colours["soft"], 13),
    ]
    parts += _model(colours)
    return "\n".join([*parts, "</svg>", ""])


def _arrow_heads(colours: dict[str, str]) -> str:
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{colours[name]}"/></marker>'
        for name in ("clip", "text", "line")
    )
    return f"<defs>{heads}</defs>"


def _edge(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.1" opacity="0.55" '
        'marker-end="url(#text)"/>'
    )


def _arc(one: tuple[int, int], other: tuple[int, int], colour: str) -> str:
    (x1, y), (x2, _) = one, other
    depth = y + 20 + 0.26 * (x2 - x1)
    return (
        f'<path d="M{x1} {y + 22}Q{(x1 + x2) / 2} {depth + 14} {x2} {y + 22}" fill="none" stroke="{colour}" '
        'stroke-width="1.1" opacity="0.5"/>'
    )


def _text_node(x: float, words: str, colours: dict[str, str]) -> str:
    return (
        f'<rect x="{x - 70}" y="40" width="140" height="52" rx="8" fill="{colours["box"]}" '
        f'stroke="{colours["text"]}" stroke-width="1.6"/>'
        + _words(x, 62, "a video of a", colours["soft"], 12)
        + _words(x, 80, words, colours["ink"], 14)
    )


def _clip_node(x: float, y: float, number: int, colours: dict[str, str]) -> str:
    return (
        f'<circle cx="{x}" cy="{y}" r="22" fill="{colours["box"]}" stroke="{colours["clip"]}" stroke-width="2"/>'
        + _words(x, y + 5, f"clip {number}", colours["ink"], 12)
    )


def _words(x: float, y: float, words: str, colour: str, size: int, anchor: str = "middle", family: str = SANS) -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" font-family="{family}" font-size="{size}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def _model(colours: dict[str, str]) -> list[str]:
    """The two lines, and the model with the guide behind its encoder."""
    parts = [
        f'<rect x="520" y="22" width="436" height="72" rx="8" fill="{colours["box"]}" stroke="{colours["line"]}"/>'
    ]
    parts += [_words(536, y + 12, line, colours["ink"], 14, "start", MONO) for line, y in LINES]
    boxes = [(552, "encoder", "line"), (694, "+", "line"), (786, "head", "line")]
    for x, name, colour in boxes:
        width = 44 if name == "+" else 96
        parts += [
            f'<rect x="{x}" y="146" width="{width}" height="44" rx="{22 if name == "+" else 8}" '
            f'fill="{colours["box"]}" stroke="{colours[colour]}" stroke-width="1.6"/>',
            _words(x + width / 2, 173, name, colours["ink"], 15),
        ]
    arrow = f'stroke="{colours["line"]}" stroke-width="1.6" fill="none" marker-end="url(#line)"'
    parts += [f'<path d="M{a} 168H{b}" {arrow}/>' for a, b in ((520, 550), (648, 692), (738, 784), (882, 908))]
    parts += [_words(912, 173, "score", colours["ink"], 15, "start")]
    parts += [
        f'<rect x="632" y="224" width="168" height="44" rx="8" fill="{colours["box"]}" stroke="{colours["text"]}" '
        'stroke-width="2"/>',
        _words(716, 251, "ActionGraphGuidance", colours["ink"], 14),
        f'<path d="M668 168V222" {arrow}/>',
        f'<path d="M716 224V192" {arrow}/>',
        _words(716, 288, "lives in your encoder, adds to its features", colours["soft"], 13),
    ]
    return parts


if __name__ == "__main__":
    folder = Path(__file__).parent / "assets"
    for name, colours in (("light", LIGHT), ("dark", DARK)):
        (folder / f"graph-{name}.svg").write_text(draw(colours), encoding="utf-8")
