# shellcheck shell=bash
# Sourced by scripts/test and scripts/test-drivers: finds cargo, and installs missing packages on Debian and Ubuntu.

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Nothing here may wait for input: in CI nobody gives any.
exec </dev/null
export DEBIAN_FRONTEND=noninteractive
# While adapters are listed, libwayland complains on stderr when this is not set. The tests list adapters themselves.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# In case the shell has not read the login profile since Rust was installed.
command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
command -v cargo >/dev/null || fail "cargo not found; install Rust from https://rustup.rs first"

has_apt() { [ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; }

# Runs a command as root: directly, or through sudo, which may ask for a password on the terminal.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail "this needs root, and there is no sudo: run '$*' as root, then start this script again"
    fi
}

# Updates the package lists once: a fresh container has none, and an old machine may have outdated ones.
apt_lists() {
    [ -n "${apt_lists_are_fresh:-}" ] && return
    as_root apt-get update -q || fail "apt-get update failed; is there a network?"
    apt_lists_are_fresh=yes
}

apt_install() {
    apt_lists
    as_root apt-get install -q -y --no-install-recommends "$@" ||
        fail "apt-get could not install $*; install them by hand, then start this script again"
}

# Installs Chromium on Debian if there is no browser; Ubuntu's package needs snap, which containers lack. The tests of reports
# are skipped without one.
ensure_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if "$name" --version >/dev/null 2>&1; then
            export GATEFOLD_BROWSER=require
            return
        fi
    done
    if has_apt && grep -q '^ID=debian' /etc/os-release; then
        say "No browser found: installing Chromium, in which the tests open reports"
        apt_install chromium
        export GATEFOLD_BROWSER=require
    else
        say "No Chromium found: reports are not opened in a browser"
    fi
}

# Prints the drivers' manifests, one per line, from the places where the Vulkan loader looks.
vulkan_manifests() {
    local chosen="${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" directories directory manifest
    if [ -n "$chosen" ]; then
        tr ':' '\n' <<<"$chosen"
        return
    fi
    IFS=: read -r -a directories <<<"${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
    directories+=(/etc /usr/local/etc "${XDG_CONFIG_HOME:-$HOME/.config}" "${XDG_DATA_HOME:-$HOME/.local/share}")
    for directory in "${directories[@]}"; do
        for manifest in "$directory"/vulkan/icd.d/*.json; do
            if [ -e "$manifest" ]; then echo "$manifest"; fi
        done
    done
}

has_vulkan_loader() {
    local libraries directories directory
    libraries=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null) || libraries=
    [[ $libraries == *"libvulkan.so.1 "* ]] && return
    IFS=: read -r -a directories <<<"${LD_LIBRARY_PATH:-}"
    for directory in "${directories[@]}"; do
        [ -e "$directory/libvulkan.so.1" ] && return
    done
    return 1
}

# A driver whose device is missing gives no adapter. A software driver needs no device; any other driver needs a device
# node: a GPU's, NVIDIA's, or that of the Windows Subsystem for Linux.
has_vulkan_adapter() {
    local manifests node
    has_vulkan_loader || return 1
    manifests=$(vulkan_manifests)
    [ -n "$manifests" ] || return 1
    case $manifests in *lvp* | *swiftshader*) return 0 ;; esac
    for node in /dev/dri/renderD* /dev/nvidia[0-9]* /dev/dxg; do
        [ -e "$node" ] && return
    done
    return 1
}

ensure_vulkan_adapter() {
    [ "$(uname -s)" = Linux ] || return 0 # elsewhere the system comes with Metal or DX12
    has_vulkan_adapter && return
    has_apt || fail "found no Vulkan adapter, and no apt to install Mesa's software driver with; install a Vulkan driver and loader"
    say "Found no Vulkan adapter: installing Mesa's software driver (mesa-vulkan-drivers, libvulkan1)"
    apt_install mesa-vulkan-drivers libvulkan1
    has_vulkan_adapter || fail "still no Vulkan adapter after installing mesa-vulkan-drivers and libvulkan1"
}
