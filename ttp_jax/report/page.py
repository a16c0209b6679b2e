"""The document, its text, tables and pictures."""

import base64
import hashlib
import io
import math
import os
import pathlib
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from ttp_jax import palette
from ttp_jax.files import write_atomically

HERE = pathlib.Path(__file__).parent
NUMBER = re.compile(  # -0.06, 48 %, 2.5 +- 1.2, 1e-4, -3.07 (-71%)
    r"""[-+\u2212]? [\d.,]+ (e[-+]?\d+)? (\s*%)?
    (\s* (±|\+-|\+/-) \s* [\d.,]+ (\s*%)?)? (\s* \([^()]*\))?""",
    re.VERBOSE | re.IGNORECASE,
)
DASH = "\u2013"


def page(
    title: str, sections: Sequence[str], *, subtitle: str = "", top: str = "", first: str = ""
) -> str:
    """Return a whole HTML document of sections; `save` writes it.

    Args:
      title: of the document, also its first heading.
      sections: pieces of HTML, in order.
      subtitle: below the heading.
      top: pieces of HTML between the heading and the subtitle: what must be read first.
      first: pieces of HTML, a viewer last, that share the first window with the heading: on a
        screen that is large enough the viewer takes the room that is left.
    """
    style, script = ((HERE / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    # The hash lets this script run and no other, so that a name can never become one.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    below = f"<p>{_inline(subtitle)}</p>" if subtitle else ""
    head = f"<header><h1>{escape(title)}</h1>{top}{below}</header>\n{first}"
    head = f'<div class="screen">{head}</div>' if first else head
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{_palette()}{style}</style>
</head>
<body>
<main>
{head}
{"".join(sections)}</main>
<script>{script}</script>
</body>
</html>
"""


def _palette() -> str:
    """Return the poses' colours as CSS variables, such as --before-left."""
    names = (
        f"--{pose}-{side}: {palette.hex_color(color)};"
        for pose, shades in palette.POSES.items()
        for side, color in shades.items()
    )
    return f":root {{ {' '.join(names)} }}\n"


def section(heading: str, *body: str) -> str:
    """Return a section of pieces of HTML, which other functions here return.

    Args:
      heading: text above it.
      body: pieces of HTML, one after the other.
    """
    return f"<section>\n<h2>{escape(heading)}</h2>\n{''.join(body)}</section>\n"


def paragraph(text: str) -> str:
    """Return text as a paragraph; what stands in backticks is shown as code."""
    return f"<p>{_inline(text)}</p>\n"


def code(text: str) -> str:
    """Return commands or other code as a block that wraps instead of scrolling."""
    return f"<pre><code>{escape(text)}</code></pre>\n"


def notice(texts: Sequence[str], kind: str, label: str) -> str:
    """Return a coloured box of sentences; "" where there are none.

    Args:
      texts: the sentences.
      kind: of the box: "warning", "note", "yes" or "no".
      label: what screen readers call it.
    """
    if not texts:
        return ""
    body = f"<p>{_inline(texts[0])}</p>"
    if len(texts) > 1:
        body = f"<ul>{''.join(f'<li>{_inline(text)}</li>' for text in texts)}</ul>"
    return f'<div class="notice {kind}" role="note" aria-label="{escape(label)}">{body}</div>\n'


def _inline(text: str) -> str:
    """Escape text; `backticks` become code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def save(path: str | os.PathLike, html: str) -> None:
    """Write a page; a crash leaves what was at `path`. Makes missing folders.

    Args:
      path: of the HTML file.
      html: what `page` returned.
    """
    # A file name that is not valid text must not cost the report.
    data = html.encode("utf-8", "replace")
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


# --- Tables --------------------------------------------------------------------------------------


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    caption: str = "",
    *,
    narrow: str = "scroll",
) -> str:
    """Return a table. Floats have four significant digits; None and NaN are a dash.

    Columns of numbers, also as text like "50.8 +- 2.0", are right aligned.

    Args:
      header: names of the columns.
      rows: of as many cells each; give text for a number in another form.
      caption: above the table.
      narrow: what becomes of it on a phone. "scroll": it scrolls sideways by itself; "stack": each
        row becomes a block of its own; "wrap": its text wraps.

    Raises:
      ValueError: a row has another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"got a row of {len(row)} cells, expected {len(header)}, as the header has: {row}."
            )
    texts = [[text_of(cell) for cell in row] for row in rows]
    columns = zip(*texts, strict=True) if texts else [[DASH]] * len(header)
    numeric = [all(map(_is_number, column)) for column in columns]
    body = "\n".join(
        _row("td", cells, numeric, header if narrow == "stack" else None) for cells in texts
    )
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    around = f'class="{narrow}"'
    if narrow == "scroll":
        around += f' tabindex="0" role="region" aria-label="{escape(caption or "table")}"'
    return (
        f'<figure>{above}<div {around}><table role="table">\n'
        f'<thead role="rowgroup">{_row("th", header, numeric)}</thead>\n'
        f'<tbody role="rowgroup">\n{body}\n</tbody></table></div></figure>\n'
    )


def _row(tag, texts, numeric, labels=None) -> str:
    """Return a row; its roles stay when the style makes it a block, and labels name its cells."""
    role = {"td": "cell", "th": "columnheader"}[tag]
    named = [f' data-label="{escape(label)}"' for label in labels] if labels else [""] * len(texts)
    cells = (
        f'<{tag} role="{role}"{" class=number" * right}{name}>{_inline(text)}</{tag}>'
        for text, right, name in zip(texts, numeric, named, strict=True)
    )
    return f'<tr role="row">{"".join(cells)}</tr>'


def text_of(value) -> str:
    """Return a value as a cell of a table shows it."""
    if hasattr(value, "item") and np.ndim(value) == 0:  # a number of numpy or jax
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if 9999.5 <= abs(value) < math.inf else f"{value:.4g}"
    return str(value)


def _is_number(text: str) -> bool:
    return text in ("", "-", DASH) or bool(NUMBER.fullmatch(text.strip()))


# --- Pictures ------------------------------------------------------------------------------------


def picture(image_or_path: np.ndarray | str | os.PathLike, alt: str, caption: str = "") -> str:
    """Return a picture, embedded: uint8 RGB [H, W, 3] (as PNG), or a PNG, JPEG or SVG file.

    Args:
      image_or_path: the pixels, or the file.
      alt: what screen readers say.
      caption: below the picture.
    """
    if isinstance(image_or_path, str | os.PathLike):
        data = pathlib.Path(image_or_path).read_bytes()
        source, size = _data_uri(data, _kind(data, image_or_path)), ""
    else:
        image = checked(image_or_path)
        source, size = encoded(image, "PNG", optimize=True), size_of(image)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}"{size}>{below}</figure>\n'


def _kind(data: bytes, path) -> str:
    """Return the media type of a picture file's content; its name may say another."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if b"<svg" in data[:4096]:
        return "image/svg+xml"
    raise ValueError(f"{path}: got another kind of file, expected PNG, JPEG or SVG; convert it.")


def checked(image) -> np.ndarray:
    """Return a picture as an array; raise ValueError unless it is uint8 RGB [H, W, 3]."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"got a picture {image.shape} of {image.dtype}, expected uint8 RGB [H, W, 3]."
        )
    return image


def encoded(image: np.ndarray, form: str, **options: Any) -> str:
    """Return a picture as a data URI in a format of Pillow.

    Args:
      image: uint8 RGB [H, W, 3].
      form: "PNG" or "JPEG".
      options: of Pillow's `save`, such as `quality`.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return _data_uri(buffer.getvalue(), f"image/{form.lower()}")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def size_of(image) -> str:
    """Return attributes that keep the picture's place until it is decoded."""
    return f' width="{image.shape[1]}" height="{image.shape[0]}"'
