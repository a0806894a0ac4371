"""Model 2, in the client: it knows the endpoints, and each call goes straight to one of them.

python -m examples.three_models.native
"""

import asyncio

from examples.three_models.greeting import greet
from meshkit import Mesh


async def main() -> None:
    async with Mesh() as mesh, mesh.channel("hello_service") as channel:
        await greet(channel)


if __name__ == "__main__":
    asyncio.run(main())
