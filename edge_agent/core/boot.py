"""Which start of the board this is."""

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the kernel
