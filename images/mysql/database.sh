# How the database is reached as user fedparty. Its password is on no command line and in no environment: a client reads it
# from a file descriptor.

password_file=$FEDPARTY_HOME/bundle/secrets/mysql-password

password() {
    local text
    [ -r "$password_file" ] || { echo "$password_file cannot be read" >&2; return 1; }
    read -r text < "$password_file" || [ -n "$text" ] || { echo "$password_file is empty" >&2; return 1; }
    text=${text//\\/\\\\}
    printf '%s' "$text"
}

access() {  # What a client's --defaults-extra-file holds.
    local text
    text=$(password) || return 1
    printf '[client]\nuser=fedparty\npassword="%s"\n' "${text//\"/\\\"}"
}

as_fedparty() {  # PROGRAM ARGUMENT...
    local program=$1
    shift
    "$program" --defaults-file=<(cat /usr/local/lib/fedparty/my.cnf; access) "$@"
}
