#!/bin/sh
# install.sh PACKAGE...: Debian packages, from the mirror that /build/sources.list names; empty: from the base image's own.
set -eu

export DEBIAN_FRONTEND=noninteractive
if [ -s /build/sources.list ]; then
    rm -f /etc/apt/sources.list.d/*
    cp /build/sources.list /etc/apt/sources.list
fi
if [ -s /build/ca.pem ]; then
    echo 'Acquire::https::CAInfo "/build/ca.pem";' > /etc/apt/apt.conf.d/fedparty-build
fi
apt-get -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update --quiet
apt-get -o Acquire::Retries=3 install --quiet --yes --no-install-recommends "$@"
