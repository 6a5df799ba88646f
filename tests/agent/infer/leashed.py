"""The real worker's leash on a worker that hangs in its first inference."""

import os
import socket
import sys

from edge_agent.infer import worker
from tests.agent.infer.hostile import Hostile, hang, serve

if __name__ == "__main__":
    worker._leash(int(sys.argv[2]), worker._OOM_SCORE)
    serve(hang)(Hostile(socket.socket(fileno=int(sys.argv[1]))))
    os._exit(0)
