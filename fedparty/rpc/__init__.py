"""Calls between services and parties: channels, servers, the caller's identity, streams of chunks, the error catalogue.

Owns everything that touches gRPC as such. Does not own any service: `federation`, `flow` and
`worker` each bring their own.
"""

import os

# gRPC reads this when it is loaded. Its older polling engine costs half the CPU of the event engine for large streams
# (grpcio 1.85, 1 MiB chunks: 3.6 instead of 2.3 GiB/s on a Unix socket) and starts fewer threads.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
