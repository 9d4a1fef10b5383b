"""The state of a recipient after a result: an earlier call that may have had an effect is never forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.classification import apply_result
from dispatcher.models.call_result import AnswerClass, CallResult
from dispatcher.models.notification import RecipientState
from tests.decisions.sample_rows import STATES, recipient


class TestApply:
    @given(state=STATES, replayed=st.booleans())
    def test_acceptance_settles_every_state(self, *, state: RecipientState, replayed: bool):
        person = recipient(state=state, error="earlier", epoch=2)
        apply_result(person, CallResult(AnswerClass.ACCEPTED, "processed", replayed=replayed))
        assert (person.state, person.outcome, person.error, person.epoch) == (
            RecipientState.ACCEPTED,
            "processed",
            None,
            2,
        )

    def test_refusal_settles_the_recipient(self):
        person = recipient()
        apply_result(person, CallResult(AnswerClass.REFUSED, "http_400", "no", new_epoch=True))
        assert (person.state, person.error, person.epoch, person.is_final) == (RecipientState.REFUSED, "no", 1, True)

    @pytest.mark.parametrize("verdict", [AnswerClass.RETRY, AnswerClass.THROTTLED, AnswerClass.ACCOUNT_ERROR])
    def test_call_without_effect_leaves_a_fresh_recipient_planned(self, verdict: AnswerClass):
        person = recipient()
        apply_result(person, CallResult(verdict, "not_sent", "refused", 3.0))
        assert (person.state, person.outcome, person.error) == (RecipientState.PLANNED, "not_sent", "refused")
        assert person.retry_after == 3.0

    @pytest.mark.parametrize(
        "verdict", [AnswerClass.RETRY, AnswerClass.THROTTLED, AnswerClass.ACCOUNT_ERROR, AnswerClass.UNKNOWN]
    )
    @pytest.mark.parametrize("state", [RecipientState.UNKNOWN, RecipientState.SENDING])
    def test_earlier_unknown_stays_unknown_after_a_call_without_effect(
        self, state: RecipientState, verdict: AnswerClass
    ):
        person = recipient(state=state)
        apply_result(person, CallResult(verdict, "http_503", "later"))
        assert person.state is RecipientState.UNKNOWN

    def test_ambiguous_call_makes_its_recipient_unknown(self):
        person = recipient()
        apply_result(person, CallResult(AnswerClass.UNKNOWN, "timeout", "no answer"))
        assert (person.state, person.is_final, person.epoch) == (RecipientState.UNKNOWN, False, 0)

    def test_answer_without_retry_after_clears_the_earlier_wait(self):
        person = recipient()
        apply_result(person, CallResult(AnswerClass.RETRY, "http_429", "later", 30.0))
        apply_result(person, CallResult(AnswerClass.RETRY, "http_503", "later"))
        assert person.retry_after == 0

    def test_only_a_busy_novu_throttles_a_recipient(self):
        person = recipient()
        for verdict in (AnswerClass.THROTTLED, AnswerClass.RETRY, AnswerClass.UNKNOWN, AnswerClass.ACCOUNT_ERROR):
            apply_result(person, CallResult(verdict, "code"))
            assert person.throttled is (verdict is AnswerClass.THROTTLED)

    @given(verdicts=st.lists(st.sampled_from(list(AnswerClass)), max_size=8), new_epoch=st.booleans())
    def test_only_acceptance_makes_accepted_and_epochs_only_grow(self, *, verdicts: list[AnswerClass], new_epoch: bool):
        person = recipient()
        for number, verdict in enumerate(verdicts):
            apply_result(person, CallResult(verdict, "code", "detail", new_epoch=new_epoch))
            assert person.epoch == (number + 1 if new_epoch else 0)
            assert (person.state is RecipientState.ACCEPTED) <= (AnswerClass.ACCEPTED in verdicts[: number + 1])
