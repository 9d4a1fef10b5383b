"""What a recipient becomes by an outcome: an earlier call that may have had its effect is never forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.classification import apply
from dispatcher.models.call_result import Outcome, Verdict
from dispatcher.models.notification import State
from tests.decisions.sample_rows import STATES, recipient


class TestApply:
    @given(state=STATES, replayed=st.booleans())
    def test_acceptance_settles_whatever_was_before(self, *, state: State, replayed: bool):
        person = recipient(state=state, error="earlier", epoch=2)
        apply(person, Outcome(Verdict.ACCEPTED, "processed", replayed=replayed))
        assert (person.state, person.outcome, person.error, person.epoch) == (State.ACCEPTED, "processed", None, 2)

    def test_a_refusal_settles(self):
        person = recipient()
        apply(person, Outcome(Verdict.REFUSED, "http_400", "no", new_epoch=True))
        assert (person.state, person.error, person.epoch, person.settled) == (State.REFUSED, "no", 1, True)

    @pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.HELD, Verdict.SYSTEMIC])
    def test_a_call_without_effect_leaves_a_fresh_recipient_planned(self, verdict: Verdict):
        person = recipient()
        apply(person, Outcome(verdict, "not_sent", "refused", 3.0))
        assert (person.state, person.outcome, person.error) == (State.PLANNED, "not_sent", "refused")
        assert person.retry_after == 3.0

    @pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.HELD, Verdict.SYSTEMIC, Verdict.AMBIGUOUS])
    @pytest.mark.parametrize("state", [State.UNKNOWN, State.SENDING])
    def test_an_earlier_unknown_stays_unknown_after_a_call_without_effect(self, state: State, verdict: Verdict):
        person = recipient(state=state)
        apply(person, Outcome(verdict, "http_503", "later"))
        assert person.state is State.UNKNOWN

    def test_an_ambiguous_call_is_unknown(self):
        person = recipient()
        apply(person, Outcome(Verdict.AMBIGUOUS, "timeout", "no answer"))
        assert (person.state, person.settled, person.epoch) == (State.UNKNOWN, False, 0)

    def test_an_answer_without_a_wish_forgets_the_earlier_wait(self):
        person = recipient()
        apply(person, Outcome(Verdict.RETRY, "http_429", "later", 30.0))
        apply(person, Outcome(Verdict.RETRY, "http_503", "later"))
        assert person.retry_after == 0

    def test_only_a_busy_novu_holds_a_recipient(self):
        person = recipient()
        for verdict in (Verdict.HELD, Verdict.RETRY, Verdict.AMBIGUOUS, Verdict.SYSTEMIC):
            apply(person, Outcome(verdict, "code"))
            assert person.held is (verdict is Verdict.HELD)

    @given(verdicts=st.lists(st.sampled_from(list(Verdict)), max_size=8), new_epoch=st.booleans())
    def test_accepted_is_only_reached_by_acceptance_and_epochs_only_grow(
        self, *, verdicts: list[Verdict], new_epoch: bool
    ):
        person = recipient()
        for number, verdict in enumerate(verdicts):
            apply(person, Outcome(verdict, "code", "detail", new_epoch=new_epoch))
            assert person.epoch == (number + 1 if new_epoch else 0)
            assert (person.state is State.ACCEPTED) <= (Verdict.ACCEPTED in verdicts[: number + 1])
