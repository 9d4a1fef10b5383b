"""`dispatcher web` beside running dispatchers."""

from tests.e2e.health_answers import answers, metrics_of, subscribed
from tests.support.stack import WEB, Process, Stack
from tests.support.waits import eventually

SOON = {"DISPATCHER_SWEEP_INTERVAL": "1s"}


async def test_web_shows_the_dispatchers_without_contacting_them(stack: Stack):
    running = await stack.running(**SOON)
    await stack.final(await stack.notify())
    web: Process = stack.start(WEB, TEMPORAL_ADDRESS="127.0.0.1:1", NOVU_API_URL="", NOVU_SECRET_KEY="")
    async with await web.http() as http:
        await answers(http, "/readyz", 200)
        heard_one = {"total": 1, "active": 1, "failed": 0, "reconnecting": 0}
        await eventually(lambda: subscribed(http, heard_one), f"{heard_one} in /status")
        status = await answers(http, "/status", 200, status="healthy")
        assert status["nodes"][0]["id"].split("-")[-2] == str(running.popen.pid)

        async def counted() -> bool:  # not with the first question
            return (await http.get("/status")).json()["backlog"]["rows"] == {"SENT": 1}

        await eventually(counted, "a count of every row")
        seen = metrics_of((await http.get("/metrics")).text)
        assert seen['dispatcher_nodes{mode="EVENT"}'] == seen['dispatcher_outbox_rows{status="SENT"}'] == 1
        assert "dispatcher_listener_verified" not in seen  # that is `run`'s to say
        assert await web.stop(10) == 0


async def test_web_waits_for_an_absent_database(stack: Stack):
    web = stack.start(WEB, DATABASE_URL="postgresql://postgres@127.0.0.1:1/none")
    async with await web.http() as http:
        told = await answers(http, "/readyz", 503, broken=["postgres"])
        assert told["status"] == "not ready"
        assert (await http.get("/livez")).status_code == 200
        status = (await http.get("/status")).json()
        assert (status["status"], status["database"]["status"]) == ("degraded", "unhealthy")
        assert web.popen.poll() is None
        assert await web.stop(10) == 0
