"""What all pictures share: colours for light and dark pages, room for Chinese names, SVG without browser or network."""

import unicodedata
from collections.abc import Mapping, Sequence

import altair as alt
import vl_convert

# the reader's machine draws the letters, so the list has to hold a Chinese font of each system
FONT = (
    "system-ui, 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Sans SC', 'WenQuanYi Micro Hei', sans-serif"
)
INK, GRID = "#767676", "#80808040"  # told from a white page and from a dark one
COLOURS = ("#8a8a8a", "#3b82c4", "#c2683a", "#4a9a5b", "#9a62b5", "#b59a2f")
# the newest Vega-Lite that the converter holds may be another than the one that Altair writes
_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_NAME_CHARS = 20
_WIDE, _NARROW = 10.5, 6.5  # pixels of a letter at the size of labels


def data(rows: Sequence[Mapping[str, object]]) -> alt.InlineData:
    """Rows as they are."""
    return alt.InlineData(values=list(rows))


def short(name: str, chars: int = _NAME_CHARS) -> str:
    """A name that fits beside a picture: as wide as so many Chinese characters, or cut there."""
    kept = len(name)
    while _width(name[:kept]) > chars * _WIDE:
        kept -= 1
    return name if kept == len(name) else f"{name[:kept]}…"


def name_axis(names: Sequence[str]) -> alt.Axis:
    """Room for names in the reader's font: the one here may have no Chinese letters, and take them for narrow ones."""
    return alt.Axis(minExtent=max(map(_width, names), default=0) + _NARROW, labelLimit=0)


def colour(field: str, names: Sequence[str]) -> alt.Color:
    """A colour for each name, the first being the grey one where two are compared."""
    colours = COLOURS if len(names) > 1 else COLOURS[1:]
    scale = alt.Scale(domain=list(names), range=[colours[i % len(colours)] for i in range(len(names))])
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def to_svg(chart: alt.TopLevelMixin) -> str:
    """The picture, drawn here."""
    axis = {"labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": INK, "tickColor": INK}
    config = {
        "background": None,
        "font": FONT,
        "axis": {**axis, "titleFontWeight": "normal"},
        "legend": {"labelColor": INK, "titleColor": INK, "labelLimit": 320},
        "view": {"stroke": None},
    }
    spec = chart.to_dict() | {"config": config}
    return vl_convert.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[])


def _width(name: str) -> float:
    """Pixels."""
    return sum(_WIDE if unicodedata.east_asian_width(c) in "WF" else _NARROW for c in name)
