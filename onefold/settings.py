"""The table of settings: `SETTINGS` says what `node.toml` may hold. Loading and validation (`onefold.config`),
environment variables and options (`onefold.overrides`) and `docs/settings.md` derive from it.

The supervisor, which stays resident, imports this: only light modules, and plain tuples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

REQUIRED = object()
DERIVED = object()
"""As a default: worked out from other settings, as `default_text` says."""


class Setting(NamedTuple):
    """One setting. `name` holds its table (`etcd.heartbeat_ms`, `members.address`); `least` and `most` bound numbers;
    `kind` is one of those in `KINDS`; an `address` is the first of a node's ports, an `endpoint` just one."""

    name: str
    kind: str
    default: Any
    help: str
    unit: str = ""
    default_text: str = ""
    least: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()


KINDS = {
    "name": "a name",
    "text": "text",
    "path": "a path",
    "address": 'an address "host:port"',
    "endpoint": 'an address "host:port"',
    "addresses": 'a list of addresses "host:port"',
    "choice": "a choice",
    "switch": "true or false",
    "number": "a whole number",
    "patterns": "a pattern, or a list of them",
    "words": "a list of texts",
}

LISTS = ("members", "hooks")
"""Tables of which there may be several. Only the file can hold them."""

SETTINGS = (
    Setting("name", "name", REQUIRED, "This node's name; one of `members`."),
    Setting("folder", "path", REQUIRED, "The folder to keep identical. It must exist."),
    Setting("folder_id", "name", REQUIRED, "Which cluster this is; the same on every node, and never changed."),
    Setting(
        "state",
        "path",
        DERIVED,
        "Where the catalogue, objects, etcd's data, keys and strays live. Not inside the folder.",
        default_text="`.onefold/<name>` beside the folder",
    ),
    Setting(
        "listen",
        "address",
        DERIVED,
        "Where this node listens. It uses four consecutive ports: this one for peers, the next for content between "
        "peers, the third for etcd's clients, the fourth for etcd's peers. The one after them is the API's, unless "
        "`api.listen` says otherwise.",
        default_text="its `address` in `members`",
    ),
    Setting(
        "writers",
        "choice",
        "leader",
        "`leader`: edits start in the leader's folder, those made elsewhere are kept aside as strays. `any`: edits "
        "made on every node are replicated. The same on every node.",
        choices=("leader", "any"),
    ),
    Setting("preferred", "switch", False, "Whether this node should lead whenever it can."),
    Setting(
        "small_bytes_max",
        "number",
        65_536,
        "Files up to this size travel inside packs; larger ones as objects of their own.",
        unit="bytes",
        least=0,
        most=1_048_576,
    ),
    Setting(
        "quiet_ms",
        "number",
        50,
        "How long a file that is held open must be quiet before it is looked at; one that never rests is looked at "
        "after 2 s.",
        unit="ms",
        least=1,
        most=2_000,
    ),
    Setting(
        "scrub_days",
        "number",
        30,
        "Everything is read again once in so many days, to find what the disk damaged; 0: never. It reads at least "
        "1 MiB a second, and rests when it is done early.",
        unit="days",
        least=0,
        most=3_650,
    ),
    Setting(
        "log_level",
        "choice",
        "info",
        "What is written to the log: this and what is more serious.",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting("tls.ca", "path", DERIVED, "The cluster's authority.", default_text="`tls/ca.crt` in the state directory"),
    Setting(
        "tls.cert", "path", DERIVED, "This node's certificate.", default_text="`tls/node.crt` in the state directory"
    ),
    Setting("tls.key", "path", DERIVED, "Its private key.", default_text="`tls/node.key` in the state directory"),
    Setting(
        "etcd.endpoints",
        "addresses",
        (),
        "An etcd cluster that exists already. No etcd is started then, and theirs is never compacted or defragmented.",
        default_text="none: each voter runs an etcd of its own",
    ),
    Setting("etcd.ca", "path", DERIVED, "The authority of that cluster's certificates.", default_text="`tls.ca`"),
    Setting("etcd.cert", "path", DERIVED, "The certificate to show to that cluster.", default_text="`tls.cert`"),
    Setting("etcd.key", "path", DERIVED, "Its private key.", default_text="`tls.key`"),
    Setting("etcd.binary", "text", "etcd", "The etcd program (3.4 or newer): a name on the PATH, or a path."),
    Setting(
        "etcd.heartbeat_ms",
        "number",
        100,
        "How often etcd's leader says that it is alive. Not less than a round trip between the nodes.",
        unit="ms",
        least=10,
        most=5_000,
    ),
    Setting(
        "etcd.election_ms",
        "number",
        500,
        "How long etcd waits for that before it elects another leader: at least five heartbeats.",
        unit="ms",
        least=50,
        most=50_000,
    ),
    Setting(
        "etcd.entries_kept",
        "number",
        10_000,
        "How many entries of the log are kept for nodes that are away. One that comes back later takes a copy of the "
        "catalogue from another node first, which also works; it only takes longer.",
        unit="entries",
        least=100,
        most=100_000,
    ),
    Setting("api.enabled", "switch", True, "Whether this node serves the HTTP API and the web page."),
    Setting(
        "api.listen",
        "endpoint",
        DERIVED,
        "Where it serves them, over TLS.",
        default_text="the host of `listen`, and its port plus 4",
    ),
    Setting(
        "api.cert",
        "path",
        DERIVED,
        "The certificate to show there, with those that lead to its authority: one that browsers know, say. With "
        "`api.key`, or neither.",
        default_text="`tls.cert`",
    ),
    Setting("api.key", "path", DERIVED, "Its private key.", default_text="`tls.key`"),
    Setting(
        "api.body_bytes_max",
        "number",
        10 << 30,
        "The largest file that the API takes.",
        unit="bytes",
        least=1,
        most=1 << 40,
    ),
    Setting(
        "api.connections_max",
        "number",
        200,
        "How many connections the API serves at once.",
        unit="connections",
        least=1,
        most=10_000,
    ),
    Setting("members.name", "name", REQUIRED, "A node's name."),
    Setting("members.address", "address", REQUIRED, "Where the other nodes reach it: the first of its four ports."),
    Setting(
        "members.voter",
        "switch",
        True,
        "Whether it votes, with an etcd member of its own, or only follows. Have an odd number of voters: with `2n+1` "
        "of them, `n` may fail.",
    ),
    Setting(
        "hooks.match",
        "patterns",
        REQUIRED,
        'Which paths the program is for, as in `.gitignore`: `"*.conf"`, or `["/nginx/", "!*.bak"]`.',
    ),
    Setting(
        "hooks.run",
        "words",
        REQUIRED,
        "The program and its arguments, run after such a path has changed in this node's folder; see "
        "[Hooks](hooks.md). It is not given to a shell.",
    ),
    Setting(
        "hooks.name",
        "name",
        DERIVED,
        "What `onefold status` calls it; each hook of a node has another.",
        default_text="the program's",
    ),
    Setting(
        "hooks.debounce_ms",
        "number",
        500,
        "For how long such paths must not have changed before it is run.",
        unit="ms",
        least=1,
        most=600_000,
    ),
    Setting(
        "hooks.timeout_seconds",
        "number",
        60,
        "A run that takes longer is ended, and counts as failed.",
        unit="seconds",
        least=1,
        most=86_400,
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}
PLAIN = tuple(setting for setting in SETTINGS if setting.name.partition(".")[0] not in LISTS)
"""All settings that have one value."""
VARIABLE_PREFIX = "ONEFOLD_"


def variable(setting: Setting) -> str:
    """The environment variable of a setting in `PLAIN`: `ONEFOLD_ETCD_HEARTBEAT_MS`."""
    return VARIABLE_PREFIX + setting.name.upper().replace(".", "_")


def option(setting: Setting) -> str:
    """The option of `onefold run` for a setting in `PLAIN`: `--etcd-heartbeat-ms`."""
    return "--" + setting.name.replace(".", "-").replace("_", "-")


BY_VARIABLE = {variable(setting): setting for setting in PLAIN}
BY_OPTION = {option(setting): setting for setting in PLAIN}
TABLES = tuple(dict.fromkeys(setting.name.partition(".")[0] for setting in SETTINGS if "." in setting.name))


def wanted(setting: Setting) -> str:
    """What a value must be, in words."""
    if setting.kind == "number":
        unit = f" {setting.unit}" if setting.unit else ""
        return f"a whole number from {setting.least} to {setting.most}{unit}"
    if setting.kind == "choice":
        return " or ".join(f'"{choice}"' for choice in setting.choices)
    return KINDS[setting.kind]


def documentation() -> str:
    """`docs/settings.md`, from the table."""
    lines = [
        "# Settings",
        "",
        "One node's settings stand in a TOML file, named with `--config` (`onefold run --config node.toml`). Relative",
        "paths in it count from the directory of that file.",
        "",
        "Every setting but the lists of tables can also be given as an environment variable, and as an option of",
        "`onefold run`: `ONEFOLD_ETCD_HEARTBEAT_MS=50` or `--etcd-heartbeat-ms 50`. An option wins over a variable, a",
        "variable over the file, the file over the default. Relative paths in them count from the working directory;",
        "several addresses are separated by commas; a variable says `true` or `false`, where options are `--preferred`",
        "and `--no-preferred`. A variable that begins like these and is no setting is an error, so a slip does not go",
        "unseen. `onefold config show` tells for each setting what it is and where that comes from.",
        "",
        "Commands that ask a running node read the same file and the same variables: give them those that it was",
        "started with, if they concern `folder`, `state`, `tls` or the API's address.",
        "",
        "<!-- Made by `python scripts/write_settings_doc.py` from the table in onefold/settings.py: change that. -->",
        "",
        "```toml",
        *EXAMPLE.splitlines(),
        "```",
        "",
    ]
    for table in ("", *TABLES):
        heading = f"[[{table}]]" if table in LISTS else f"[{table}]"
        lines += [f"## `{heading}`" if table else "## The node", ""]
        columns = ["setting", "value", "default", "meaning", *(() if table in LISTS else ("variable, option",))]
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [_documented(setting) for setting in SETTINGS if setting.name.rpartition(".")[0] == table]
        lines += [""]
    return "\n".join(lines)


def default_of(setting: Setting) -> str:
    """The default, in words."""
    if setting.default is REQUIRED:
        return "must be given"
    if setting.default_text:
        return setting.default_text
    import json

    return f"`{json.dumps(setting.default)}`"


def _documented(setting: Setting) -> str:
    cells = [f"`{setting.name.rpartition('.')[2]}`", wanted(setting), default_of(setting), setting.help]
    if setting in PLAIN:
        cells.append(f"`{variable(setting)}`, `{option(setting)}`")
    return f"| {' | '.join(cells)} |"


EXAMPLE = """\
name = "web1"
folder = "/srv/www"
folder_id = "www-7f3a"
state = "/var/lib/onefold"
preferred = true

[[members]]
name = "web1"
address = "10.0.0.1:7400"

[[members]]
name = "web2"
address = "10.0.0.2:7400"

[[members]]
name = "web3"
address = "10.0.0.3:7400"
"""
