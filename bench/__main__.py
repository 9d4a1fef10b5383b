"""`python -m bench`: measures Dispatcher, its floor and its peers in one run.

All share one PostgreSQL, one Temporal server and one fake Novu. Absolute numbers depend on the machine; only the ratio
of two contestants of the same run can be compared between machines. Exits with 1 if a target is missed.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass

from bench import burst, flood, idle, latency, producers, recovery, report, stack
from bench.contestants import prepare_all
from bench.verdict import spread

PARTS = ("latency", "burst", "idle", "producers", "recovery", "flood")


@dataclass(frozen=True)
class Sizes:
    """The number of rows, rounds and seconds of each part."""

    latency_rows: int = 200
    blocks: int = 4
    rows: int = 10_000
    peer_rows: int = 2_000
    solo_rows: int = 1_000
    idle_seconds: float = 20
    producer_rounds: int = 6
    producer_seconds: float = 6
    recovery_bursts: int = 5
    recovery_rows: int = 4_000
    flood_rows: int = 800
    flood_rounds: int = 8
    flood_requests_a_second: int = 2_000
    flood_slow_clients: int = 500


QUICK = Sizes(
    latency_rows=4,
    blocks=1,
    rows=300,
    peer_rows=40,
    solo_rows=20,
    idle_seconds=0.2,
    producer_rounds=1,
    producer_seconds=1,
    recovery_bursts=1,
    recovery_rows=200,
    flood_rows=8,
    flood_rounds=1,
    flood_requests_a_second=200,
    flood_slow_clients=20,
)


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"which of {','.join(PARTS)}")
    parser.add_argument("--rows", type=int, default=Sizes.rows, help="rows of Dispatcher's burst")
    parser.add_argument("--latency-rows", type=int, default=Sizes.latency_rows, help="rows per contestant")
    parser.add_argument(
        "--quick", action="store_true", help="a short run to test the benchmark itself; its numbers mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the record instead of the tables")
    parsed = parser.parse_args()
    unknown = set(parsed.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    return parsed


async def run(parts: set[str], sizes: Sizes, *, quick: bool) -> report.Results:
    """Run `parts` and return their results."""
    results = report.Results(quick)
    async with stack.running() as running:
        await prepare_all(running)
        if "latency" in parts:
            seconds = await latency.measure(running, sizes.latency_rows, sizes.blocks, say)
            results.latency = {name: spread(found) for name, found in seconds.items()}
        if "burst" in parts:
            results.burst = await burst.measure(running, sizes.rows, sizes.peer_rows, sizes.solo_rows, say)
        if "idle" in parts:
            results.idle = await idle.measure(running, sizes.idle_seconds, say)
        if "producers" in parts:
            results.producers = await producers.measure(running, sizes.producer_rounds, sizes.producer_seconds, say)
        if "recovery" in parts:
            results.recovery = await recovery.measure(running, sizes.recovery_bursts, sizes.recovery_rows, say)
        if "flood" in parts:
            load = (sizes.flood_requests_a_second, sizes.flood_slow_clients)
            found = await flood.measure(running, sizes.flood_rows, sizes.flood_rounds, *load, say)
            results.flood = {name: spread(seconds) for name, seconds in found.seconds.items()}
            results.flood_requests = found.requests
    return results


def say(words: str) -> None:
    """Print a line of progress on stderr, because stdout is for the result."""
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark, print and save its results; return the exit code."""
    parsed = arguments()
    sizes = QUICK if parsed.quick else Sizes(latency_rows=parsed.latency_rows, rows=parsed.rows)
    results = asyncio.run(run(set(parsed.only.split(",")), sizes, quick=parsed.quick))
    record = results.record()
    if parsed.json:
        print(json.dumps(record, indent=2))
    else:
        report.show(results)
    if parsed.quick:
        return 0
    say(f"saved {report.save(record)}")
    return 0 if all(verdict.met for verdict in results.verdicts()) else 1


if __name__ == "__main__":
    sys.exit(main())
