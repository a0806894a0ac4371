# ruff: noqa: INP001 -- a script beside the files that it reads
"""Writes the Python code of one proto file into one package, with this interpreter's grpcio-tools.

`python protos/generate.py meshkit/testing/v1/echo.proto meshkit/_proto`; `make protos` knows them
all. protoc names Python modules after the path of the proto file; here they move into a package
of ours and import each other from there, while the file keeps its own name on the wire.
"""

import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent

REWRITES = {
    # from meshkit.testing.v1 import echo_pb2 as ...
    r"^(?:from (?!google\.)\S+ )?import (\w+_pb2) as ": r"from . import \1 as ",
    # the __module__ of messages: they could not be pickled with the name protoc would give them
    r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR), '\S+',": r"\1, __name__,",
}


def generate(proto: str, package: Path) -> None:
    """Write messages, their types and the gRPC stubs of `proto` into the directory `package`."""
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", f"-I{PROTOS}", *outputs, proto]) != 0:
            raise SystemExit(f"protoc refused {proto}")
        for module in sorted(Path(scratch).rglob("*_pb2*.py*")):
            text = module.read_text()
            for pattern, replacement in REWRITES.items():
                text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
            (package / module.name).write_text(text)


if __name__ == "__main__":
    generate(sys.argv[1], Path(sys.argv[2]))
