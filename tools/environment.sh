# Sourced by ./tools/quickstart and ./tools/test: finds or makes the Python environment they run in.
#
#   choose_environment LEVEL      LEVEL is "runtime" or "test"
#
# sets `python` to the interpreter to use. That is the active environment where dr_keras is already
# installed with all that LEVEL needs; otherwise .venv in the checkout, which is made once and
# brought up to date when setup.cfg changes. Needs `root`, the checkout. POSIX sh only.
#
#   own_environment NAME SIZE EXTRA REQUIREMENT
#
# before it makes that .venv-NAME, never the active environment, with one more extra of setup.cfg
# or one more requirement of pip's; the other is ''. SIZE is its size on disk, in megabytes.

venv=$root/.venv
install_log=$root/.venv-install.log
installed_megabytes=2500
further_extra=''
requirement=''
supported='3.11, 3.12 or 3.13'

say() { printf '%s\n' "$*" >&2; }

own_environment() {
    venv=$root/.venv-$1
    install_log=$venv-install.log
    installed_megabytes=$2
    further_extra=$3
    requirement=$4
}

fail() {
    say "error: $1"
    shift
    for line in "$@"; do say "       $line"; done
    exit 2
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Whether interpreter $1 has dr_keras installed, with all that level $2 needs. Looks from outside
# the checkout, because from inside it the source folder would pass for an installed package.
has_installed() {
    [ -n "$1" ] && is_supported "$1" || return 1
    (cd / && env -u PYTHONPATH "$1" - "$2" "$root") 2>/dev/null <<'PYTHON'
import importlib.util, os, sys
level, root = sys.argv[1:]
names = ["dr_keras", "tensorflow", "tensorflow_text", "keras_hub", "gin", "pyarrow"]
names += ["sklearn", "scipy", "jinja2", "matplotlib"]  # the extra that the quick start needs
names += ["pytest", "hypothesis", "ruff", "mypy"] if level == "test" else []
specs = [importlib.util.find_spec(name) for name in names]
if not all(specs):
    sys.exit(1)
# The tests are those of this checkout, so they take no other dr_keras.
inside = os.path.samefile(os.path.join(specs[0].submodule_search_locations[0], ".."), root)
sys.exit(level == "test" and not inside)
PYTHON
}

# Sets base_python to an interpreter that can make an environment, or explains what is missing.
find_base_python() {
    seen='' no_venv='' no_venv_minor=''
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python python3.13 python3.12 python3.11
    fi
    for candidate; do
        version=$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
            continue
        if ! is_supported "$candidate"; then
            seen="$seen${seen:+, }$candidate is $version"
        elif ! "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            no_venv="$no_venv${no_venv:+, }$candidate ($version)"
            no_venv_minor=${no_venv_minor:-${version%.*}}
        else
            base_python=$candidate
            say "Python $version ($(command -v "$candidate"))"
            return
        fi
    done
    if [ -n "$no_venv" ]; then
        fail "$no_venv cannot make an environment: its venv or ensurepip module is missing." \
            "On Debian or Ubuntu:  sudo apt install python$no_venv_minor-venv" \
            "On Fedora:            sudo dnf install python3-pip" \
            "Elsewhere install Python $supported from python.org, then run this again."
    elif [ -n "$seen" ]; then
        fail "dr_keras needs Python $supported, and found none: $seen." \
            "Install one of these, or name one:  PYTHON=/path/to/python3.12 $0"
    else
        fail "found no Python that runs${PYTHON:+ (PYTHON is set to $PYTHON)}." \
            "Install Python $supported, or name one:  PYTHON=/path/to/python3.12 $0"
    fi
}

# What .venv must have been made from, and where.
environment_stamp() {
    {
        echo "$root $further_extra $requirement"
        cat "$root/setup.cfg" "$root/pyproject.toml"
    } | cksum
}

is_current() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip, gin, numpy' 2>/dev/null || return 1
    [ "$(cat "$venv/.dr_keras-$1" 2>/dev/null)" = "$(environment_stamp)" ]
}

