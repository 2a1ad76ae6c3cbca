"""What a connection is doing."""

from enum import Enum, auto


class Phase(Enum):
    """What a connection is doing; the order is that of giving way when there are too many."""

    IDLE = auto()
    RECEIVING = auto()
    BUSY = auto()
    WRITING = auto()
