"""Validated names and relative paths. A path is a type, not a string.

Both are bytes, as Linux has them: any name that the kernel allows is a valid name, whatever its encoding. What can
never be one is refused here, once, so that nothing later needs to ask: a name from a peer cannot climb out of the
folder (`..`), name the folder itself (`.`, empty), or hold a separator or a NUL.
"""

from __future__ import annotations

from typing import Self

from onefold.errors import BadPath

NAME_BYTES_MAX = 255
META = b".onefold"
"""The directory in the root that is ours: never watched, never replicated."""


class Name(bytes):
    """One component of a path: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.

    Raises `BadPath` when given anything else.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if not 0 < len(raw) <= NAME_BYTES_MAX:
            raise BadPath(f"the name {show(raw)} has {len(raw)} bytes", "use a name of 1 to 255 bytes")
        if b"/" in raw or b"\0" in raw or raw == b"." or raw == b"..":
            raise BadPath(f"{show(raw)} is not a file name", "use a name without '/', NUL, and other than '.' and '..'")
        return super().__new__(cls, raw)


class RelPath(bytes):
    """A path below the folder's root: names joined by `/`; empty for the root itself.

    Build one with `RelPath.parse` (validates) or by `child` from a path and a name (valid by construction).
    """

    __slots__ = ()

    @classmethod
    def parse(cls, raw: bytes) -> RelPath:
        """The path that `raw` spells. Raises `BadPath` when a component is not a valid `Name`."""
        if raw:
            for part in raw.split(b"/"):
                Name(part)
        return cls(raw)

    def child(self, name: bytes) -> RelPath:
        """The path of `name` (already a valid name) in this directory."""
        return RelPath(self + b"/" + name) if self else RelPath(name)

    @property
    def parent(self) -> RelPath:
        """The directory that holds this path; the root's parent is the root."""
        return RelPath(self.rpartition(b"/")[0])

    @property
    def name(self) -> Name:
        """The last component. Raises `BadPath` for the root, which has none."""
        return Name(self.rpartition(b"/")[2])

    @property
    def parts(self) -> list[bytes]:
        """The components, root first; none for the root itself."""
        return self.split(b"/") if self else []

    def below(self, other: RelPath) -> bool:
        """Whether this path lies strictly inside directory `other`."""
        return len(self) > len(other) and (not other or self.startswith(other + b"/"))

    def moved(self, origin: RelPath, to: RelPath) -> RelPath:
        """Where this path, inside directory `origin`, is once that is at `to`."""
        return RelPath(to + self[len(origin) :])


ROOT_PATH = RelPath(b"")


def show(raw: bytes) -> str:
    """`raw` for a person to read: UTF-8 where it is, escapes where it is not printable."""
    text = raw.decode("utf-8", "backslashreplace")
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )
