"""`python -m bench`: measures Dispatcher, its floor and its peers in one run.

All share one PostgreSQL, one Temporal server and one fake Novu. Absolute numbers depend on the machine; only the ratio
of two contestants of the same run can be compared between machines. Exits with 1 if a target is missed.

With --against REV it measures the working tree beside that commit of this repository, alternately and under the same
load. It prints each figure of both, the ratio of each pair, and the median of the ratios with their spread. It has no
targets. Against HEAD, the spread is the noise of the machine.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass

from bench import against, burst, flood, idle, latency, producers, recovery, report, stack, steady, tenants
from bench.contestants import DISPATCHER, prepare_all
from bench.verdict import spread

PARTS = ("latency", "steady", "tenants", "burst", "idle", "producers", "recovery", "flood")


@dataclass(frozen=True)
class Sizes:
    """The number of rows, rounds and seconds of each part."""

    latency_rows: int = 200
    blocks: int = 4
    steady_seconds: float = 8
    tenant_rows: int = 20_000
    rows: int = 10_000
    peer_rows: int = 2_000
    solo_rows: int = 1_000
    idle_seconds: float = 20
    producer_rounds: int = 8
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
    steady_seconds=0.5,
    tenant_rows=100,
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
    parser.add_argument("--against", metavar="REV", help="measure the working tree beside this commit")
    parser.add_argument("--rounds", type=int, help=f"pairs of each figure, with --against ({against.ROUNDS})")
    both = f"which of {','.join(PARTS)}; with --against, of {','.join(against.PARTS)} (all)"
    parser.add_argument("--only", metavar="PARTS", help=both)
    parser.add_argument("--rows", type=int, default=Sizes.rows, help="rows of Dispatcher's burst (%(default)s)")
    rows = f"rows per contestant ({Sizes.latency_rows}), with --against in each round ({against.Sizes.latency_rows})"
    parser.add_argument("--latency-rows", type=int, help=rows)
    parser.add_argument("--quick", action="store_true", help="a short run to test the benchmark itself")
    parser.add_argument("--json", action="store_true", help="print the record instead of the tables")
    parsed = parser.parse_args()
    known = tuple(against.PARTS if parsed.against else PARTS)
    asked = set(parsed.only.split(",")) if parsed.only else set(known)
    if asked - set(known):
        parser.error(f"--only knows {', '.join(known)} here, not {', '.join(sorted(asked - set(known)))}")
    if parsed.rounds is not None and (parsed.rounds < 1 or not parsed.against):
        parser.error("--rounds is a number from 1 up, and needs --against REV")
    parsed.parts = [part for part in known if part in asked]
    return parsed


async def run(parts: Collection[str], sizes: Sizes, *, quick: bool) -> report.Results:
    """Run `parts` and return their results."""
    results = report.Results(quick)
    async with stack.running() as running:
        await prepare_all(running)
        if "latency" in parts:
            seconds = await latency.measure(running, sizes.latency_rows, sizes.blocks, say)
            results.latency = {name: spread(found) for name, found in seconds.items()}
        if "steady" in parts:
            results.steady = await steady.measure(running, DISPATCHER, sizes.steady_seconds, say)
        if "tenants" in parts:
            results.tenants = await tenants.measure(running, DISPATCHER, sizes.tenant_rows, say)
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
    if parsed.against:
        return compare(parsed)
    sizes = QUICK if parsed.quick else Sizes(latency_rows=parsed.latency_rows or Sizes.latency_rows, rows=parsed.rows)
    results = asyncio.run(run(parsed.parts, sizes, quick=parsed.quick))
    record = results.record()
    if parsed.json:
        print(json.dumps(record, indent=2))
    else:
        report.show(results)
    if parsed.quick:
        return 0
    say(f"saved {report.save(record)}")
    return 0 if all(verdict.met for verdict in results.verdicts()) else 1


def compare(parsed: argparse.Namespace) -> int:
    """Measure the working tree beside another commit."""
    sizes = against.Sizes(latency_rows=parsed.latency_rows or against.Sizes.latency_rows, rows=parsed.rows)
    rounds = parsed.rounds or (1 if parsed.quick else against.ROUNDS)
    plan = against.Plan(parsed.parts, against.QUICK if parsed.quick else sizes, rounds)
    return against.main(parsed.against, plan, say, quick=parsed.quick, as_json=parsed.json)


if __name__ == "__main__":
    sys.exit(main())
