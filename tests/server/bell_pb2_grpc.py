"""What older grpcio-tools generate, by hand: without `add_registered_method_handlers`."""

import grpc


class BellServicer:
    def Strike(self, request, context):
        raise NotImplementedError


def add_BellServicer_to_server(servicer, server):
    handlers = {
        "Strike": grpc.unary_unary_rpc_method_handler(servicer.Strike),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Bell", handlers),)
    )
