# shellcheck shell=bash
# For `run` to source: SoftHSM 2, its tokens in a folder that goes away, and a module in front of it that fails on demand.
#
# Sets SOFTHSM2_CONF for SoftHSM, and for the tests CREDVAULT_PKCS11_MODULE and CREDVAULT_PKCS11_FAULTS, two libraries.

softhsm2_module() {
    local path
    for path in /usr/lib/softhsm /usr/lib/*/softhsm /usr/lib64/softhsm /usr/lib64/pkcs11 /usr/local/lib/softhsm \
        /opt/homebrew/lib/softhsm; do
        if [ -f "$path/libsofthsm2.so" ]; then
            echo "$path/libsofthsm2.so"
            return
        fi
    done
    return 1
}

command -v cc >/dev/null || install "a C compiler" build-essential
command -v pkcs11-tool >/dev/null || install "OpenSC's pkcs11-tool, which the manual uses" opensc
softhsm2_module >/dev/null || install "SoftHSM 2" softhsm2
CREDVAULT_PKCS11_MODULE=$(softhsm2_module) || fail "SoftHSM 2 is installed, but libsofthsm2.so is in no known folder"

softhsm2_folder=$(mktemp -d "${TMPDIR:-/tmp}/credvault-softhsm2-XXXXXX")
at_exit rm -rf "$softhsm2_folder"
mkdir "$softhsm2_folder/tokens"
cat >"$softhsm2_folder/softhsm2.conf" <<CONF
directories.tokendir = $softhsm2_folder/tokens
objectstore.backend = file
log.level = ERROR
CONF
SOFTHSM2_CONF=$softhsm2_folder/softhsm2.conf

CREDVAULT_PKCS11_FAULTS=$softhsm2_folder/pkcs11_faults.so
cc -shared -fPIC -O1 -Wall -Wextra -Werror -DREAL="\"$CREDVAULT_PKCS11_MODULE\"" -o "$CREDVAULT_PKCS11_FAULTS" \
    tests/providers/counterparts/pkcs11_faults.c -ldl -lpthread || fail "the module that fails on demand was not built"

export SOFTHSM2_CONF CREDVAULT_PKCS11_MODULE CREDVAULT_PKCS11_FAULTS
say "$CREDVAULT_PKCS11_MODULE"
