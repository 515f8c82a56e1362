"""What nodes say to each other, and what the command line says to a node. Frozen values, sent over mutual TLS.

`tell` messages have no answer: `Report`, `Arrived`. `ask` messages are answered by the type named in
their docstring, or by `Refused`.
"""

from __future__ import annotations

import msgspec

from onefold.core.model import Batch, Id, Kind, Row

STANDBY = "standby"
"""The role of a node that cannot go on before a person has mended something, and waits for that."""


class AskCertificates(msgspec.Struct, frozen=True, tag="ask-certificates"):
    """A node's certificates are to be renewed: requests (PEM), for itself and for the command line beside it. Answer:
    `Certificates`."""

    request: str
    admin_request: str


class Certificates(msgspec.Struct, frozen=True, tag="certificates"):
    """What was asked for, PEM."""

    certificate: str
    admin_certificate: str


class Problem(msgspec.Struct, frozen=True, order=True):
    """Something wrong that a person can mend: what, where (a path, or "" for the node), and the fix."""

    what: str
    where: str = ""
    fix: str = ""

    @classmethod
    def of(cls, reason: str, where: str, fix: str = "") -> Problem:
        """That of a `reason` which may name the fix behind a semicolon, else it is `fix`."""
        what, _, named = reason.partition("; ")
        return cls(what, where, named or fix)


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First on every connection, both ways. A peer of another folder or other rules is refused."""

    folder: str
    node: str
    incarnation: int
    rules: int


class Progress(msgspec.Struct, frozen=True):
    """How far a node has come that catches up: `done` of `total`, with the "catalogue", or with "files"."""

    what: str
    done: int
    total: int


class HookRun(msgspec.Struct, frozen=True):
    """How a hook's program ran: when it began (seconds since 1970), for how many seconds, for how many changed paths,
    its exit code (None: it had none), the last line that it wrote, and why it counts as failed ("": it does not)."""

    began: float
    seconds: float
    paths: int
    code: int | None
    line: str
    failure: str


class HookState(msgspec.Struct, frozen=True):
    """A hook of a node: whether it runs just now, whether changes wait for its next run, and how it ran last."""

    name: str
    running: bool
    waiting: bool
    last: HookRun | None


class Everywhere(msgspec.Struct, frozen=True):
    """An entry that is in place on every live node, and the milliseconds since the first sign of the edit."""

    index: int
    ms: float


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A node about itself: told to every peer when it changes, and as a heartbeat.

    `digests` are the catalogue's digests at recent indices, for comparison (G1). `leader` and `term` are whom this node
    follows ("" and 0: nobody). `role` is "leader", "voter" or "replica"; or `STANDBY`, and then only the problem is
    told. `preferred`: this node should lead when it can. `ready`: the folder is in the log (`Seed`), and this node's
    edits are followed. `reaches` names the peers with a live connection. `missing`: how much of this node's folder was
    found gone at its start, and is kept by all others until somebody confirms that. `progress`: it has much to catch up
    with. `mended` counts what was found damaged and mended since its start. `hooks` in the order of its settings.
    `everywhere`: what the leader saw arrive everywhere since its last report.
    """

    node: str
    incarnation: int
    role: str
    leader: str
    term: int
    applied: int
    in_place: int
    durable: int
    digests: tuple[tuple[int, bytes], ...]
    files: int
    strays: int
    problems: tuple[Problem, ...]
    reaches: tuple[str, ...]
    preferred: bool
    ready: bool
    missing: int = 0
    progress: Progress | None = None
    mended: int = 0
    hooks: tuple[HookState, ...] = ()
    everywhere: tuple[Everywhere, ...] = ()


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """This node's folder has arrived at this index: told to the leader at once, ahead of the next `Report`."""

    in_place: int


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """Make this object durable here (fsync) and keep it. Answer: `Held`.

    `data` when it is small, else fetch it from `sources`. `term`: the one that the asker knows, of which you may not
    have heard yet."""

    digest: bytes
    size: int
    data: bytes | None
    sources: tuple[str, ...] = ()
    term: int = 0


class Held(msgspec.Struct, frozen=True, tag="held"):
    digest: bytes


class AskCatalogue(msgspec.Struct, frozen=True, tag="ask-catalogue"):
    """Give a page of your catalogue as it was at `index` (0: begin, as it is now): the rows of ids beyond `after`.

    Answer: `CataloguePage`. The same page may be asked for again, until the next one is."""

    index: int
    after: Id


class CataloguePage(msgspec.Struct, frozen=True, tag="catalogue-page"):
    """Rows of a catalogue at `index`, by id. `last`: there are no more. The rest says what the catalogue was there;
    `lasts` are each node's newest (incarnation, sequence), on the first page only."""

    index: int
    rows: tuple[Row, ...]
    last: bool
    digest: bytes
    files: int
    seeded: bool
    lasts: tuple[tuple[str, int, int], ...] = ()


class Give(msgspec.Struct, frozen=True, tag="give"):
    """Give these small contents, as far as you have them. Answer: `Given`; the asker verifies it."""

    digests: tuple[bytes, ...]


class Given(msgspec.Struct, frozen=True, tag="given"):
    contents: dict[bytes, bytes]


class Forward(msgspec.Struct, frozen=True, tag="forward"):
    """Append this batch, you who lead. Answer: `Taken` (its outcome comes by the log).

    `contents` as in `Pack`; large contents are fetched from the author. `led` is the author's last term as leader if
    the edits were made while it led, else 0.
    """

    batch: Batch
    contents: dict[bytes, bytes]
    led: int


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    pass


