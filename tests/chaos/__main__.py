"""`python -m tests.chaos`: exit 0 when every promise was kept, 1 when one was not.

Then it says what is needed to look into it.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.run import Plan, execute, print_line, summary


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default="", help="repeat a run's rows, faults and times")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--faults", type=int, default=110)
    parser.add_argument("--dispatchers", type=int, default=3)
    parser.add_argument("--pace", default="3-6", help="seconds between two faults, from-to")
    parser.add_argument("--results", type=Path, help="a folder for summary.json and, after a violation, the logs")
    return parser.parse_args()


def main() -> int:
    """Run once."""
    options = arguments()
    shortest, longest = (float(part) for part in options.pace.split("-"))
    seed = options.seed or secrets.token_hex(4)
    plan = Plan(seed, options.rows, options.faults, options.dispatchers, (shortest, longest))
    folder = Path(tempfile.mkdtemp(prefix="dispatcher-chaos-"))
    folder.chmod(0o755)
    limit = 2 * plan.faults * longest + 600
    try:
        result = asyncio.run(asyncio.wait_for(execute(plan, folder), limit))
    except TimeoutError:
        print_line(f"the run did not end within {limit:.0f} s, seed {seed}; logs in {folder}")
        return 1
    found = summary(plan, result)
    text = json.dumps(found, indent=2, default=str)
    (folder / "summary.json").write_text(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"chaos-{seed}.json").write_text(text)
    print_line(text)
    print_line(sentence(found))
    if result.ok:
        shutil.rmtree(folder)
        return 0
    print_line(f"logs, servers' data and the end's dump in {folder}")
    return 1


def sentence(found: dict[str, Any]) -> str:
    """Return the result in one line."""
    return (
        f"lost {found['lost']}, doubled {found['doubled']}, wrong {len(found['wrong'])},"
        f" broken invariants {len(found['violations'])}, other findings {len(found['findings'])};"
        f" {found['struck']} faults struck, seed {found['seed']}"
    )


if __name__ == "__main__":
    sys.exit(main())
