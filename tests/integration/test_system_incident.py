"""What is wrong with ourselves reaches the operator of the district, as a fire would."""

import asyncio
import json

from fix_alerting import process, receiver
from fix_house import get

from sizao import clock, log
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.settings import WatchDisks
from sizao.signal import Tier
from sizao.system import tell
from sizao.system.board import Rule
from sizao.system.tell import District, Teller, Volume


def url_of(text):
    lines = [line for line in text.splitlines() if '"event": "started"' in line]
    return json.loads(lines[-1])["http"]


def tiers(service):
    return [one["tier"] for one in service.board.shown().values()]


async def test_a_restart_with_a_bad_file_runs_on_says_so_and_pages_an_operator(house):
    await house.start_here()
    config, log_file = house.configure(), house.folder / "log"
    with receiver() as office:
        await house.respond(office.url, area="D", kinds=["system"], language="en")
        with process("alert", "--config", config, log=log_file):
            await house.told(log_file, '"event": "started"')
            kept = house.folder / "state" / "alert" / "last-good-settings.json"
            async with asyncio.timeout(20):
                while not kept.exists():  # noqa: ASYNC110 - a file of a process
                    await asyncio.sleep(0.05)
        house.config.write_text(house.config.read_text().replace('"poll_s"', '"pol_s"'))
        with process("alert", "--config", config, log=log_file):
            (page,) = await asyncio.to_thread(office.wait, 1)
            ready = json.loads(get(f"{url_of(log_file.read_text())}/readyz"))
    body = json.loads(page.body)
    said = body["data"]
    assert (said["kind"], said["tier"], said["site"]["path"][0]["code"]) == ("system", "early", "D")
    assert "alert.a0 runs on its last good settings, the file is wrong" in json.dumps(body)
    assert "pol_s" in said["evidence"]["values"]["fault"]
    assert "pol_s" in ready["running_on_last_good"]
    assert ready["system"]["alert.a0/settings"]["rule"] == "last_good_settings"
    rows = await house.ask("SELECT kind, state, members FROM incident")
    assert rows == [("system", "open", 1)]


async def test_kafka_away_what_stands_waits_and_a_disk_that_fills_is_told(
    house, servers, monkeypatch
):
    """A teller of our own: another disk in its hands, the real Kafka dead and back."""
    await house.start_here()
    monkeypatch.setattr(tell, "_DISKS_S", 0.1)
    used = 0.85
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    site = (await house.ask("SELECT id FROM area WHERE level = 'district'"))[0][0]
    teller = Teller(
        service,
        house.log,
        stage="archive.0/1",
        district=lambda: District(site, 1),
        own={},
        watch=WatchDisks(volumes={"postgres": house.folder}),
        look=lambda folder: Volume(folder, used, 1 << 20),
    )
    with receiver() as office:
        await house.respond(office.url, area="D", kinds=["system"], min_tier="early")
        with process("alert", "--config", house.configure(), log=house.folder / "log"):
            running = asyncio.get_running_loop().create_task(teller.run())
            try:
                (early,) = await asyncio.to_thread(office.wait, 1)
                await asyncio.to_thread(servers.kafka.kill)
                try:
                    used = 0.95
                    async with asyncio.timeout(20):
                        while Tier.ALARM not in tiers(service):  # noqa: ASYNC110 - a plain value
                            await asyncio.sleep(0.05)
                    service.board.say(Rule.SESSION, "b/gone", Tier.ALARM, clock.now_us())
                    service.board.over("b/gone", clock.now_us())
                finally:
                    await asyncio.to_thread(servers.kafka.start)
                pages = await asyncio.to_thread(office.wait, 2, 40)
            finally:
                running.cancel()
                await asyncio.wait([running])
    early, alarm = (json.loads(page.body)["data"] for page in pages)
    assert [early["tier"], alarm["tier"]] == ["early", "alarm"]
    assert [early["what"], alarm["what"]] == ["opened", "raised"]
    assert alarm["evidence"]["values"]["used_percent"] == 95.0
    assert alarm["evidence"]["values"]["holds"] == "postgres"
    assert await house.ask("SELECT count(*) FROM signal WHERE rule = 'session_lost'") == [(0,)]
