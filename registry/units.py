"""Figures with their units, as every page writes them. Pure."""

_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def write_bytes(size: float) -> str:
    """Bytes in decimal units, three digits long: `63.3 kB`."""
    for unit, factor in _BYTES:
        # What rounds up to a thousand of the smaller unit is one of this.
        if size >= 0.9995 * factor:
            return f"{size / factor:#.3g}".rstrip(".") + f" {unit}"
    return f"{size:.0f} B"


def write_amount(value: float, unit: str) -> str:
    """A figure with one decimal at most; megabytes past a thousand become gigabytes."""
    if unit == "MB" and abs(value) >= 1000:
        value, unit = value / 1000, "GB"
    return f"{value:,.1f}".removesuffix(".0") + (f" {unit}" if unit else "")


def write_count(number: int, thing: str, things: str = "") -> str:
    """A number with what is counted: `1 device`, `1,234 devices`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
