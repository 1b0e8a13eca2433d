"""The other end of worker.py: a process that calls one function after the other, as they come on its standard input.

Messages are pickles with their length before them. They come from our own parent only.
"""

from __future__ import annotations

import pickle
import struct
import sys
from typing import BinaryIO, Final

LENGTH: Final = struct.Struct(">Q")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more requests: (True, result) or (False, exception)."""
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        function, arguments = pickle.loads(requests.read(LENGTH.unpack(head)[0]))  # noqa: S301 (our parent's)
        try:
            answer = pickle.dumps((True, function(*arguments)))
        except Exception as error:  # noqa: BLE001 (it is the parent's to judge)
            answer = pickle.dumps((False, error))
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
