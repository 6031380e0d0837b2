#!/bin/sh
# added.sh FOLDER COMMAND...: runs the command and copies every file that it wrote to FOLDER, under its path. What a final
# image takes from a build stage is then what was installed, and nothing that was needed for that.
set -eu

folder=$1
shift
mkdir -p "$folder" /build
touch /build/began
"$@"
find / -xdev \( -path "$folder" -o -path /build -o -path /tmp -o -path /var/cache -o -path /var/log -o -path /var/lib/apt \
    -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /root -o -path /etc/apt \) -prune \
    -o -cnewer /build/began ! -path / -print0 \
    | tar --create --null --no-recursion --files-from - | tar --extract --directory "$folder"
