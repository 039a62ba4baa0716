"""Pieces that the project's HTML pages share: the page itself, its header, a section, a chart for light and dark."""

import html
from collections.abc import Iterable, Mapping

from talkinghead_jax.report import figures, pictures
from talkinghead_jax.report.style import STYLE


def document(title: str, body: str, style: str = '') -> str:
    """A whole page that needs no other file; `style` is CSS beside that of all pages."""
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
            f'<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body>{body}</body></html>\n')


def header(title: str, facts: Mapping[str, str], links: Iterable[tuple[str, str]]) -> str:
    """The page's title, what is to know about it, and links: pairs of a section's anchor and name."""
    nav = ''.join(f'<a href="#{anchor}">{html.escape(text)}</a>' for anchor, text in links)
    return f'<header><h1>{html.escape(title)}</h1>{definitions(facts)}<nav>{nav}</nav></header>'


def definitions(facts: Mapping[str, str]) -> str:
    """Names and values, in a line as long as there is room; to be used in a header."""
    items = ''.join(f'<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>'
                    for name, value in facts.items())
    return f'<dl>{items}</dl>'


def section(anchor: str, heading: str, *content: str) -> str:
    """A card under `heading`; `content` is HTML."""
    return f'<section id="{anchor}"><h2>{html.escape(heading)}</h2>{"".join(content)}</section>'


def chart(drawn: figures.Chart, alternative: str, caption: str, dpi: int = 150) -> str:
    """A chart, drawn once for light and once for dark pages; a narrow window scrolls it."""
    (light, share), (dark, _) = (figures.png(drawn, theme, dpi) for theme in (figures.LIGHT, figures.DARK))
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{pictures.data_url(dark)}">'
    return (f'<figure><div class="scroll"><picture>{source}'
            f'<img class="chart" style="width:{share:.0%};min-width:{700 * share:.0f}px" '
            f'src="{pictures.data_url(light)}" alt="{html.escape(alternative)}"></picture></div>'
            f'<figcaption>{html.escape(caption)}</figcaption></figure>')
