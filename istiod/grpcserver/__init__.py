"""gRPC over HTTP/2 for xDS and the certificate service: a protocol core without I/O, and a thin shell of sockets.

Why not grpc.aio: see docs/decisions/0011-own-transport.md. Nothing here knows of xDS, certificates to sign or the mesh.
"""
