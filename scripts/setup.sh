# Sourced by the scripts beside it: everything a fresh Debian or Ubuntu machine lacks. Quick, and without the network,
# when nothing is missing.
# shellcheck shell=bash

say() { printf 'onefold: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 3
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "installing packages needs root, and there is no sudo: run as root: $*"
    fi
}

# Install a package of the system. The package lists may be missing or old: then fetch them, and try again.
apt_install() {
    command -v apt-get >/dev/null || die "$1 is missing and there is no apt-get: install it by hand"
    say "installing the system's package $1"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1")
    as_root "${install[@]}" >&2 || { as_root apt-get update -q >&2 && as_root "${install[@]}" >&2; } ||
        die "cannot install the package $1: see above"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed: install it (apt-get install python3.11 python3.11-venv)"
}

make_venv() {
    if [ -x .venv/bin/python ] && new_enough .venv/bin/python; then
        return
    fi
    local python
    python=$(find_python)
    # Debian ships the standard library's venv without what it needs to put pip there.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    say "making the virtual environment .venv"
    rm -rf .venv
    "$python" -m venv .venv
}

sum_of() { sha256sum <"$1" | cut -d' ' -f1; }

# Install what the lock file $1 names, unless exactly that was installed before. Further files name parts of it.
install_locked() {
    local lock
    if [ "$(cat ".venv/$1.installed" 2>/dev/null)" = "$(sum_of "$1")" ]; then
        return
    fi
    say "installing the Python packages of $1"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r "$1" >&2 ||
        die "cannot install the Python packages of $1: see above"
    for lock in "$@"; do
        sum_of "$lock" >".venv/$lock.installed"
    done
}

# The project runs from where it lies: a path file and a command, so that nothing has to be built or fetched for it.
install_project() {
    local packages
    packages=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    pwd >"$packages/onefold.pth"
    cat >.venv/bin/onefold.new <<'COMMAND'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m onefold "$@"
COMMAND
    chmod 755 .venv/bin/onefold.new
    mv -f .venv/bin/onefold.new .venv/bin/onefold
}

# Programs that some tests use, each in the package of its name, or as program:package. Those tests skip where it is
# missing and cannot be had.
want() {
    local each program package
    for each in "$@"; do
        program=${each%%:*} package=${each#*:}
        if command -v "$program" >/dev/null; then
            continue
        fi
        if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
            say "without $program some tests are skipped: apt-get install $package"
            continue
        fi
        (apt_install "$package") || say "without $program some tests are skipped"
    done
}

# Debian's package also starts an etcd of its own, as a service on port 2379, now and at every boot. We only want the
# program: policy-rc.d is Debian's way to say "start nothing" while packages are installed, and then it is disabled.
install_etcd() {
    if command -v etcd >/dev/null; then
        return
    fi
    local package=etcd-server policy=/usr/sbin/policy-rc.d ours=
    apt-cache show "$package" >/dev/null 2>&1 || as_root apt-get update -q >&2
    apt-cache show "$package" >/dev/null 2>&1 || package=etcd
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    (apt_install "$package") || { [ -z "$ours" ] || as_root rm -f "$policy"; exit 3; }
    [ -z "$ours" ] || as_root rm -f "$policy"
    if command -v systemctl >/dev/null; then
        as_root systemctl disable -q etcd >&2 || say "could not disable the service etcd: it may start at the next boot"
    fi
}

# All that is needed to run what the lock file $1 locks. Further files name parts of it.
set_up() {
    make_venv
    install_locked "$@"
    install_project
    install_etcd
}
