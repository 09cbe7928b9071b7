"""Numbers for people."""


def size(count: float) -> str:
    """Bytes in the greatest unit of which there is at least one."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
