"""send-test's row, and the rights that the operator's queries need."""

from uuid import uuid4

from dispatcher.models.notification import RecipientState
from dispatcher.postgres.operator_queries import OperatorQueries
from tests.postgres.operator_rows import actions
from tests.support.outbox_fixture import OutboxFixture, ids_of


class TestSendTest:
    async def test_send_test_inserts_a_row_like_an_application(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        recipient = uuid4()
        trial = await queries.insert_test("default-in-app", recipient, None, '{"title": "t"}')
        assert trial is not None
        [held] = await outbox_fixture.acquire(*ids_of(await outbox_fixture.claim()))
        assert (held.id, [each.id for each in held.recipients]) == (trial.id, [str(recipient)])
        at = await queries.test_progress(trial)
        assert at is not None
        assert (at["status"], at["called"], at["settled"]) == ("PROCESSING", None, None)
        assert not await queries.remove_test(trial), "nothing is deleted under a run's hands"
        await outbox_fixture.settle(held, RecipientState.ACCEPTED)
        at = await queries.test_progress(trial)
        assert at is not None
        assert at["called"] is not None
        assert at["settled"] is not None
        assert 0 <= at["called"] <= at["settled"]
        assert await queries.remove_test(trial)
        assert await queries.test_progress(trial) is None
        assert [action for _, action, _, _ in await actions(outbox_fixture)] == ["send-test", "send-test cleanup"]

    async def test_send_test_takes_the_enterprise_of_its_workflow(
        self, outbox_fixture: OutboxFixture, queries: OperatorQueries
    ):
        ours = uuid4()
        key = "update notify.ent_notification_workflow set enterprise_id = %s where workflow_key = 'default-sms'"
        await outbox_fixture.rows(key, ours)
        trial = await queries.insert_test("default-sms", uuid4(), None, "{}")
        assert trial is not None
        assert trial.enterprise == str(ours)
        assert await queries.insert_test("nope", uuid4(), None, "{}") is None
        assert "default-sms" in await queries.workflow_keys()
