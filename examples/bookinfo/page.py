"""The HTML of productpage. Everything that comes from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping

from examples.bookinfo import service

STYLE = """
:root { --ink: #1c2430; --soft: #5d6b7c; --line: #dfe4ea; --card: #ffffff; --ground: #f3f5f8; --accent: #2456c4; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 Georgia, "Times New Roman", serif; }
header { background: var(--ink); color: #fff; }
header > div, main { max-width: 60rem; margin: 0 auto; padding: 1rem 1.5rem; }
header > div { display: flex; align-items: center; justify-content: space-between; gap: 1rem; }
header b { font-size: 1.25rem; letter-spacing: .02em; }
form { display: flex; gap: .5rem; margin: 0; font: 14px system-ui, sans-serif; align-items: center; }
input { border: 0; border-radius: .3rem; padding: .4rem .6rem; width: 9rem; }
button, .button { border: 0; border-radius: .3rem; padding: .4rem .9rem; background: var(--accent); color: #fff;
  text-decoration: none; font: 14px system-ui, sans-serif; cursor: pointer; }
h1 { font-size: 2.2rem; margin: 1.5rem 0 .25rem; }
.summary { color: var(--soft); max-width: 44rem; margin: 0 0 1.5rem; }
.columns { display: grid; grid-template-columns: minmax(16rem, 1fr) minmax(20rem, 1.6fr); gap: 1.5rem; }
@media (max-width: 44rem) { .columns { grid-template-columns: 1fr; } }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.25rem 1.5rem; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
blockquote { margin: 0 0 1.1rem; padding: 0 0 1.1rem; border-bottom: 1px solid var(--line); }
blockquote:last-of-type { border: 0; margin: 0; padding: 0; }
cite { display: block; color: var(--soft); font-style: normal; font-size: .9rem; margin-top: .25rem; }
.stars { font-size: 1.3rem; letter-spacing: .1em; } .stars.black { color: #111; } .stars.red { color: #d0202a; }
.trouble { background: #fdf1f0; border: 1px solid #efc4c0; border-radius: .4rem; padding: .6rem .9rem; color: #8c1d18;
  font: 15px system-ui, sans-serif; }
footer { color: var(--soft); font: 13px system-ui, sans-serif; margin-top: 1rem; }
"""

SUMMARY = (
    "The Comedy of Errors is one of William Shakespeare's early plays: two sets of twins, parted at birth, meet in one"
    " town on one day, and are taken for each other until nobody knows who owes what to whom."
)
MOST_STARS = 5


def render(*, title: str, user: str, details: service.Answer, reviews: service.Answer) -> str:
    """The whole page. A neighbour that failed leaves a notice in its place; the rest of the page stands."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} - BookInfo</title><link rel="stylesheet" href="/static/style.css"></head>
<body><header><div><b>BookInfo</b>{sign_in(user)}</div></header>
<main><h1>{html.escape(title)}</h1><p class="summary">{SUMMARY}</p>
<div class="columns"><section><h2>Book Details</h2>{render_details(details)}</section>
<section><h2>Book Reviews</h2>{render_reviews(reviews)}</section></div></main></body></html>
"""


def sign_in(user: str) -> str:
    """The form to sign in, or who is signed in."""
    if user:
        return f'<form action="/logout"><span>{html.escape(user)}</span><button>Sign out</button></form>'
    return (
        '<form method="post" action="/login"><input name="username" placeholder="User name" aria-label="User name">'
        "<button>Sign in</button></form>"
    )


def render_details(answer: service.Answer) -> str:
    """The book's details as a list."""
    if not answer.ok or not isinstance(answer.body, Mapping):
        return trouble("details")
    rows = (
        f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in answer.body.items() if k != "id"
    )
    return f"<dl>{''.join(rows)}</dl>"


def render_reviews(answer: service.Answer) -> str:
    """Reviews with their stars, and who served them."""
    if not answer.ok or not isinstance(answer.body, Mapping):
        return trouble("reviews")
    quotes = "".join(quote(review) for review in answer.body.get("reviews", ()))
    served = f"Reviews served by {answer.body.get('podname', 'unknown')} ({answer.body.get('version', 'unknown')})"
    return f"{quotes}<footer>{html.escape(served)}</footer>"


def quote(review: Mapping[str, object]) -> str:
    """One review."""
    text, who = html.escape(str(review.get("text", ""))), html.escape(str(review.get("reviewer", "")))
    return f"<blockquote>{text}{stars(review.get('rating'))}<cite>{who}</cite></blockquote>"


def stars(rating: object) -> str:
    """Stars in their colour, nothing where the version shows none, a notice where ratings failed."""
    if not isinstance(rating, Mapping):
        return ""
    if "error" in rating:
        return f'<p class="trouble">{html.escape(str(rating["error"]))}</p>'
    count = int(rating.get("stars", 0))
    colour = html.escape(str(rating.get("color", "black")))
    return f'<div class="stars {colour}" aria-label="{count} stars">{"★" * count}{"☆" * (MOST_STARS - count)}</div>'


def trouble(name: str) -> str:
    """The notice that stands where a neighbour's answer should."""
    return f'<p class="trouble">Error fetching product {name}! Sorry, product {name} are currently unavailable.</p>'
