"""Put the table of results.md between the benchmark marks of the README."""

from __future__ import annotations

import sys
from pathlib import Path

__all__: list[str] = []

_HERE = Path(__file__).resolve().parent
_BEGIN, _END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"


def main() -> int:
    """Rewrite the README; say so where there is nothing to put in."""
    results, readme = _HERE / "results.md", _HERE.parent / "README.md"
    if not results.exists():
        print(f"{results} is not there; run benchmarks/overhead.py first", file=sys.stderr)
        return 1
    text = readme.read_text()
    head, rest = text.split(_BEGIN)
    _, tail = rest.split(_END)
    readme.write_text(f"{head}{_BEGIN}\n{results.read_text().strip()}\n{_END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
