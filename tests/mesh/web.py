"""An app that gives its lifespan to a mesh: uvicorn tests.mesh.web:app."""

from fastapi import FastAPI, Request

from meshkit import Mesh

mesh = Mesh()
app = FastAPI(lifespan=mesh.lifespan)


@app.get("/")
async def index(request: Request) -> dict[str, object]:
    given = request.state.mesh
    return {"same": given is mesh, "known": len(await given.endpoints("s"))}


@app.get("/sync")
def in_a_thread() -> bool:
    return mesh.status() is not None
