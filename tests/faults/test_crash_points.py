"""A SIGKILL at each of twelve named points, one seed each; `make crashes` plays twenty."""

from pathlib import Path

import pytest

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.devstack.temporal import TemporalServer
from tests.faults.crash_rounds import play_all
from tests.faults.run_and_crash import POINTS


@pytest.mark.slow
async def test_f45_kill_at_each_of_twelve_points(
    postgres_server: PostgresServer, stack_template: str, temporal_server: TemporalServer, tmp_path: Path
):
    wanted = [(point, seed) for seed, point in enumerate(POINTS, start=1)]
    rounds = [each async for each in play_all(postgres_server, temporal_server, wanted, tmp_path)]
    assert {each.point for each in rounds} == set(POINTS)
    assert {f"{each.point} {each.seed}": each.wrong for each in rounds if each.wrong} == {}
    assert max(each.rescue for each in rounds) <= 70
