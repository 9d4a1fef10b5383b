"""Novu's rate limit as our own bucket sees it: nobody waits untold, nobody goes without tokens, and they come back."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.novu.rate_limit import RateLimiter

POLICY = '150;w=5;burst=165;comment="token bucket";category="trigger";cost="single";serviceLevel="free"'


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(remaining: int, policy: str = POLICY, **more: str) -> dict[str, str]:
    """Return the headers of an answer."""
    return {"ratelimit-remaining": str(remaining), "ratelimit-policy": policy, **more}


async def goes(pace: RateLimiter, price: int) -> bool:
    """Whether calls of this price may leave at this moment."""
    return await pace.acquire(price, 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> RateLimiter:
    return RateLimiter(clock)


async def test_nobody_waits_before_novu_named_a_limit(pace: RateLimiter):
    pace.update_from(201, {})
    assert pace.burst is None
    assert all([await goes(pace, 1000) for _ in range(100)])


async def test_what_novu_has_left_is_what_may_go_and_it_comes_back_with_time(pace: RateLimiter, clock: Clock):
    pace.update_from(201, told(100))
    assert pace.burst == 165
    assert await goes(pace, 100)
    assert not await goes(pace, 1)
    clock.now += 0.5  # 30 a second
    assert await goes(pace, 15)
    assert not await goes(pace, 1)
    clock.now += 3600
    assert await goes(pace, 165)
    assert not await goes(pace, 1)


async def test_an_answer_that_overlaps_with_our_own_calls_does_not_lend_tokens(pace: RateLimiter):
    pace.update_from(201, told(100))
    assert await goes(pace, 90)
    pace.update_from(201, told(99))  # Novu has not counted the ninety yet
    assert await goes(pace, 10)
    assert not await goes(pace, 1)


async def test_what_others_spend_is_not_there_for_us(pace: RateLimiter):
    pace.update_from(201, told(150))
    pace.update_from(201, told(3))
    assert await goes(pace, 3)
    assert not await goes(pace, 1)


async def test_more_than_the_bucket_holds_goes_when_it_is_full(pace: RateLimiter, clock: Clock):
    pace.update_from(201, told(0))
    clock.now += 165 / 30 - 0.1
    assert not await goes(pace, 1000)
    clock.now += 0.1
    assert await goes(pace, 1000)


@pytest.mark.parametrize(("headers", "seconds"), [({"retry-after": "4"}, 4.0), ({}, 1.0), ({"retry-after": "x"}, 1.0)])
async def test_a_refusal_stops_everybody_for_as_long_as_it_says(
    pace: RateLimiter, clock: Clock, headers: dict[str, str], seconds: float
):
    pace.update_from(429, headers)
    clock.now += seconds - 0.1
    assert not await goes(pace, 1)
    clock.now += 0.2
    assert await goes(pace, 1)


@pytest.mark.parametrize(
    "headers",
    [{}, {"ratelimit-remaining": "0"}, told(0, "nonsense"), told(0, "150;w=0;burst=1"), {"ratelimit-policy": POLICY}],
)
async def test_headers_that_tell_nothing_limit_nothing(pace: RateLimiter, headers: dict[str, str]):
    pace.update_from(201, headers)
    assert pace.burst is None
    assert await goes(pace, 1000)


async def test_a_bulk_call_is_not_overtaken(pace: RateLimiter, clock: Clock):
    pace.update_from(201, told(50))
    bulk = asyncio.create_task(pace.acquire(100, 5))
    await asyncio.sleep(0.01)
    assert not await pace.acquire(1, 0.05), "tokens for one are there, but it is not its turn"
    clock.now += 10
    assert await bulk


async def test_who_has_no_patience_spends_nothing(pace: RateLimiter):
    pace.update_from(201, told(5))
    assert not await pace.acquire(6, 0.01)
    assert await goes(pace, 5)


@given(prices=st.lists(st.tuples(st.integers(1, 120), st.floats(0, 5)), max_size=60))
def test_in_no_stretch_of_time_goes_more_than_novu_allows(prices: list[tuple[int, float]]):
    async def play() -> None:
        clock = Clock()
        pace = RateLimiter(clock)
        pace.update_from(201, told(165))
        spent = 0
        for price, pause in prices:
            clock.now += pause
            spent += price * await goes(pace, price)
            assert spent <= 165 + (clock.now - 100) * 30 + 1e-6

    asyncio.run(play())
