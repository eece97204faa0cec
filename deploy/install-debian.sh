#!/bin/bash
# Installs steerclear as a service on Debian 12 or newer, or brings an installed one up to date.
set -euo pipefail

usage() {
    cat <<'TEXT'
deploy/install-debian.sh --model FOLDER --library FOLDER [options]

  --model FOLDER    a diffusers pipeline, or a single file; `embedded` for the one that comes with steerclear
  --library FOLDER  the protected pictures: a folder, an address, or `embedded`
  --device NAME     cpu (default) or cuda
  --port N          where the server listens on this machine, 8000 by default; a proxy with TLS goes before it
  --package WHAT    what pip installs: a wheel or a folder; by default the folder that this script lies in
  --extras A,B      of the package; serve,postgres,hash,provenance,formats by default
  --key NAME        also make a key with the scope generate, and print its secret once
  --root FOLDER     install below FOLDER, and leave the rest of this machine alone: no package of Debian is
                    installed and no service is started
  --no-apt          do not install packages of Debian

It makes the user steerclear, /opt/steerclear (a virtual environment), /etc/steerclear/environment (kept if
it is there), /var/lib/steerclear (keys and incidents) and the unit steerclear.service, which it starts.
TEXT
}

fail() {
    echo "error: $*" >&2
    exit 2
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
model="" library="" device=cpu port=8000 root="" key="" apt=yes
package="$(dirname "$here")" extras=serve,postgres,hash,provenance,formats
while (($#)); do
    case "$1" in
        --help) usage; exit 0 ;;
        --no-apt) apt=no; shift; continue ;;
        --model | --library | --device | --port | --package | --extras | --key | --root) ;;
        *) fail "there is no option $1; see --help" ;;
    esac
    (($# > 1)) || fail "$1 needs a value; see --help"
    declare "${1#--}=$2"
    shift 2
done

[[ $EUID -eq 0 ]] || fail "this makes a user and a service: run it as root"
[[ -n $model ]] || fail "name what is to be served: --model FOLDER, or --model embedded"
[[ -n $library ]] || fail "name what is protected: --library FOLDER, or --library embedded"
[[ $model == embedded || -e $model ]] || fail "there is no model at $model; nothing is downloaded"
[[ $library == embedded || $library == *://* || -d $library ]] || fail "there is no library at $library"
[[ $device =~ ^(cpu|cuda(:[0-9]+)?)$ ]] || fail "--device is $device; give cpu or cuda"
[[ $port =~ ^[1-9][0-9]{0,4}$ && $port -le 65535 ]] || fail "--port is $port; give 1 to 65535"
[[ "$model$library" != *[[:space:]]* ]] || fail "the unit splits its options at spaces: choose paths without any"
[[ -e $package ]] || fail "there is no package at $package"
root="${root%/}"

# relative paths would be looked for in the service's own folder
[[ $model == embedded ]] || model="$(realpath "$model")"
[[ $library == embedded || $library == *://* ]] || library="$(realpath "$library")"
[[ -z $root ]] || { mkdir -p "$root"; root="$(realpath "$root")"; }

if [[ -z $root && $apt == yes ]]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-venv
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed"

echo "user steerclear"
install -d -m 0755 "$root/etc"
install -D -m 0644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/steerclear.conf"
systemd-sysusers ${root:+--root="$root"} steerclear.conf
IFS=: read -r _ _ uid gid _ < <(grep '^steerclear:' "$root/etc/passwd")

echo "virtual environment $root/opt/steerclear"
[[ -x $root/opt/steerclear/bin/python ]] || python3 -m venv "$root/opt/steerclear"
pip=("$root/opt/steerclear/bin/python" -m pip --disable-pip-version-check install --quiet)
[[ ! -f $package/constraints.txt ]] || pip+=(--constraint "$package/constraints.txt")
if [[ $device == cpu && -f $package/constraints.txt && -z ${PIP_NO_INDEX:-} ]]; then
    # PyPI's torch for Linux brings some gigabytes of CUDA
    "${pip[@]}" --no-deps --index-url https://download.pytorch.org/whl/cpu torch
fi
"${pip[@]}" "${package}[$extras]"

echo "settings $root/etc/steerclear/environment"
install -d -m 0755 "$root/etc/steerclear"
if [[ ! -e $root/etc/steerclear/environment ]]; then
    cat >"$root/etc/steerclear/environment" <<TEXT
# Read by steerclear.service; \`systemctl restart steerclear\` after a change. All options: steerclear serve --help
STEERCLEAR_OPTIONS=--model $model --library $library --device $device --port $port
STEERCLEAR_DATABASE=/var/lib/steerclear/records.db
HF_HUB_OFFLINE=1
TEXT
    # an address of a database may hold a password
    chmod 0640 "$root/etc/steerclear/environment"
    chown "0:$gid" "$root/etc/steerclear/environment"
fi

install -d -m 0700 -o "$uid" -g "$gid" "$root/var/lib/steerclear"
install -D -m 0644 "$here/steerclear.service" "$root/etc/systemd/system/steerclear.service"
if [[ $device == cuda* ]]; then
    install -D -m 0644 "$here/steerclear-cuda.conf" "$root/etc/systemd/system/steerclear.service.d/cuda.conf"
fi

if [[ -n $key ]]; then
    database="$(sed -n 's/^STEERCLEAR_DATABASE=//p' "$root/etc/steerclear/environment")"
    [[ $database != /* ]] || database="$root$database"
    cd "$root/var/lib/steerclear"
    STEERCLEAR_DATABASE="$database" HOME="$root/var/lib/steerclear" \
        setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs \
        "$root/opt/steerclear/bin/steerclear" keys add "$key"
fi

if [[ -z $root ]]; then
    systemctl daemon-reload
    systemctl enable steerclear.service
    systemctl restart steerclear.service
    echo "started: systemctl status steerclear; curl http://127.0.0.1:$port/readyz"
else
    echo "installed below $root; nothing was started"
fi
