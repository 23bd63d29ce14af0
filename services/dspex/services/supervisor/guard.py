"""Ends what the workers of a killed supervisor leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.children import Child, Program

if TYPE_CHECKING:
    from pathlib import Path

GRACE = 5
"""Seconds that workers have to finish when their supervisor is gone."""

# It reads "+ 17" and "- 17" for a process group that is there, and is gone again. When
# its input ends, who wrote that is gone: the groups get a while, and are ended then.
_SCRIPT = """\
while read -r sign group; do
  if [ "$sign" = + ]; then set -- "$@" "$group"; continue; fi
  for one do shift; [ "$one" = "$group" ] || set -- "$@" "$one"; done
done
tenths=0
while [ "$tenths" -lt {tenths} ]; do
  left=
  for one do kill -0 "-$one" 2>/dev/null && left=1; done
  [ -n "$left" ] || break
  sleep 0.1; tenths=$((tenths + 1))
done
for one do kill -KILL "-$one" 2>/dev/null; done
for folder in {cgroups}; do
  [ -e "$folder/cgroup.kill" ] && echo 1 > "$folder/cgroup.kill" && rmdir "$folder"
done
"""


class Guard:
    """A shell that knows the process groups of the workers, and outlives us.

    A worker sees the end of its supervisor by a pipe and finishes by itself; one that
    is stuck does not, and what a worker has started may not care.

    Args:
        logs: Folder of its log.
        cgroups: Pattern of the folders of their cgroups; empty: they have none.
    """

    def __init__(self, logs: Path, cgroups: str = "") -> None:
        script = _SCRIPT.format(tenths=GRACE * 10, cgroups=cgroups)
        program = Program(name="guard", role="guard", argv=("/bin/sh", "-c", script))
        self.child = Child(program, logs / "supervisor-guard.log")
        self._groups: set[int] = set()

    async def start(self) -> None:
        """Start it, or another one in its place."""
        await self.child.start()
        for group in self._groups:
            self.child.tell(f"+ {group}")

    def add(self, group: int) -> None:
        """A worker leads this group."""
        self._groups.add(group)
        self.child.tell(f"+ {group}")

    def remove(self, group: int) -> None:
        """Nobody is left in this group."""
        self._groups.discard(group)
        self.child.tell(f"- {group}")

    async def stop(self) -> None:
        """End it: nobody is left to be ended."""
        await self.child.stop(1.0)
