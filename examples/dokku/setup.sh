#!/usr/bin/env bash
# On the Dokku host, once: an app called `dispatcher` beside the database service of the application that owns the outbox.
#   ./setup.sh DATABASE-SERVICE TEMPORAL-HOST:PORT NOVU-KEY
# Afterwards, from a clone of this repository: git push dokku@HOST:dispatcher main
set -euo pipefail
database=$1 temporal=$2 novu_key=$3

dokku apps:create dispatcher
dokku postgres:link "$database" dispatcher # sets DATABASE_URL
# The containers of one Dokku host talk without TLS; the URL of the link does not say so.
dokku config:set --no-restart dispatcher PGSSLMODE=disable \
  TEMPORAL_ADDRESS="$temporal" NOVU_SECRET_KEY="$novu_key" \
  DISPATCHER_HTTP_HOST=0.0.0.0 DISPATCHER_HTTP_TOKEN="$(openssl rand -hex 32)"
dokku app-json:set dispatcher appjson-path examples/dokku/app.json
# 24 s is what we may need; Dokku's own default is 30, said here because it matters.
dokku ps:set dispatcher stop-timeout-seconds 30
# The old containers finish by themselves: no need to keep them another minute.
dokku checks:set dispatcher wait-to-retire 5
