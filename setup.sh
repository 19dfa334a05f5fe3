#!/bin/sh
# Makes the virtual environment, and sees to the two things pip cannot bring: a C compiler for evdev (which robosuite
# pulls in), and a headless OpenGL. Installs the Debian packages where it may, and names them where it may not.
set -eu
python=$1
venv=$2

install_or_name() { # reason, packages...
    reason=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing $* ($reason)"
        apt-get install -y -q "$@" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q "$@" >/dev/null; }
    else
        echo "$reason: please install these packages (Debian names): $*" >&2
        exit 1
    fi
}

if [ "$(uname -s)" = Linux ]; then
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' ||
        { echo "wambench needs Python 3.11 or 3.12; $python is $("$python" --version)" >&2; exit 1; }
    command -v cc >/dev/null 2>&1 && [ -e /usr/include/linux/input.h ] ||
        install_or_name "evdev, which robosuite needs, is compiled" gcc linux-libc-dev
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$include/Python.h" ] || install_or_name "evdev needs the Python headers" python3-dev
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" ||
    { install_or_name "python3 has no venv module" python3-venv && "$python" -m venv "$venv"; }
"$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[dev]'

# Rendering without a screen: try what is there before asking for more.
frame='import wambench.envs.rendering as r; r.gl_backend()'
if [ "$(uname -s)" = Linux ] && ! "$venv/bin/python" -c "$frame" >/dev/null 2>&1; then
    install_or_name "rendering needs a headless OpenGL" libegl1 libgl1-mesa-dri
    "$venv/bin/python" -c "$frame" >/dev/null || { echo "no headless OpenGL works: try libosmesa6" >&2; exit 1; }
fi
echo "wambench is installed in $venv"
