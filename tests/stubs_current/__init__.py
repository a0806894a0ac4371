"""The Echo stubs once more, as the newest grpcio-tools makes them: written by `make protos`."""
