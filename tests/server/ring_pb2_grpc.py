"""What grpcio-tools generates, by hand: one service of bytes in all four call shapes."""

import grpc


class RingServicer:
    async def One(self, request, context):
        raise NotImplementedError

    async def Fan(self, request, context):
        raise NotImplementedError

    async def Sum(self, requests, context):
        raise NotImplementedError

    async def Chat(self, requests, context):
        raise NotImplementedError


def add_RingServicer_to_server(servicer, server):
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(servicer.One),
        "Fan": grpc.unary_stream_rpc_method_handler(servicer.Fan),
        "Sum": grpc.stream_unary_rpc_method_handler(servicer.Sum),
        "Chat": grpc.stream_stream_rpc_method_handler(servicer.Chat),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Ring", handlers),)
    )
    server.add_registered_method_handlers("test.Ring", handlers)


class RingStub:
    def __init__(self, channel):
        self.One = channel.unary_unary("/test.Ring/One")
        self.Fan = channel.unary_stream("/test.Ring/Fan")
        self.Sum = channel.stream_unary("/test.Ring/Sum")
        self.Chat = channel.stream_stream("/test.Ring/Chat")
