"""`python -m chaos`: exit 0 when every promise was kept, 1 when one was not, with what is needed to look into it."""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from pathlib import Path

from chaos.run import Plan, execute, say, summary


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
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
    verdict = asyncio.run(asyncio.wait_for(execute(plan, folder), limit))
    told = summary(plan, verdict)
    text = json.dumps(told, indent=2, default=str)
    (folder / "summary.json").write_text(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"chaos-{seed}.json").write_text(text)
    say(text)
    return tell(told, folder, sound=verdict.sound)


def tell(told: dict[str, object], folder: Path, *, sound: bool) -> int:
    """Say the verdict in a sentence; return the exit code."""
    broken = told["broken"]
    say(f"lost {told['lost']}, doubled {told['doubled']}, wrong {len(told['wrong'])}, broken invariants {broken or 0}; "  # pyright: ignore[reportArgumentType]
        f"{told['struck']} faults struck, seed {told['seed']}; logs in {folder}")  # fmt: skip
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
