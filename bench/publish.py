"""Makes a record the one of this repository: docs/bench.json, its picture and README's figures.

`python -m bench.publish` judges the committed record again, and makes picture and README again.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

from bench import curve, readme
from bench.contestants import ROOT
from bench.figures import read
from bench.sizes import of_record
from bench.targets import judge

RECORD, README = ROOT / "docs" / "bench.json", ROOT / "README.md"


def write(record: Mapping[str, Any]) -> list[str]:
    """Write the record and what is made of it; return the names of the files."""
    verdicts = judge(read(record), of_record(record))
    record = {**record, "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts]}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    README.write_text(readme.replaced(README.read_text(), record))
    picture = curve.picture(record)
    place = ROOT / readme.CURVE
    if picture is None:
        place.unlink(missing_ok=True)
        return [RECORD.name, README.name]
    place.write_text(picture)
    return [RECORD.name, README.name, place.name]


if __name__ == "__main__":
    print(f"wrote {', '.join(write(json.loads(RECORD.read_text())))}", file=sys.stderr)
