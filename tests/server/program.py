"""A program with one server, for the tests that send it signals. Prints what happens to it.

`python -m tests.server.program MODE`, with MODE one of
    plain   asyncio.run and serve_forever
    slow    the same with a grace of 30 seconds
    uvloop  the same on uvloop
    hung    the registry does not answer, so that the block is never entered
    hosted  a host has handlers of its own, as uvicorn does
    thread  the server runs in another thread
"""

import asyncio
import signal
import sys
import threading
import time

from meshkit.server import Quiet, Server, ServerOptions
from tests.server.fakes import FakeRegistrar
from tests.server.ring import Ring


class Printed:
    """A journal that is printed as it is written."""

    def append(self, word):
        print(word, flush=True)

    def emit(self, event):
        self.append(event.name)


class TellingRing(Ring):
    async def One(self, request, context):
        print("called", flush=True)
        return await super().One(request, context)


def owners():
    names = []
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        names.append(getattr(handler, "__qualname__", None) or type(handler).__name__)
    return " ".join(names)


async def never():
    await asyncio.Event().wait()


async def enter_and_hang():
    registrar = FakeRegistrar(Printed(), on_register=never)
    async with Server({"ring": Ring()}, registrar, ServerOptions(), lambda event: None):
        pass


async def serve(grace, host_asked=None):
    journal = Printed()
    options = ServerOptions(quiet=Quiet(at_least=0.6, window=0.1), grace=grace)
    server = Server({"ring": TellingRing()}, FakeRegistrar(journal), options, journal.emit)
    print("before", owners(), flush=True)
    async with server:
        if host_asked is not None:
            forever = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            print("during", owners(), flush=True)
            print("at", server.address, flush=True)
            await host_asked.wait()
            await server.drain()
            await forever
        else:
            asyncio.get_running_loop().call_soon(lambda: print("during", owners(), flush=True))
            asyncio.get_running_loop().call_soon(lambda: print("at", server.address, flush=True))
            await server.serve_forever()
            print("asked", flush=True)
    print("after", owners(), flush=True)


async def hosted():
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Host:
        def handle_exit(self, number, frame):
            loop.call_soon_threadsafe(asked.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, Host().handle_exit)
    await serve(5.0, asked)


def in_a_thread():
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    loop = asyncio.new_event_loop()
    told = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve(5.0, told)])
    thread.start()
    while not asked:  # a lock would be one more thing that the handler could wait for
        time.sleep(0.05)
    loop.call_soon_threadsafe(told.set)
    thread.join()
    loop.close()


def main(mode):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    if mode == "hosted":
        asyncio.run(hosted())
    elif mode == "hung":
        asyncio.run(enter_and_hang())
    elif mode == "thread":
        in_a_thread()
    elif mode == "uvloop":
        import uvloop

        uvloop.run(serve(5.0))
    else:
        asyncio.run(serve(30.0 if mode == "slow" else 5.0))
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
