"""`python -m bench`: measures Dispatcher, its floor and its peers in one run.

All share one PostgreSQL, one Temporal server and one fake Novu. Absolute numbers depend on the machine; only the ratio
of two contestants of the same run can be compared between machines. Exits with 1 if a target is missed or a block
failed. With --record, docs/bench.json becomes the record of this run, and README and the picture are made of it.

With --against REV it measures the working tree beside that commit of this repository, alternately and under the same
load. It prints each figure of both, the ratio of each pair, and the median of the ratios with their spread. It has no
targets. Against HEAD, the spread is the noise of the machine.
"""

import argparse
import asyncio
import json
import signal
import sys

from bench import against, publish, report, sizes, whole_run
from bench.parts import PAIRED, WHOLE
from bench.revisions import Refused


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--against", metavar="REV", help="measure the working tree beside this commit")
    parser.add_argument("--rounds", type=int, help=f"rounds of each part; with --against, pairs ({against.ROUNDS})")
    both = f"which of {','.join(WHOLE)}; with --against, of {','.join(PAIRED)} (all)"
    parser.add_argument("--only", metavar="PARTS", help=both)
    named = "another size, such as rows=500 or recipients=100,200,300; the record names all sizes"
    parser.add_argument("--size", action="append", default=[], metavar="NAME=NUMBERS", help=named)
    parser.add_argument("--no-base", action="store_true", help=f"without commit {whole_run.BASE}")
    parser.add_argument("--quick", action="store_true", help="a short run to test the benchmark itself")
    parser.add_argument("--json", action="store_true", help="print the record instead of the tables")
    parser.add_argument("--record", action="store_true", help="write docs/bench.json, its picture and README's figures")
    parsed = parser.parse_args()
    known = PAIRED if parsed.against else WHOLE
    asked = set(parsed.only.split(",")) if parsed.only else set(known)
    if asked - set(known):
        parser.error(f"--only knows {', '.join(known)} here, not {', '.join(sorted(asked - set(known)))}")
    if parsed.rounds is not None and parsed.rounds < 1:
        parser.error("--rounds is a number from 1 up")
    if parsed.record and (parsed.against or parsed.quick):
        parser.error("--record is of a run without --against and --quick")
    try:
        parsed.sizes = sizes.parse(parsed.size, sizes.QUICK if parsed.quick else sizes.Sizes())
    except ValueError as error:
        parser.error(f"--size: {error}")
    parsed.parts = [part for part in known if part in asked]
    return parsed


def say(words: str) -> None:
    """Print a line of progress on stderr, because stdout is for the result."""
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parsed = arguments()
    # A shell that starts us in the background has SIGINT ignored. SIGTERM alone would leave the worktrees behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return compare(parsed) if parsed.against else measure(parsed)
    except Refused as refused:
        say(f"error: {refused}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: no result")
        return 130


def measure(parsed: argparse.Namespace) -> int:
    """Measure all contestants, print and save the results."""
    results = report.Results(parsed.sizes, parsed.quick, whole_run.commit())
    rounds = parsed.rounds or (1 if parsed.quick else None)
    asyncio.run(whole_run.measure(results, parsed.parts, rounds, base=not (parsed.no_base or parsed.quick)))
    record = results.record()
    if parsed.json:
        print(json.dumps(record, indent=2))
    else:
        report.show(results)
    if parsed.quick:
        return 1 if results.failures else 0
    say(f"saved {report.save(record)}")
    if parsed.record:
        say(f"wrote {', '.join(publish.write(record))}")
    missed = any(verdict.met is False for verdict in results.verdicts())
    return 1 if missed or results.failures else 0


def compare(parsed: argparse.Namespace) -> int:
    """Measure the working tree beside another commit."""
    rounds = parsed.rounds or (1 if parsed.quick else against.ROUNDS)
    plan = against.Plan(parsed.parts, parsed.sizes, rounds)
    return against.main(parsed.against, plan, say, quick=parsed.quick, as_json=parsed.json)


if __name__ == "__main__":
    sys.exit(main())
