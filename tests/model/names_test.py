#!/usr/bin/env python3
"""Checks that docs/memory_model.md names exactly the seeded bugs of model_lane.

usage: names_test.py MODEL_LANE DOCUMENT
"""

import re
import subprocess
import sys


def main() -> int:
    program, document = sys.argv[1:]
    seeded = set(subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split())
    with open(document, encoding="utf-8") as text:
        rows = [line for line in text if re.match(r"\| [A-Z][0-9] ", line)]
    named = set(re.findall(r"`([A-Za-z0-9]+(?:-[a-z]+)+)`", " ".join(rows)))
    for name in sorted(seeded - named):
        print(f"seeded, but not in the table of edges: {name}")
    for name in sorted(named - seeded):
        print(f"in the table of edges, but not seeded: {name}")
    print(f"{len(seeded)} seeded bugs, {len(named)} names")
    return 0 if seeded and seeded == named else 1


if __name__ == "__main__":
    sys.exit(main())
