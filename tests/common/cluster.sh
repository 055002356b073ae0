# Holds a throw-away PostgreSQL server for as long as its standard input stays open, then removes all of it.
# Whatever ends the test process, a kill included, closes that pipe.
#
# cluster.sh BINARIES FOLDER SETTING…; prints "ready", or why the server did not start. On a line "kill" it kills all of
# the server and prints "killed"; on "start" it starts it again and prints "ready". A folder FOLDER/wal takes the server's
# write-ahead log; a file FOLDER/primary names the folder of a server to follow. What is mounted on either is unmounted.
bin=$1
folder=$2
shift 2
# A link in PATH leads to the folder that has all of the server's programs.
real=$(dirname "$(readlink -f "$bin/initdb")")
if [ -x "$real/postgres" ]; then bin=$real; fi
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

start() {
    $as_user "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/server.log" -o "$settings" start >>"$folder/log" 2>&1
}

make() {
    if [ -e "$folder/primary" ]; then
        read -r primary <"$folder/primary"
        $as_user "$bin/pg_basebackup" -h "$primary" -U postgres -D "$folder/data" -R -c fast
    else
        waldir=
        if [ -d "$folder/wal" ]; then waldir=--waldir=$folder/wal; fi
        # shellcheck disable=SC2086 # none, or one
        $as_user "$bin/initdb" -A trust -U postgres -E UTF8 --locale=C --no-sync $waldir -D "$folder/data"
    fi
}

cd "$folder" || exit 1
if make >"$folder/log" 2>&1 && start; then
    echo ready
    while read -r command; do
        case $command in
        kill)
            if ! read -r postmaster <"$folder/data/postmaster.pid"; then
                # It has ended by itself.
                echo killed
                continue
            fi
            # It stands still, so that it starts no other process while its own are listed.
            kill -STOP "$postmaster"
            of_server=$(grep -ls "^PPid:[[:space:]]*$postmaster\$" /proc/[0-9]*/status | cut -d / -f 3)
            # shellcheck disable=SC2086 # a word each; one may have ended meanwhile
            kill -KILL "$postmaster" $of_server 2>/dev/null
            for process in $postmaster $of_server; do
                while grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$process/status"; do sleep 0.01; done
            done
            # Where nobody asks for the end of an orphan, its number stays taken, and the server would think it runs.
            rm -f "$folder/data/postmaster.pid" "$folder"/.s.PGSQL.*.lock
            echo killed
            ;;
        start)
            if start; then echo ready; else cat "$folder/log" "$folder/server.log"; fi
            ;;
        esac
    done
    $as_user "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1
else
    cat "$folder/log" "$folder/server.log" 2>/dev/null
fi
cd / || exit 1
for place in "$folder/data" "$folder/wal"; do umount "$place" 2>/dev/null; done
rm -rf "$folder"