class Reach(msgspec.Struct, frozen=True, tag="reach"):
    """Can you reach `node`? Answer: `Reached`."""

    node: str


class Reached(msgspec.Struct, frozen=True, tag="reached"):
    reached: bool


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Propose everything written into your folder until now. Answer: `Flushed`, once it is in the log."""


class Flushed(msgspec.Struct, frozen=True, tag="flushed"):
    index: int


class MoveLeader(msgspec.Struct, frozen=True, tag="move-leader"):
    """Hand leadership to `node`. Answer: `Moved`. A node that does not lead passes it on to the one that does."""

    node: str


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    leader: str
    term: int


class Confirm(msgspec.Struct, frozen=True, tag="confirm"):
    """What was found gone from the folder of `node` ("": yours) at its start was meant to go. Answer: `Confirmed`."""

    node: str = ""


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """`removals`: how many files and directories are removed everywhere now; 0 when nothing was to be confirmed."""

    removals: int


class Ask(msgspec.Struct, frozen=True, tag="status"):
    """Tell everything you know about the cluster. Answer: `Cluster`."""


class Recent(msgspec.Struct, frozen=True):
    """An entry that this node led: its first path, how many commands it had, and the milliseconds from the first sign
    of the edit until it was in place on every live node (None: not yet)."""

    index: int
    path: str
    verb: str
    commands: int
    everywhere_ms: float | None


class Cluster(msgspec.Struct, frozen=True, tag="cluster"):
    """`reports` of every live node, this one's first; `members` are all that the configuration names; `recent`
    are the newest entries, oldest first, as the leader knows them."""

    leader: str
    term: int
    reports: tuple[Report, ...]
    members: tuple[str, ...]
    recent: tuple[Recent, ...] = ()


class Wait(msgspec.Struct, frozen=True, tag="wait"):
    """Flush every live node and answer (`Flushed`) once all of it is in place on every live node."""

    seconds: float


class Finding(msgspec.Struct, frozen=True, order=True):
    """A difference that `onefold verify` or the scrub found on a node: `what` at the path (or object) `where`; ""
    for the catalogue as a whole."""

    what: str
    where: str
    mended: bool


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """Read everything again, and compare it with the catalogue; with `repair`, mend what can be mended. Answer:
    `Verified`.

    `run` names the run: the first question with a new name starts it (and ends any other), the next ones ask how far it
    is. `known`: how many of its findings the asker has.
    """

    run: str
    repair: bool
    known: int


class Verified(msgspec.Struct, frozen=True, tag="verified"):
    """`done` of about `total` bytes (0: not known yet) are read. `findings` are the next ones after those that the
    asker knows; `omitted` counts those that were too many to keep. `finished` once there will be no more.

    `odd`: the catalogue itself differs or is damaged, so that nothing else was compared.
    """

    done: int
    total: int
    findings: tuple[Finding, ...]
    omitted: int
    finished: bool
    odd: bool


class BeginAnew(msgspec.Struct, frozen=True, tag="begin-anew"):
    """Make your catalogue anew, if it is the odd one. Answer: `Taken`; the node is then gone for a moment."""


class AskStrays(msgspec.Struct, frozen=True, tag="ask-strays"):
    """Tell what is kept aside on your node. Answer: `StraysTold`."""


class StrayTold(msgspec.Struct, frozen=True):
    """A stray: `path` is where it stood, `size` in bytes, `when` it was kept in unix seconds."""

    id: str
    path: bytes
    kind: Kind
    size: int
    when: float
    reason: str


class StraysTold(msgspec.Struct, frozen=True, tag="strays-told"):
    """The strays of `node`, oldest first; `omitted` older ones are not told."""

    node: str
    strays: tuple[StrayTold, ...]
    omitted: int


class ReadStray(msgspec.Struct, frozen=True, tag="read-stray"):
    """Give at most `length` bytes of a stray from `offset` on (the target of a symlink). Answer: `StrayPart`."""

    id: str
    offset: int
    length: int


class StrayPart(msgspec.Struct, frozen=True, tag="stray-part"):
    """Some of the `size` bytes of a stray."""

    data: bytes
    size: int


class RestoreStray(msgspec.Struct, frozen=True, tag="restore-stray"):
    """Write it to where it stood, or `to`, and drop it. Answer: `StrayRestored`."""

    id: str
    to: bytes | None


class StrayRestored(msgspec.Struct, frozen=True, tag="stray-restored"):
    """It is committed at `path`, all of it by the entry `index`; `version` is that of what stands at the path."""

    path: bytes
    version: int
    index: int
    size: int


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    """What was asked cannot be done as things are, which whoever asked must know: the `error` by name, and its text."""

    error: str
    what: str
    fix: str


class DropStray(msgspec.Struct, frozen=True, tag="drop-stray"):
    """Remove it for ever. Answer: `Taken`."""

    id: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The answer to any `ask` that cannot be met: one sentence, and the fix. `away`: this node stands by, and another
    one may answer."""

    what: str
    fix: str = ""
    away: bool = False


Message = (
    Hello
    | Report
    | Arrived
    | Hold
    | Held
    | AskCatalogue
    | CataloguePage
    | Give
    | Given
    | Forward
    | Taken
    | Reach
    | Reached
    | Flush
    | Flushed
    | MoveLeader
    | Moved
    | Confirm
    | Confirmed
    | Ask
    | Cluster
    | Wait
    | Verify
    | Verified
    | BeginAnew
    | AskCertificates
    | Certificates
    | AskStrays
    | StraysTold
    | ReadStray
    | StrayPart
    | RestoreStray
    | StrayRestored
    | DropStray
    | Denied
    | Refused
)
