#!/usr/bin/env bash
# Run once on the Dokku host: creates an app `dispatcher`, linked to the database service of the application with the outbox.
#   ./setup.sh DATABASE-SERVICE TEMPORAL-HOST:PORT NOVU-KEY
# Afterwards, from a clone of this repository: git push dokku@HOST:dispatcher main
set -euo pipefail
database=$1 temporal=$2 novu_key=$3

dokku apps:create dispatcher
dokku postgres:link "$database" dispatcher # sets DATABASE_URL
# Containers of one Dokku host connect without TLS, but the URL of the link does not say so.
dokku config:set --no-restart dispatcher PGSSLMODE=disable \
  TEMPORAL_ADDRESS="$temporal" NOVU_SECRET_KEY="$novu_key" \
  DISPATCHER_HTTP_HOST=0.0.0.0 DISPATCHER_HTTP_TOKEN="$(openssl rand -hex 32)"
dokku app-json:set dispatcher appjson-path examples/dokku/app.json
# A stop takes up to 24 s. 30 is also Dokku's default; it is set here because it matters.
dokku ps:set dispatcher stop-timeout-seconds 30
# The old containers finish by themselves, so Dokku need not keep them for another minute.
dokku checks:set dispatcher wait-to-retire 5
