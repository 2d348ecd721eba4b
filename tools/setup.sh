# Sourced by tools/demo and tools/check: installing what is missing, and building.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGES_BUILD=(gcc libc6-dev cmake ninja-build pkg-config libjpeg62-turbo-dev liburing-dev libjansson-dev libopenblas0-serial
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev)
PACKAGES_TEST=(g++ libcmocka-dev spin python3-pytest python3-numpy python3-pil ffmpeg binutils)
PACKAGES_ALL=(clang python3-venv)
PACKAGES_ARM64_TOOLS=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
PACKAGES_ARM64=(libc6:arm64 libjpeg62-turbo-dev:arm64 liburing-dev:arm64 libjansson-dev:arm64 libcmocka-dev:arm64
  libopenblas0-serial:arm64)

say() { printf '\n== %s\n' "$*"; }

# Run as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "$0: needs root to install packages, and there is no sudo; as root run: $*" >&2
        exit 1
    fi
}

# Install the packages of the list that are missing; says which. Nothing to do: returns at once.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "$0: installs packages on Debian and its kin only; elsewhere install what these hold, then run" \
            "'cmake --preset release && cmake --build --preset release': $*" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build PRESET [TARGET...]: configure once, compile what changed; the compiler's words only when it fails.
build() {
    local preset=$1 log=build/$1.log
    shift
    say "building $preset"
    mkdir -p build
    { cmake --preset "$preset" && cmake --build --preset "$preset" ${1:+--target "$@"}; } >"$log" 2>&1 || {
        tail -n 60 "$log" >&2
        echo "$0: build of '$preset' failed, all of it in $log" >&2
        exit 1
    }
}

# python_environment DIR PACKAGE...: a virtual environment with these, made once; pip's words only when it fails.
python_environment() {
    local venv=$1 log=build/pip.log
    shift
    say "Python packages in $venv: $*"
    [ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install -q "${@/#/-e}" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "$0: pip failed, all of it in $log" >&2
        exit 1
    }
}
