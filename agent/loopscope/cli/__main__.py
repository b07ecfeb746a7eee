"""`python -m loopscope.cli`, for where the console script is not on the path."""

from __future__ import annotations

from . import main

raise SystemExit(main())
