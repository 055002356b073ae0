# Holds a throw-away PostgreSQL server for as long as its standard input stays open, then removes all of it.
# Whatever ends the test process, a kill included, closes that pipe.
#
# cluster.sh BINARIES FOLDER SETTING…; prints "ready", or why the server did not start.
bin=$1
folder=$2
shift 2
# PIPE: the test process may be gone before it could be told that the server is ready.
trap '' HUP INT PIPE TERM

as_user=
if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root.
    user=postgres
    id -u "$user" >/dev/null 2>&1 || user=nobody
    chown -R "$user" "$folder"
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
fi

settings="-k $folder"
for setting in "$@"; do
    settings="$settings -c $setting"
done

cd "$folder" || exit 1
if $as_user "$bin/initdb" -A trust -U postgres -E UTF8 --locale=C --no-sync -D "$folder/data" >"$folder/log" 2>&1 &&
    $as_user "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/server.log" -o "$settings" start >>"$folder/log" 2>&1
then
    echo ready
    cat >/dev/null
    $as_user "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1
else
    cat "$folder/log" "$folder/server.log" 2>/dev/null
fi
cd / && rm -rf "$folder"
