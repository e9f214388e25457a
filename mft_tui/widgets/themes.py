"""The four themes, and the colours of a chart's curves in each.

Dark and light are calm: one accent, and status colours only where something has a status. The
colour-blind safe one uses Okabe and Ito's palette, where good and bad are blue and orange instead
of green and red. The ANSI one uses the sixteen colours that the terminal's owner chose.
"""

from textual.theme import Theme

DARK = Theme(
    name="dark",
    primary="#7aa2d6",
    secondary="#8a94a6",
    accent="#c8a46a",
    success="#86b58a",
    warning="#d6a95c",
    error="#d47b78",
    foreground="#d5d9e0",
    background="#14171c",
    surface="#171b21",
    panel="#20262e",
    dark=True,
    variables={"footer-key-foreground": "#c8a46a", "border-blurred": "#2d3540"},
)

LIGHT = Theme(
    name="light",
    primary="#2f6198",
    secondary="#5c6675",
    accent="#8a5a12",
    success="#2f7238",
    warning="#8f5c00",
    error="#a8322f",
    foreground="#22262c",
    background="#fbfaf7",
    surface="#f6f4ef",
    panel="#e9e6de",
    dark=False,
    variables={"footer-key-foreground": "#8a5a12", "border-blurred": "#d0ccc2"},
)

SAFE = Theme(
    name="colour-blind",
    primary="#56b4e9",
    secondary="#999999",
    accent="#f0e442",
    success="#56b4e9",
    warning="#e69f00",
    error="#d55e00",
    foreground="#dddddd",
    background="#111418",
    surface="#151920",
    panel="#1f252e",
    dark=True,
    variables={"footer-key-foreground": "#f0e442", "border-blurred": "#2d3540"},
)

ANSI = Theme(
    name="ansi",
    primary="ansi_blue",
    secondary="ansi_cyan",
    accent="ansi_yellow",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    ansi=True,
    variables={
        # Textual's own styles name these two where a theme is ANSI, and give them no value.
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "block-cursor-background": "ansi_blue",
        "block-cursor-foreground": "ansi_bright_white",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "ansi_black",
        "block-cursor-blurred-foreground": "ansi_white",
        "block-cursor-blurred-text-style": "none",
        "block-hover-background": "ansi_black",
        "border": "ansi_blue",
        "border-blurred": "ansi_bright_black",
        "footer-key-foreground": "ansi_yellow",
        "footer-background": "ansi_default",
        "footer-foreground": "ansi_default",
        "footer-description-foreground": "ansi_default",
        "footer-description-background": "ansi_default",
        "footer-key-background": "ansi_default",
        "footer-item-background": "ansi_default",
        "input-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-cursor-text-style": "none",
        "input-selection-background": "ansi_blue",
        "screen-selection-background": "ansi_blue",
        "screen-selection-foreground": "ansi_white",
        "scrollbar": "ansi_bright_black",
        "scrollbar-hover": "ansi_white",
        "scrollbar-active": "ansi_blue",
        "scrollbar-background": "ansi_default",
        "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "scrollbar-corner-color": "ansi_default",
    },
)

THEMES = (DARK, LIGHT, SAFE, ANSI)

CHART_COLOURS = {
    "dark": (
        "#7aa2d6", "#d6a95c", "#86b58a", "#c58fc0", "#6fb8b8", "#d47b78", "#b8b06a", "#9a94d0",
    ),
    "light": (
        "#2f6198", "#8f5c00", "#2f7238", "#8a3f83", "#1f7373", "#a8322f", "#6b6410", "#574fa0",
    ),
    "colour-blind": (
        "#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#999999",
    ),
    "ansi": (
        "blue", "yellow", "green", "magenta", "cyan", "red", "bright_blue", "bright_magenta",
    ),
}  # fmt: skip
"""Colours of curves by theme, as Rich takes them; the first is of the curve that lies on top."""
