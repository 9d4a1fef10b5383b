import anyio, os, time
from pathlib import Path
from house import House

async def test_idle(house: House):
    t0=time.monotonic()
    process = await house.running()
    print("listening after", time.monotonic()-t0)
    if "--": 
        async with await process.http() as http:
            while (await http.get("/readyz")).status_code != 200: await anyio.sleep(0.02)
            print("ready after", time.monotonic()-t0)
    def cpu():
        f=Path(f"/proc/{process.popen.pid}/stat").read_text().rsplit(")",1)[1].split()
        return (int(f[11])+int(f[12]))/os.sysconf("SC_CLK_TCK")
    def rss(): return int(Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1])*4//1024
    for n in range(6):
        if n==1: await house.final(await house.notify())
        if n==3:
            for _ in range(4):
                await house.final(await house.notify())
                await anyio.sleep(0.3)
        c=cpu(); await anyio.sleep(5)
        print(n, "cpu %.1f%%"%((cpu()-c)*20), rss(), "MB awake", await house.value("select bool_or(awake_until > clock_timestamp()) from dispatcher.node"))