# Runs pip in the background, with a line now and then about what it does.
run_pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install "$@" \
        >>"$install_log" 2>&1 </dev/null &
    pip_process=$!
    # The shell starts background commands deaf to Ctrl-C, so it is passed on.
    trap 'kill $pip_process 2>/dev/null; wait $pip_process 2>/dev/null; say ""; say interrupted; exit 130' INT TERM HUP
    seconds=0
    while kill -0 $pip_process 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $((seconds % 10)) -eq 0 ]; then
            latest=$(grep -oE '^ *(Collecting|Downloading|Installing|Building|Preparing) .*' \
                "$install_log" | tail -n 1 | cut -c1-60)
            say "  ${seconds} s  $latest"
        fi
    done
    wait $pip_process
    pip_status=$?
    trap - INT TERM HUP
    return $pip_status
}

install_project() {
    case $1 in
    test) extras="[test${further_extra:+,$further_extra}]" ;;
    *) extras='[study]' ;;
    esac
    : >"$install_log"
    rm -f "$venv"/.dr_keras-runtime "$venv"/.dr_keras-test
    run_pip ${requirement:+"$requirement"} --editable "$root$extras" || return 1
    "$venv/bin/python" -m pip check >>"$install_log" 2>&1 || return 1
    environment_stamp >"$venv/.dr_keras-runtime"
    [ "$1" = runtime ] || environment_stamp >"$venv/.dr_keras-test"
}

make_environment() {
    find_base_python
    needed_megabytes=$((installed_megabytes + 1000))  # while pip unpacks
    free=$(df -Pk "$root" | awk 'NR == 2 {print int($4 / 1024)}')
    if [ "${free:-$needed_megabytes}" -lt "$needed_megabytes" ]; then
        fail "the environment needs $needed_megabytes MB of disk and $root has $free MB free." \
            "Free some, or move the checkout."
    fi
    gigabytes=$((installed_megabytes / 1000)).$((installed_megabytes % 1000 / 100))
    say "making $venv (once; about $gigabytes GB, a minute or more) ..."
    rm -rf "$venv"
    # Marked first, so that an environment left half made is known for what it is.
    mkdir "$venv" && echo "$root" >"$venv/.dr_keras-made-here" || exit 1
    "$base_python" -m venv "$venv" >"$install_log" 2>&1 || {
        tail -n 5 "$install_log" >&2
        fail "$base_python -m venv failed; see above." \
            "If it speaks of ensurepip: on Debian or Ubuntu, sudo apt install python3-venv"
    }
}

choose_environment() {
    level=$1
    for candidate in "${PYTHON:-}" python python3; do
        [ "$venv" = "$root/.venv" ] || break
        if has_installed "$candidate" "$level"; then
            python=$(command -v "$candidate")
            say "using the active environment: $python"
            return
        fi
    done
    python=$venv/bin/python
    # The tests' environment holds all that running needs.
    if is_current "$level" || { [ "$level" = runtime ] && is_current test; }; then
        return
    fi
    if [ -e "$venv" ] && [ ! -e "$venv/.dr_keras-made-here" ]; then
        fail "$venv exists and was not made by this command, so it is left alone." \
            "Activate it and run:  pip install --editable '$root[test]'" \
            "or remove it, and this command makes its own."
    fi
    # What pip wrote into the environment's scripts holds only as long as the checkout stays put.
    if [ "$(cat "$venv/.dr_keras-made-here" 2>/dev/null)" = "$root" ] &&
        [ -e "$venv/.dr_keras-runtime" ] && "$python" -c 'import pip' 2>/dev/null &&
        is_supported "$python"; then
        say "bringing $venv up to date ..."
        install_project "$level" && return
        say "that failed; making it anew"
    fi
    make_environment
    install_project "$level" || {
        tail -n 15 "$install_log" >&2
        fail "pip could not install what dr_keras needs; its last lines are above." \
            "All of them: $install_log" \
            "Often it is the network, a full disk, or a system TensorFlow has no wheel for."
    }
    say "installed in $venv"
}
