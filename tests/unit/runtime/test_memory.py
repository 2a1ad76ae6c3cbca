"""What the engine's allocator keeps of what was freed."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from pathlib import Path
from engine.runtime.memory import return_large_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def use(megabytes):
    block = libc.malloc(ctypes.c_size_t(megabytes << 20))
    ctypes.memset(ctypes.c_void_p(block), 1, megabytes << 20)
    libc.free(block)
assert return_large_blocks()
before = resident()
for _ in range(3):
    use(19)
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_large_blocks_go_back_however_often_they_are_asked_for():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 << 20
