# gRPC by grpcio, with messages that are bytes.
import grpc, json, os, signal, sys, threading, time
from concurrent import futures

PATIENCE = 30
SIZES = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def say(**facts):
    print(json.dumps(facts, default=lambda value: value.decode("latin-1")), flush=True)


# A backend that says its name in each answer, and how calls ended that were taken back.
class Shop(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name.encode()
        self.cancelled = 0

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        return dict(
            Unary=grpc.unary_unary_rpc_method_handler(self.unary),
            Fail=grpc.unary_unary_rpc_method_handler(self.fail),
            Wait=grpc.unary_unary_rpc_method_handler(self.wait),
            Down=grpc.unary_stream_rpc_method_handler(self.down),
            Up=grpc.stream_unary_rpc_method_handler(self.up),
            Both=grpc.stream_stream_rpc_method_handler(self.both),
            Hold=grpc.stream_stream_rpc_method_handler(self.hold),
        ).get(method)

    def unary(self, message, context):
        context.send_initial_metadata([("x-backend", self.name.decode())])
        context.set_trailing_metadata([("x-size", str(len(message)))])
        return self.name + b":" + message

    def fail(self, message, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: %s" % message.decode())

    def wait(self, message, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(PATIENCE)
        say(ended=self.name)
        return b""

    def down(self, message, context):
        for at in range(int(message)): yield self.name + b":%d" % at

    def up(self, messages, context):
        return self.name + b":%d" % sum(map(len, messages))

    def both(self, messages, context):
        for message in messages: yield self.name + b":" + message

    # Begins at once and ends with its client's messages.
    def hold(self, messages, context):
        yield self.name
        for _ in messages: pass
        yield self.name + b":end"


def serve(name, credentials=None, prepare=lambda server: None):
    server = grpc.server(futures.ThreadPoolExecutor(64), options=SIZES)
    server.add_generic_rpc_handlers([Shop(name)])
    prepare(server)
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(address="127.0.0.1:%d" % port)
    threading.Event().wait()


def call(channel, kind, method):
    return getattr(channel, kind)("/test.Shop/" + method)


def code(act):
    try:
        act()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name
