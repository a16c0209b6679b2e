"""The HTML document with its text, tables and pictures."""

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
    """Return a complete HTML document; `save` writes it to a file.

    Args:
      title: title of the document, also its first heading.
      sections: pieces of HTML, in order.
      subtitle: text below the heading.
      top: pieces of HTML between heading and subtitle, for what must be read first.
      first: pieces of HTML that share the first screen with the heading. The last one is a viewer,
        which fills the remaining height if the screen is large enough.
    """
    style, script = ((HERE / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    # The hash allows only this script to run, so a file or joint name can't inject another.
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
    """Return a section made of pieces of HTML.

    Args:
      heading: text above the section.
      body: pieces of HTML in order, as the other functions return them.
    """
    return f"<section>\n<h2>{escape(heading)}</h2>\n{''.join(body)}</section>\n"


def paragraph(text: str) -> str:
    """Return text as a paragraph; text in backticks is shown as code."""
    return f"<p>{_inline(text)}</p>\n"


def code(text: str) -> str:
    """Return commands or other code as a block that wraps instead of scrolling."""
    return f"<pre><code>{escape(text)}</code></pre>\n"


def notice(texts: Sequence[str], kind: str, label: str) -> str:
    """Return a coloured box of sentences; "" if there are none.

    Args:
      texts: the sentences.
      kind: "warning", "note", "yes" or "no", which sets the colour.
      label: name of the box for screen readers.
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
    """Write a page atomically, so that a crash keeps the earlier file. Create missing folders.

    Args:
      path: path of the HTML file.
      html: the document that `page` returned.
    """
    # File names may contain bytes that are not valid text, which must not make this fail.
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
    """Return a table. Floats have four significant digits; None and NaN are shown as a dash.

    Columns of numbers are right-aligned, and so is text that looks like "50.8 +- 2.0".

    Args:
      header: names of the columns.
      rows: the cells of each row. To format a number differently, pass it as text.
      caption: text above the table.
      narrow: how it fits on a phone. "scroll": the table scrolls sideways; "stack": each row
        becomes a block; "wrap": the text in the cells wraps.

    Raises:
      ValueError: a row and the header have different numbers of cells.
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
    """Return a row, with roles and labels that keep it readable when rows become blocks."""
    role = {"td": "cell", "th": "columnheader"}[tag]
    named = [f' data-label="{escape(label)}"' for label in labels] if labels else [""] * len(texts)
    cells = (
        f'<{tag} role="{role}"{" class=number" * right}{name}>{_inline(text)}</{tag}>'
        for text, right, name in zip(texts, numeric, named, strict=True)
    )
    return f'<tr role="row">{"".join(cells)}</tr>'


def text_of(value) -> str:
    """Return a value as the text of a table cell."""
    if hasattr(value, "item") and np.ndim(value) == 0:  # a scalar of numpy or jax
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
    """Return an embedded picture from uint8 RGB [H, W, 3] or from a PNG, JPEG or SVG file.

    Args:
      image_or_path: the pixels, which are embedded as PNG, or the file.
      alt: text for screen readers.
      caption: text below the picture.
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
    """Return the media type of a picture file by its content, because its name may be wrong."""
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
    """Return a picture as a data URI, encoded by Pillow.

    Args:
      image: uint8 RGB [H, W, 3].
      form: "PNG" or "JPEG".
      options: options of Pillow's `save`, such as `quality`.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return _data_uri(buffer.getvalue(), f"image/{form.lower()}")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def size_of(image) -> str:
    """Return width and height attributes, which reserve space until the picture is decoded."""
    return f' width="{image.shape[1]}" height="{image.shape[0]}"'
