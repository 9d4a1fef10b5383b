"""Our bucket for Novu's rate limit: calls wait only for a known limit, need tokens, and tokens refill."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.novu.rate_limit import RateLimiter

POLICY = '150;w=5;burst=165;comment="token bucket";category="trigger";cost="single";serviceLevel="free"'


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def headers(remaining: int, policy: str = POLICY, **more: str) -> dict[str, str]:
    """Return the headers of an answer."""
    return {"ratelimit-remaining": str(remaining), "ratelimit-policy": policy, **more}


async def acquires(limiter: RateLimiter, price: int) -> bool:
    """Whether calls of this price may leave at this moment."""
    return await limiter.acquire(price, 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(clock)


async def test_calls_do_not_wait_before_novu_names_a_limit(limiter: RateLimiter):
    limiter.update_from(201, {})
    assert limiter.burst is None
    assert all([await acquires(limiter, 1000) for _ in range(100)])


async def test_tokens_are_novus_remaining_ones_and_refill_over_time(limiter: RateLimiter, clock: Clock):
    limiter.update_from(201, headers(100))
    assert limiter.burst == 165
    assert await acquires(limiter, 100)
    assert not await acquires(limiter, 1)
    clock.now += 0.5  # 30 a second
    assert await acquires(limiter, 15)
    assert not await acquires(limiter, 1)
    clock.now += 3600
    assert await acquires(limiter, 165)
    assert not await acquires(limiter, 1)


async def test_answer_that_overlaps_our_calls_adds_no_tokens(limiter: RateLimiter):
    limiter.update_from(201, headers(100))
    assert await acquires(limiter, 90)
    limiter.update_from(201, headers(99))  # Novu has not counted the ninety yet
    assert await acquires(limiter, 10)
    assert not await acquires(limiter, 1)


async def test_tokens_spent_by_others_are_subtracted(limiter: RateLimiter):
    limiter.update_from(201, headers(150))
    limiter.update_from(201, headers(3))
    assert await acquires(limiter, 3)
    assert not await acquires(limiter, 1)


async def test_call_above_the_burst_waits_for_a_full_bucket(limiter: RateLimiter, clock: Clock):
    limiter.update_from(201, headers(0))
    clock.now += 165 / 30 - 0.1
    assert not await acquires(limiter, 1000)
    clock.now += 0.1
    assert await acquires(limiter, 1000)


@pytest.mark.parametrize(("headers", "seconds"), [({"retry-after": "4"}, 4.0), ({}, 1.0), ({"retry-after": "x"}, 1.0)])
async def test_429_stops_all_calls_for_its_retry_after(
    limiter: RateLimiter, clock: Clock, headers: dict[str, str], seconds: float
):
    limiter.update_from(429, headers)
    clock.now += seconds - 0.1
    assert not await acquires(limiter, 1)
    clock.now += 0.2
    assert await acquires(limiter, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-remaining": "0"},
        headers(0, "nonsense"),
        headers(0, "150;w=0;burst=1"),
        {"ratelimit-policy": POLICY},
    ],
)
async def test_useless_headers_set_no_limit(limiter: RateLimiter, headers: dict[str, str]):
    limiter.update_from(201, headers)
    assert limiter.burst is None
    assert await acquires(limiter, 1000)


@pytest.mark.parametrize("policy", ["1;w=999999999", "1;w=999999999;burst=100", "1;w=3600;burst=999999999"])
async def test_f177_absurd_window_stops_no_call_for_more_than_a_minute(limiter: RateLimiter, clock: Clock, policy: str):
    limiter.update_from(201, headers(0, policy))
    assert not await acquires(limiter, 1)
    clock.now += 60
    assert await acquires(limiter, 1000)


@pytest.mark.parametrize(
    "absurd",
    [
        headers(5, f"{'9' * 5000};w=1"),
        headers(5, f"1;w={'9' * 5000}"),
        {"ratelimit-policy": POLICY, "ratelimit-remaining": "9" * 5000},
        {"ratelimit-policy": POLICY, "ratelimit-remaining": "-1"},
        headers(0, "0;w=1;burst=0"),
    ],
)
async def test_f177_number_of_thousands_of_digits_sets_no_limit(limiter: RateLimiter, absurd: dict[str, str]):
    limiter.update_from(201, absurd)
    assert limiter.burst is None
    assert await acquires(limiter, 1000)


@pytest.mark.parametrize("wait", ["9" * 5000, "1e400", "86400", "inf"])
async def test_f177_retry_after_of_a_day_is_ten_minutes(limiter: RateLimiter, clock: Clock, wait: str):
    limiter.update_from(429, {"retry-after": wait})
    clock.now += 599
    assert not await acquires(limiter, 1)
    clock.now += 2
    assert await acquires(limiter, 1)


async def test_f177_limit_is_forgotten_when_a_success_names_none(limiter: RateLimiter):
    limiter.update_from(201, headers(0))
    limiter.update_from(503, {})
    assert not await acquires(limiter, 1), "an error says nothing about the limit"
    limiter.update_from(201, {})
    assert limiter.burst is None
    assert await acquires(limiter, 1000)


async def test_bulk_call_is_not_overtaken_by_single_calls(limiter: RateLimiter, clock: Clock):
    limiter.update_from(201, headers(50))
    bulk = asyncio.create_task(limiter.acquire(100, 5))
    await asyncio.sleep(0.01)
    assert not await limiter.acquire(1, 0.05), "tokens for one are there, but it is not its turn"
    clock.now += 10
    assert await bulk


async def test_acquire_that_times_out_spends_no_tokens(limiter: RateLimiter):
    limiter.update_from(201, headers(5))
    assert not await limiter.acquire(6, 0.01)
    assert await acquires(limiter, 5)


@given(prices=st.lists(st.tuples(st.integers(1, 120), st.floats(0, 5)), max_size=60))
def test_calls_never_exceed_novus_limit_in_any_period(prices: list[tuple[int, float]]):
    async def play() -> None:
        clock = Clock()
        limiter = RateLimiter(clock)
        limiter.update_from(201, headers(165))
        spent = 0
        for price, pause in prices:
            clock.now += pause
            spent += price * await acquires(limiter, price)
            assert spent <= 165 + (clock.now - 100) * 30 + 1e-6

    asyncio.run(play())
